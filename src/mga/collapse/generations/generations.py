"""Collapse on purpose: each model is trained on what the one before it wrote, and every detector is measured on them.

The first model learns real text. The next one learns as much text that the first one wrote, the third what the second
wrote, and so on; generation_rows.py says how they write. Healthy models differ from the first otherwise: another
seed, other real documents, half the training, documents of other sources. A detector that mistakes those for
collapse is none. The whole is done again for every seed: other documents, other held-out ones, other models.

seed-N/models/NAME/   every model, an ordinary model folder
seed-N/texts/NAME.npy the ids a model was trained on
seed-N/cases/NAME.json  the detectors' values of a model, for parts of the held-out documents
generations.json      settings; with models, their validation losses and the detectors' table once all is done
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mga.checks import check_corpus
from mga.collapse.generations.detectors import of_losses, of_texts, table_of
from mga.collapse.generations.generation_rows import (
    CONTINUE,
    EXPAND,
    KEPT,
    ROW,
    Marks,
    Prepared,
    prepare,
    write_rows,
    written,
)
from mga.collapse.generations.tiny_models import BATCH_ROWS, train
from mga.data.corpus_files import Corpus
from mga.data.output_folder import GENERATIONS, open_output
from mga.data.store import read_json, write_json
from mga.errors import InputError
from mga.scoring.model import Scorer, TokenScores, load

TEXTS_PER_CHUNK = 32
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """`generations` models in a line that `how` says to continue or to expand, each from `rows` rows of ROW tokens for
    `epochs`; texts are drawn at `temperature`; `held_out` documents are kept from training, and judged in `chunks`
    parts; the whole `seeds` times, from `seed` on."""

    generations: int = 4
    rows: int = 3000
    epochs: int = 4
    temperature: float = 0.8
    held_out: int = 96
    chunks: int = 12
    seeds: int = 1
    seed: int = 0
    how: str = CONTINUE

    def __post_init__(self) -> None:
        if self.held_out < 2 * self.chunks:
            raise InputError(f"At least {2 * self.chunks} documents must be held out.")
        if self.how not in (CONTINUE, EXPAND):
            raise InputError(f"Models {CONTINUE} or {EXPAND} texts; --how is not {self.how!r}.")


@dataclass(frozen=True, slots=True)
class _Model:
    """One of the models: generation 0 is healthy, and `kind` says in what it differs from the first."""

    name: str
    kind: str
    generation: int
    rows: str
    epochs: float
    seed: int


def collapse_on_purpose(
    corpus: Corpus, out: Path, plan: Plan, source_key: str | None, say: Say = lambda line: None
) -> dict[str, Any]:
    """Train the models, judge them, and write everything into `out`, new or to be continued; the record.

    More seeds may be asked of a folder than it was begun with. Raises InputError when the corpus is too small, or the
    folder holds another experiment.
    """
    check_corpus(corpus, {"--by": source_key})
    settings = {**asdict(plan), "corpus": corpus.fingerprint, "source_key": source_key}
    settings |= {"row": ROW, "kept": KEPT}
    with open_output(out, GENERATIONS, {"settings": settings}, may_change=["settings.seeds"]) as folder:
        if folder.is_complete:
            return folder.record
        models: list[dict[str, Any]] = []
        cases: list[dict[str, Any]] = []
        for seed in range(plan.seed, plan.seed + plan.seeds):
            say(f"seed {seed}")
            made, judged = _one_seed(corpus, out / f"seed-{seed}", plan, seed, source_key, say)
            models += made
            cases += judged
        return folder.finish({"models": _over_seeds(models), "cases": len(cases), "detectors": table_of(cases)})


def _one_seed(
    corpus: Corpus, out: Path, plan: Plan, seed: int, source_key: str | None, say: Say
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The models of a seed with their losses on real text, and the cases to tell apart."""
    prepared = prepare(corpus, out, plan.how, plan.rows, plan.held_out, seed, source_key)
    models = _models(out, plan, seed)
    for model in models:
        _train(out, model, prepared, plan, seed, say)
    files = {model.name: out / "cases" / f"{model.name}.json" for model in models[1:]}
    if missing := [name for name, file in files.items() if not file.exists()]:
        first = _Judge(_scorer(out, models[0].name), prepared, plan.chunks, seed)
        for name in missing:
            write_json(files[name], first.cases(_Judge(_scorer(out, name), prepared, plan.chunks, seed)))
            say(f"{name} judged")
    values = {name: read_json(file) for name, file in files.items()}
    made = [
        {
            "name": model.name,
            "kind": model.kind,
            "generation": model.generation,
            "loss_difference": fmean(v["validation loss"] for v in values[model.name]) if model.name in values else 0.0,
        }
        for model in models
    ]
    cases = [
        {"seed": seed, "generation": model.generation, "kind": model.kind, "values": v}
        for model in models[1:]
        for v in values[model.name]
    ]
    return made, cases


