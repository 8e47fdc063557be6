"""Collapse on purpose: each model is trained on what the one before it wrote, and every detector is measured on them.

The first model learns real text. The next one learns as much text that the first one wrote: beginnings of the documents
it learned from, continued (as Shumailov et al. 2024 do it); the third learns what the second wrote, and so on. Healthy
models differ from the first in other ways: another seed, other real documents, half the training, documents of other
sources. A detector that mistakes those for collapse is none.

models/NAME/          every model, an ordinary model folder
texts/NAME.npy        the ids a model was trained on
cases/NAME.json       the detectors' values of a model, for parts of the held-out documents
generations.json      settings, models with their validation losses, and the detectors' table; written last
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from mga.config import differences
from mga.corpus.files import Corpus
from mga.errors import InputError
from mga.evaluate.detectors import of_losses, of_texts, table_of
from mga.evaluate.scoring import Scorer, TokenScores, load
from mga.evaluate.texts import Text, check_columns, texts_of
from mga.evaluate.tiny_models import BATCH_ROWS, load_tokenizer, save, train, train_tokenizer
from mga.store import read_json, write_atomically, write_json

ROW = 128
"""Tokens of a training row. Its first quarter is kept when a model writes the row for the next one."""

KEPT = ROW // 4
TEXTS_PER_CHUNK = 32
_GENERATED_ROWS = 512


@dataclass(frozen=True, slots=True)
class Plan:
    """`generations` models in a line, each from `rows` rows of ROW tokens for `epochs`; texts are drawn at
    `temperature`; `held_out` documents are kept from training, and judged in `chunks` parts."""

    generations: int = 4
    rows: int = 3000
    epochs: int = 4
    temperature: float = 0.8
    held_out: int = 96
    chunks: int = 12
    seed: int = 0

    def __post_init__(self) -> None:
        if self.held_out < 2 * self.chunks:
            raise InputError(f"At least {2 * self.chunks} documents must be held out.")


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
    corpus: Corpus, out: Path, plan: Plan, source_key: str | None, say: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:
    """Train the models, judge them, and write everything into `out`, new or to be continued; the record.

    Raises InputError when the corpus is too small, or the folder holds another experiment.
    """
    check_columns(corpus, source_key)
    settings = {**asdict(plan), "corpus": corpus.fingerprint, "source_key": source_key}
    settings |= {"row": ROW, "kept": KEPT}
    record_path = out / "generations.json"
    _begin(out, settings)
    if record_path.exists():
        return cast(dict[str, Any], read_json(record_path))
    held_out, tokenizer = _prepare(corpus, out, plan, source_key)
    models = _models(out, plan)
    for model in models:
        _train(out, model, tokenizer, plan, say)
    reference = _Judge(_scorer(out, models[0]), held_out, plan)
    cases: list[dict[str, Any]] = []
    for model in models[1:]:
        file = out / "cases" / f"{model.name}.json"
        if not file.exists():
            write_json(file, reference.cases(_Judge(_scorer(out, model), held_out, plan)))
            say(f"{model.name} judged")
        cases += [{"generation": model.generation, "kind": model.kind, "values": v} for v in read_json(file)]
    losses = {m.name: [v["validation loss"] for v in read_json(out / "cases" / f"{m.name}.json")] for m in models[1:]}
    record = {
        "settings": settings,
        "models": [
            {
                "name": m.name,
                "kind": m.kind,
                "generation": m.generation,
                "loss_difference": float(np.mean(losses[m.name])) if m.name in losses else 0.0,
            }
            for m in models
        ],
        "cases": len(cases),
        "detectors": table_of(cases),
    }
    write_json(record_path, record)
    return record


def _scorer(out: Path, model: _Model) -> Scorer:
    return load(str(out / "models" / model.name))


def _models(out: Path, plan: Plan) -> list[_Model]:
    first = _Model("real", "first", 0, "real", plan.epochs, plan.seed)
    healthy = [
        _Model("other-seed", "another seed", 0, "real", plan.epochs, plan.seed + 1),
        _Model("other-documents", "other documents", 0, "other", plan.epochs, plan.seed + 2),
        _Model("half-trained", "half the training", 0, "real", plan.epochs / 2, plan.seed + 3),
    ]
    if (out / "texts" / "shifted.npy").exists():
        healthy.append(_Model("other-sources", "other sources", 0, "shifted", plan.epochs, plan.seed + 4))
    line = [
        _Model(f"generation-{g}", "collapsed", g, f"generation-{g}", plan.epochs, plan.seed + 10 + g)
        for g in range(1, plan.generations + 1)
    ]
    return [first, *healthy, *line]


def _train(out: Path, model: _Model, tokenizer: Any, plan: Plan, say: Callable[[str], None]) -> None:
    folder = out / "models" / model.name
    if folder.exists():
        return
    texts = out / "texts" / f"{model.rows}.npy"
    if not texts.exists():
        before = model.generation - 1
        teacher = f"generation-{before}" if before else "real"
        _save(texts, _written(load(str(out / "models" / teacher)), np.load(out / "texts" / f"{teacher}.npy"), plan))
        say(f"{teacher} has written the texts of {model.name}")
    folder.parent.mkdir(exist_ok=True)
    rows = np.load(texts)
    train(folder, tokenizer, rows, max(int(model.epochs * len(rows) / BATCH_ROWS), 1), model.seed, 4 * ROW)
    say(f"{model.name} trained")


def _written(teacher: Scorer, rows: NDArray[np.int32], plan: Plan) -> NDArray[np.int32]:
    """The rows as the teacher would go on after their first KEPT tokens (rows begin with the prefix)."""
    made = []
    for first in range(0, len(rows), _GENERATED_ROWS):
        prompts = rows[first : first + _GENERATED_ROWS, 1 : KEPT + 1]
        new = teacher.generate(prompts, ROW - KEPT, plan.temperature, plan.seed + first)
        made.append(np.concatenate([rows[first : first + _GENERATED_ROWS, : KEPT + 1], np.stack(new)], 1))
    return np.concatenate(made)


class _Judge:
    """A model's scores of the held-out documents and its own texts, in chunks."""

    def __init__(self, scorer: Scorer, held_out: list[Text], plan: Plan) -> None:
        encoded = [scorer.encode(text.text).ids[: 4 * ROW - 1] for text in held_out]
        prefix = np.asarray([scorer.prefix], np.int32)
        self._chunks = plan.chunks
        self._tokens = encoded
        self._scores = scorer.score([np.concatenate([prefix, ids]) for ids in encoded], 0)
        prompts, human = _beginnings(encoded, plan.chunks * TEXTS_PER_CHUNK)
        self._human = [scorer.decode(ids) for ids in human]
        made = scorer.generate(prompts, ROW - KEPT, 1.0, plan.seed)
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


