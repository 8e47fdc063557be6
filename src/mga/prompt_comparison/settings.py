"""Settings of a prompt comparison, saved beside its results, and the settings of each variant's run."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mga.config import ExpandConfig, load_config
from mga.data.output_folder import PROMPT_COMPARISON, OutputFolder, open_output
from mga.data.store import read_json
from mga.engine_uri import public_uri
from mga.errors import InputError
from mga.prompts.library import Prompt, reformulation_prompt

RECORD = "prompt-comparison.json"
ORIGINALS = "originals"
"""What the documents themselves are called on the map."""


@dataclass(frozen=True, slots=True)
class PromptComparisonSettings:
    """The comparison's own settings; `config` and `flags`, a file and what wins over it, are settings of `mga expand`.

    `sample` counts documents, `document_tokens` (estimated) is the longest beginning of a document that is taken,
    `judged` counts documents and texts on which the judge is tested, `repeats` the further judgements of a text.
    """

    variants: tuple[str, ...]
    embedder: str
    sample: int
    document_tokens: int
    pairs: int
    judged: int
    repeats: int
    seed: int

    def __post_init__(self) -> None:
        names = [self.name(variant) for variant in self.variants]
        if not names:
            raise InputError("Name the variants to compare: --variants strict,base,relaxed.")
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise InputError(f"--variants names {twice[0]} twice; every variant needs a name of its own.")
        if ORIGINALS in names:
            raise InputError(f"A variant cannot be called {ORIGINALS}; give the prompt file another name.")

    def name(self, variant: str) -> str:
        """What a variant is called in folders and tables: a prompt file by its stem."""
        return self.prompt(variant).name.partition("_")[2]

    def prompt(self, variant: str) -> Prompt:
        return reformulation_prompt(variant)

    @property
    def by_name(self) -> dict[str, str]:
        return {self.name(variant): variant for variant in self.variants}

    def rules(self, variant: str, config: Path | None, flags: Mapping[str, Any]) -> ExpandConfig:
        """Settings of `mga expand` with this variant, as its user would have them."""
        own: dict[str, Any] = {"variant": variant, "seed": self.seed}
        own["pairs"] = self.pairs if self.prompt(variant).takes_pair else 1
        return load_config(config, {**flags, **own})

    def run(
        self, variant: str, config: Path | None, flags: Mapping[str, Any], sample: Path, pairs: Path | None
    ) -> ExpandConfig:
        """Settings of the variant's run in the prompt comparison: the sample alone, pairs if given.

        Every text is judged and measured, whatever the rules that compare it with its original say: what they would
        drop is counted later.
        """
        values = self.rules(variant, config, flags).model_dump()
        values |= {"input": (str(sample),), "text_key": "text", "id_key": "id", "limit": None, "judge": "all"}
        values["cleaning"] |= {"min_coverage": 0.0, "max_copied": 1.0}
        values["judging"]["expected_score"] = True
        values["pairing"]["given"] = str(pairs) if pairs else None
        return ExpandConfig.model_validate(values)


def record_of(folder: Path) -> dict[str, Any]:
    """What prompt-comparison.json says. Raises InputError when the folder holds no prompt comparison."""
    path = folder / RECORD
    if not path.is_file():
        raise InputError(f"{folder} holds no prompt comparison (there is no {RECORD} in it).")
    record: dict[str, Any] = read_json(path)
    if not {"settings", "rules", "input"} <= record.keys():
        raise InputError(f"{path} is not of mga compare-prompts.")
    return record


def folder_of(
    path: Path, settings: PromptComparisonSettings, rules: Mapping[str, ExpandConfig], given: str
) -> AbstractContextManager[OutputFolder]:
    """Take the folder of a prompt comparison with these settings and input (`given` is its fingerprint), new or begun.

    Raises InputError when the folder holds another prompt comparison or something else, or is in use.
    """
    identity: dict[str, Any] = {
        "settings": asdict(settings) | {"variants": list(settings.by_name), "embedder": public_uri(settings.embedder)},
        "prompts": {name: settings.prompt(variant).fingerprint for name, variant in settings.by_name.items()},
        "input": given,
        "rules": {name: config.deciding() for name, config in rules.items()},
    }
    return open_output(path, PROMPT_COMPARISON, identity)