def _over_seeds(models: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One line per name: the mean of the loss differences, and that of each seed."""
    named: dict[str, list[dict[str, Any]]] = {}
    for model in models:
        named.setdefault(model["name"], []).append(model)
    return [
        {
            **all_[0],
            "loss_difference": fmean(model["loss_difference"] for model in all_),
            "by_seed": [model["loss_difference"] for model in all_],
        }
        for all_ in named.values()
    ]


def _scorer(out: Path, name: str) -> Scorer:
    return load(str(out / "models" / name))


def _models(out: Path, plan: Plan, seed: int) -> list[_Model]:
    seed *= 100  # so that no two seeds share a model's
    first = _Model("real", "first", 0, "real", plan.epochs, seed)
    healthy = [
        _Model("other-seed", "another seed", 0, "real", plan.epochs, seed + 1),
        _Model("other-documents", "other documents", 0, "other", plan.epochs, seed + 2),
        _Model("half-trained", "half the training", 0, "real", plan.epochs / 2, seed + 3),
    ]
    if (out / "texts" / "shifted.npy").exists():
        healthy.append(_Model("other-sources", "other sources", 0, "shifted", plan.epochs, seed + 4))
    line = [
        _Model(f"generation-{g}", "collapsed", g, f"generation-{g}", plan.epochs, seed + 10 + g)
        for g in range(1, plan.generations + 1)
    ]
    return [first, *healthy, *line]


def _train(out: Path, model: _Model, prepared: Prepared, plan: Plan, seed: int, say: Say) -> None:
    folder = out / "models" / model.name
    if folder.exists():
        return
    texts = out / "texts" / f"{model.rows}.npy"
    if not texts.exists():
        before = model.generation - 1
        teacher = f"generation-{before}" if before else "real"
        real = np.load(out / "texts" / "real.npy")
        write_rows(texts, written(_scorer(out, teacher), real, prepared.marks, plan.temperature, seed))
        say(f"{teacher} has written the texts of {model.name}")
    folder.parent.mkdir(exist_ok=True)
    rows = np.load(texts)
    train(folder, prepared.tokenizer, rows, max(int(model.epochs * len(rows) / BATCH_ROWS), 1), model.seed, 4 * ROW)
    say(f"{model.name} trained")


class _Judge:
    """A model's scores of the held-out documents and its samples, in chunks."""

    def __init__(self, scorer: Scorer, prepared: Prepared, chunks: int, seed: int) -> None:
        encoded = [scorer.encode(text.text).ids[: 4 * ROW - 1] for text in prepared.held_out]
        prefix = np.asarray([scorer.prefix], np.int32)
        self._chunks = chunks
        self._tokens = encoded
        self._scores = scorer.score([np.concatenate([prefix, ids]) for ids in encoded], 0)
        genres = [text.source for text in prepared.held_out]
        prompts, human = _beginnings(encoded, genres, prepared.marks, chunks * TEXTS_PER_CHUNK)
        self._human = [scorer.decode(ids) for ids in human]
        made = scorer.generate(prompts, len(human[0]), 1.0, seed)
        self._texts = [scorer.decode(ids) for ids in made]

    def cases(self, other: "_Judge") -> list[dict[str, float | None]]:
        """The detectors' values of the other model beside this one, of each chunk."""
        found = []
        for chunk in range(self._chunks):
            documents = range(chunk, len(self._tokens), self._chunks)
            offsets = np.concatenate([[0], np.cumsum([len(self._tokens[i]) for i in documents])])
            tokens = np.concatenate([self._tokens[i] for i in documents])
            scores = [_joined([judge._scores[i] for i in documents]) for judge in (self, other)]
            texts = slice(chunk * TEXTS_PER_CHUNK, (chunk + 1) * TEXTS_PER_CHUNK)
            values = of_losses(tokens, offsets, *scores)
            found.append(values | of_texts(self._human[texts], self._texts[texts], other._texts[texts]))
        return found


def _joined(scores: list[TokenScores]) -> TokenScores:
    return TokenScores(
        np.concatenate([s.loss for s in scores]),
        np.concatenate([s.entropy for s in scores]),
        np.concatenate([s.top_probability for s in scores]),
        np.concatenate([s.rank for s in scores]),
    )


def _beginnings(
    encoded: list[NDArray[np.int32]], genres: list[str | None], marks: Marks, wanted: int
) -> tuple[NDArray[np.int32], list[NDArray[np.int32]]]:
    """Prompts from so many places of the documents (in their own genres), and what follows them."""
    rows = [
        (ids[at : at + ROW], genre)
        for ids, genre in zip(encoded, genres, strict=True)
        for at in range(0, len(ids) - ROW, ROW)
    ]
    if not rows:
        raise InputError(f"No held-out document has {ROW} tokens: their text is too short or repeats itself.")
    rows = [rows[i % len(rows)] for i in range(wanted)]
    passages = np.stack([ids[:KEPT] for ids, _ in rows])
    return marks.prompts(passages, [genre for _, genre in rows]), [ids[KEPT:] for ids, _ in rows]