def _beginnings(encoded: list[NDArray[np.int32]], wanted: int) -> tuple[NDArray[np.int32], list[NDArray[np.int32]]]:
    """KEPT tokens from so many places of the documents, and what follows them."""
    rows = [ids[at : at + ROW] for ids in encoded for at in range(0, len(ids) - ROW, ROW)]
    if not rows:
        raise InputError(f"No held-out document has {ROW} tokens: their text is too short or repeats itself.")
    rows = [rows[i % len(rows)] for i in range(wanted)]
    return np.stack([row[:KEPT] for row in rows]), [row[KEPT:] for row in rows]


def _prepare(corpus: Corpus, out: Path, plan: Plan, source_key: str | None) -> tuple[list[Text], Any]:
    """Held-out documents and the tokenizer; the real rows to train on are written beside."""
    texts = list(texts_of(corpus, source_key, Counter()))
    order = np.random.default_rng(plan.seed).permutation(len(texts))
    mixed = [texts[i] for i in order]
    long = [text for text in mixed if len(text.text) >= 16 * ROW][: plan.held_out]
    if len(long) < plan.held_out:
        raise InputError(
            f"{plan.held_out} documents of {16 * ROW:,} characters must be held out; there are {len(long)}."
        )
    kept = {text.id for text in long}
    rest = [text for text in mixed if text.id not in kept]
    if (out / "tokenizer").exists():
        return long, load_tokenizer(out / "tokenizer")
    tokenizer = train_tokenizer(text.text for text in rest[:2000])
    rows = _rows(rest, tokenizer, 2 * plan.rows)
    if len(rows) < 2 * plan.rows:
        raise InputError(f"The corpus gives {len(rows):,} rows of {ROW} tokens, two times --rows are needed; lower it.")
    _save(out / "texts" / "real.npy", rows[: plan.rows])
    _save(out / "texts" / "other.npy", rows[plan.rows :])
    sources = Counter(text.source for text in rest if text.source)
    if len(sources) > 1:
        some = {name for name, _ in sources.most_common()[1::2]}
        shifted = _rows([text for text in rest if text.source in some], tokenizer, plan.rows)
        if len(shifted) == plan.rows:
            _save(out / "texts" / "shifted.npy", shifted)
    save(out / "tokenizer", tokenizer)
    return long, tokenizer


def _rows(texts: list[Text], tokenizer: Any, most: int) -> NDArray[np.int32]:
    rows: list[list[int]] = []
    for text in texts:
        ids = tokenizer(text.text, add_special_tokens=False, verbose=False)["input_ids"]
        rows += [[tokenizer.bos_token_id, *ids[at : at + ROW]] for at in range(0, len(ids) - ROW, ROW)]
        if len(rows) >= most:
            break
    return np.asarray(rows[:most], np.int32)


def _begin(out: Path, settings: dict[str, Any]) -> None:
    path = out / "settings.json"
    if path.exists():
        if changed := differences(read_json(path), settings):
            raise InputError(f"{out} was begun with other settings ({', '.join(changed)}); choose another --out.")
        return
    if out.exists() and any(out.iterdir()):
        raise InputError(f"{out} is not empty; choose another --out.")
    write_json(path, settings)


def _save(path: Path, rows: NDArray[np.int32]) -> None:
    buffer = BytesIO()
    np.save(buffer, rows)
    write_atomically(path, buffer.getvalue())
