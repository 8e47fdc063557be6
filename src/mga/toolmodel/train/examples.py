"""Judged outcomes of runs → training examples of both stages. Read `collect` first: it is the table of contents.

examples.json    settings, prompts, counts: what became of every outcome
STAGE/train.parquet, STAGE/held_out.parquet    stage pairs: a row a document; stage reformulate: a row a text
prompts/         the prompts word for word, which travel with the model

Columns: `messages` (user: exactly what an engine is sent; assistant: the reply), `source_id`, `raw_text`, `genre` and
`audience` (of reformulations), `score`, `prompt_tokens`, `reply_tokens`, `run`.

A document whose pairs led to acceptable texts has good pairs: an example of stage 1 needs all its pairs, and at least
`accepted_pairs` of their texts acceptable.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from mga.config import ExpandConfig
from mga.curation.duplicates.minhash import FIVE_WORDS, band_hashes, banding_for, shingle_sets, shingles_of
from mga.data.outcomes import read_rows, write_rows
from mga.data.output_folder import EXAMPLES, open_output
from mga.data.published import check_published
from mga.data.store import Place, exists, read_json, write_atomically
from mga.errors import InputError
from mga.expand.pairs import pairs_reply, pairs_request
from mga.expand.recipe import Recipe
from mga.expand.reformulate import rewrite_prompt
from mga.packing.held_out import id_hash
from mga.packing.tokenizer import Tokenizer
from mga.records import Document, Pair, content_id
from mga.toolmodel.train.data_folder import STAGES, Split, Stage

SCHEMA = pa.schema(
    [
        ("messages", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
        ("source_id", pa.string()),
        ("raw_text", pa.string()),
        ("genre", pa.string()),
        ("audience", pa.string()),
        ("score", pa.int8()),
        ("prompt_tokens", pa.int32()),
        ("reply_tokens", pa.int32()),
        ("run", pa.string()),
    ]
)
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ExampleSettings:
    """What makes a good example (defaults: the paper's, section 2 and appendix).

    `min_score` of the judge; `unjudged` takes texts that no judge has read; tokens are of the base model's tokenizer;
    `pairs` and `reformulations` are the most examples of each stage, drawn evenly over runs and kinds of genre;
    `held_out` is a share of the source documents; texts more alike than `threshold` (Jaccard of five words) count once.
    """

    min_score: int = 3
    unjudged: bool = False
    prompt_tokens: int = 4096
    reply_tokens: int = 4096
    pairs: int = 15_000
    reformulations: int = 35_000
    accepted_pairs: float = 0.8
    held_out: float = 0.05
    threshold: float = 0.8
    seed: int = 0


@dataclass(frozen=True, slots=True)
class _Source:
    """A run, with the recipe that rebuilds its prompts."""

    folder: Place
    name: str
    recipe: Recipe


def collect(
    runs: Sequence[Place], tokenizer: Tokenizer, out: Path, settings: ExampleSettings, say: Callable[[str], None]
) -> dict[str, Any]:
    """Write examples of finished or unfinished runs into the folder `out`; what examples.json holds.

    Raises InputError when a folder is no run, runs have different prompts, the prompts of a run are not those of this
    version, or no example is left; and when `out` holds other examples.
    """
    sources = [_source(run) for run in runs]
    _same_prompts(sources)
    identity = {
        "settings": asdict(settings),
        "runs": [source.name for source in sources],
        "tokenizer": {"name": Path(tokenizer.name).name, "vocabulary": vocabulary_of(tokenizer.definition)},
        "prompts": _prompts(sources[0]),
    }
    with open_output(out, EXAMPLES, identity, {"mga": version("mga")}) as folder:
        if folder.is_complete:
            return folder.record
        rows = [row for source in sources for row in _rows(source)]
        found = {stage: _stage(stage, rows, sources, tokenizer, settings) for stage in STAGES}
        counts = {stage: _write(out, stage, examples, fates, settings) for stage, (examples, fates) in found.items()}
        if not any(counts[stage]["train"] for stage in STAGES):
            raise InputError(
                f"No example is left of {len(rows):,} outcomes: {_told(counts)}. Texts must be judged "
                "(mga expand --judge all), or --unjudged given."
            )
        for source in sources[:1]:
            for name, text in _prompt_files(source).items():
                (out / "prompts").mkdir(exist_ok=True)
                write_atomically(out / "prompts" / name, text.encode())
        say(_told(counts))
        return folder.finish({"outcomes": len(rows), "counts": counts})


def vocabulary_of(definition: str) -> str:
    """Names a tokenizer by its tokens and their ids alone: the same one may lie in files that differ otherwise."""
    model = orjson.loads(definition)["model"]
    return content_id(model["type"], orjson.dumps(model["vocab"], option=orjson.OPT_SORT_KEYS).decode())


def _source(folder: Place) -> _Source:
    if not exists(folder / "run.json"):
        raise InputError(f"{folder} is not the folder of a run of mga expand.")
    check_published(folder)
    record = read_json(folder / "run.json")
    config = ExpandConfig.model_validate(record["config"])
    recipe = Recipe(config, lambda text: None)  # type: ignore[arg-type, return-value]
    wrote, now = record["identity"]["prompts"]["reformulate"], recipe.prompts["reformulate"]
    if wrote != now:
        raise InputError(
            f"{folder} was written with the prompt {wrote}, and this version's is {now}: its examples would teach to "
            "answer what nobody asks. Expand anew, or use the version of mga that wrote it."
        )
    return _Source(folder, str(record["run"]), recipe)


def _same_prompts(sources: Sequence[_Source]) -> None:
    first = _prompts(sources[0])
    for other in sources[1:]:
        if _prompts(other) != first:
            raise InputError(
                f"{sources[0].folder} and {other.folder} were written with different prompts, and a model learns one: "
                "make examples of each."
            )


def _prompts(source: _Source) -> dict[str, str]:
    """The prompts that the examples hold, by stage: name and fingerprint."""
    recipe = source.recipe
    asked = recipe.pairs_prompt
    return {"pairs": f"{asked.name}@{asked.fingerprint}", "reformulate": recipe.prompts["reformulate"]}


def _prompt_files(source: _Source) -> dict[str, str]:
    prompts = (source.recipe.pairs_prompt, source.recipe.rewrite_prompt)
    return {f"{prompt.name}.md": prompt.template for prompt in prompts}


def _rows(source: _Source) -> Iterator[Row]:
    for status in ("kept", "dropped", "failed"):
        folder = source.folder / status
        for row in read_rows(folder) if exists(folder) else ():
            yield {**row, "status": status, "run": source.name}


def _stage(
    stage: Stage, rows: Sequence[Row], sources: Sequence[_Source], tokenizer: Tokenizer, settings: ExampleSettings
) -> tuple[list[Row], Counter[str]]:
    """The examples of a stage, and what became of each outcome (of stage pairs: of each document)."""
    fates: Counter[str] = Counter()
    recipes = {source.name: source.recipe for source in sources}
    make = _of_pairs if stage == "pairs" else _of_texts
    examples = [*make(rows, recipes, settings, fates)]
    examples = [*_short_enough(examples, tokenizer, settings, fates)]
    examples = _distinct(examples, stage, settings, fates)
    most = settings.pairs if stage == "pairs" else settings.reformulations
    return _balanced(examples, most, settings.seed, fates), fates


def _verdict(row: Row, settings: ExampleSettings) -> str:
    """Why an outcome is no example; "" when it is one."""
    if row["status"] != "kept":
        return str(row["reason"])
    if row["score"] is None:
        return "" if settings.unjudged else "unjudged"
    return "" if row["score"] >= settings.min_score else "low_score"


def _of_texts(
    rows: Sequence[Row], recipes: dict[str, Recipe], settings: ExampleSettings, fates: Counter[str]
) -> Iterator[Row]:
    for row in rows:
        if why := _verdict(row, settings):
            fates[why] += 1
            continue
        prompt = rewrite_prompt(row["raw_text"], Pair(row["genre"], row["audience"]), recipes[row["run"]])
        yield _example(row, prompt, row["text"], row["genre"], row["audience"], row["score"])


def _of_pairs(
    rows: Sequence[Row], recipes: dict[str, Recipe], settings: ExampleSettings, fates: Counter[str]
) -> Iterator[Row]:
    documents: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        documents.setdefault((row["run"], row["chunk_id"], row["raw_text"]), []).append(row)
    for (run, _, text), mine in documents.items():
        recipe = recipes[run]
        wanted = recipe.config.pairs
        pairs = [Pair(row["genre"], row["audience"]) for row in mine if row["genre"] and row["audience"]]
        good = sum(not _verdict(row, settings) for row in mine)
        if not recipe.rewrite_prompt.takes_pair:
            fates["a style has no pairs"] += 1
        elif len(pairs) < wanted:
            fates["not all pairs"] += 1
        elif good < settings.accepted_pairs * wanted:
            fates["texts not acceptable"] += 1
        else:
            request = pairs_request(Document(mine[0]["source_id"], text, "0:0"), _plain(recipe), wanted)
            reply = orjson.dumps(pairs_reply(pairs[:wanted])).decode()
            scores = [row["score"] for row in mine if row["score"] is not None]
            yield _example(mine[0], request.prompt, reply, None, None, min(scores, default=None))


def _plain(recipe: Recipe) -> Recipe:
    """The recipe that asks for all pairs at once, without directions: what a tool model is asked."""
    pairing = recipe.config.pairing.model_copy(update={"recipe": "together", "seeds": False, "given": None})
    return Recipe(recipe.config.model_copy(update={"pairing": pairing}), recipe.count_tokens)


def _example(row: Row, prompt: str, reply: str, genre: str | None, audience: str | None, score: int | None) -> Row:
    messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": reply}]
    labels = {"genre": genre, "audience": audience, "score": score}
    return {"messages": messages, **{k: row[k] for k in ("source_id", "raw_text", "run")}, **labels}


def _short_enough(
    examples: Sequence[Row], tokenizer: Tokenizer, settings: ExampleSettings, fates: Counter[str]
) -> Iterator[Row]:
    for first in range(0, len(examples), 1000):
        some = examples[first : first + 1000]
        lengths = tokenizer.lengths([message["content"] for row in some for message in row["messages"]])
        for row, (prompt, reply) in zip(some, lengths.reshape(-1, 2).tolist(), strict=True):
            if prompt > settings.prompt_tokens:
                fates["prompt too long"] += 1
            elif reply > settings.reply_tokens:
                fates["reply too long"] += 1
            else:
                yield {**row, "prompt_tokens": prompt, "reply_tokens": reply}


def _distinct(examples: list[Row], stage: Stage, settings: ExampleSettings, fates: Counter[str]) -> list[Row]:
    """Of examples that are nearly the same, the best: texts by themselves, pairs by their document."""
    best = sorted(examples, key=lambda row: -(row["score"] or 0))
    compared = [row["raw_text"] if stage == "pairs" else row["messages"][1]["content"] for row in best]
    leaders = near_duplicates(compared, settings.threshold)
    kept = [row for i, row in enumerate(best) if leaders[i] == i]
    fates["near duplicate"] += len(best) - len(kept)
    return kept


def near_duplicates(texts: Sequence[str], threshold: float) -> list[int]:
    """For each text the first one that is nearly the same (Jaccard of runs of five words at the threshold or above), or
    itself. Candidates share a band of MinHash values; each is verified."""
    leaders = [*range(len(texts))]
    if len(texts) < 2:
        return leaders
    shingles = shingles_of(pa.array(texts, pa.large_string()), FIVE_WORDS)
    bands = band_hashes(shingles, banding_for(threshold))
    values, offsets = shingle_sets(shingles)
    sets = [values[offsets[i] : offsets[i + 1]] for i in range(len(texts))]
    for band in bands:
        first: dict[int, int] = {}
        for i, value in enumerate(band.tolist()):
            other = first.setdefault(value, i)
            if leaders[i] == i and other != i:
                common = len(np.intersect1d(sets[i], sets[other], assume_unique=True))
                if common >= threshold * (len(sets[i]) + len(sets[other]) - common):
                    leaders[i] = leaders[other]
    return leaders


def _balanced(examples: list[Row], most: int, seed: int, fates: Counter[str]) -> list[Row]:
    """At most so many, in turn from every run and kind of genre, so that what is rare is not lost; in a drawn order."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in sorted(examples, key=lambda row: _order(row, seed)):
        groups.setdefault((row["run"], _kind(row["genre"])), []).append(row)
    chosen: list[Row] = []
    turn = 0
    while len(chosen) < most and any(turn < len(group) for group in groups.values()):
        chosen += [group[turn] for group in groups.values() if turn < len(group)]
        turn += 1
    fates["over the number"] += len(examples) - min(len(chosen), most)
    return sorted(chosen[:most], key=lambda row: _order(row, seed))


def _order(row: Row, seed: int) -> int:
    return id_hash(f"{row['source_id']}\x1f{row['raw_text']}\x1f{row['genre']}\x1f{row['audience']}", seed)


def _kind(genre: str | None) -> str:
    """What kind a genre is: its first two words that name it ("A short play, …": short play)."""
    words = [word.strip(".,:;").casefold() for word in (genre or "").split()]
    return " ".join([word for word in words if word not in ("a", "an", "the")][:2])


def _write(
    out: Path, stage: Stage, examples: Sequence[Row], fates: Counter[str], settings: ExampleSettings
) -> dict[str, Any]:
    """Both splits; a source document is in one of them alone, in both stages in the same."""
    border = int(settings.held_out * 2**64)
    splits: dict[Split, list[Row]] = {"train": [], "held_out": []}
    for row in examples:
        splits["held_out" if id_hash(row["source_id"], settings.seed + 1) < border else "train"].append(row)
    (out / stage).mkdir(parents=True, exist_ok=True)
    for split, rows in splits.items():
        write_rows(out / stage / f"{split}.parquet", rows, SCHEMA)
    left = {reason: count for reason, count in sorted(fates.items()) if count}
    tokens = sum(row["prompt_tokens"] + row["reply_tokens"] for row in splits["train"])
    return {**{split: len(rows) for split, rows in splits.items()}, "train_tokens": tokens, "left_out": left}


def _told(counts: Mapping[Stage, Any]) -> str:
    parts = []
    for stage, count in counts.items():
        left: Iterable[tuple[str, int]] = count["left_out"].items()
        why = ", ".join(f"{number:,} {reason}" for reason, number in left)
        parts.append(
            f"{stage}: {count['train']:,} to train on, {count['held_out']:,} held out" + (f" ({why})" if why else "")
        )
    return "; ".join(parts)
