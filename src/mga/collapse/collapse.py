"""Two models on the same documents, one trained on real text, one on synthetic: what has changed, and is it harm?

`compare` returns values that go into JSON as they are (nats per token unless said otherwise; a difference is
the synthetic-trained model's loss less the real-trained one's; estimates are {value, low, high, n} with 95% intervals):

version        of these keys
models         real, synt: model, folder, run, step, and loss per source as `mga losses` wrote it
settings       window (share), k, reading, edges, least_tokens, circular_shifts, seed, prefix, continuation, seen,
               unseen
groups         per set of documents: name, synthetic (bool), documents, tokens, and
  loss         real, synt (mean over tokens), bits_per_byte (real, synt), difference (estimate over documents)
  scatter      real, synt: mean losses of at most SCATTER documents; ids
  positions    histograms of the first anomaly (histogram.position_figures), all documents first, then bands
  too_short    documents of fewer than least_tokens tokens, which the histograms leave out
  profile      mean difference over the course of the documents (histogram.profile)
  ranks, frequencies, classes   the difference by kind of token (kinds.py); function_words
  rare_excess  by how much more rare tokens lose than the others (kinds.rare_excess), or null
  calibration  real, synt (calibration.py)
  continuation real, synt (memorisation.py)
  cases        documents to look at (cases.py)
memorisation   real, synt: losses of seen documents against unseen ones (memorisation.seen_figures), or null
history        run, step, model, by_source: losses over training, in the order of runs and steps
texts          diversity of the models' samples beside the real continuations (samples.py), or null
verdict        verdict.py
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mga.collapse.calibration import calibration_figures
from mga.collapse.cases import cases_of
from mga.collapse.histogram import estimate, position_figures, profile
from mga.collapse.kinds import by_class, by_frequency, by_rank, rare_excess
from mga.collapse.loss_tables import Losses, Pair, open_losses, pair_of
from mga.collapse.memorisation import CONTINUATION, PREFIX, continuation_figures, seen_figures
from mga.collapse.positions import Rule, first_anomalies
from mga.collapse.verdict import verdict_of
from mga.errors import InputError

VERSION = 1
SCATTER = 2000
EDGES = (-0.5, -0.1, 0.0, 0.1, 0.5)
LEAST_TOKENS = 100
"""A window of a shorter document is fewer than five tokens, and single tokens are always beyond a few σ."""


@dataclass(frozen=True, slots=True)
class Documents:
    """A set of documents to compare on. `synthetic` says what kind of text it is; `ids` are its documents' ids."""

    name: str
    synthetic: bool
    ids: frozenset[str]


@dataclass(frozen=True, slots=True)
class Options:
    """What decides the figures; `seen` and `unseen` name groups."""

    rule: Rule = field(default_factory=Rule)
    edges: tuple[float, ...] = EDGES
    least_tokens: int = LEAST_TOKENS
    circular_shifts: int = 200
    cases: int = 5
    seed: int = 0
    prefix: int = PREFIX
    continuation: int = CONTINUATION
    seen: str | None = None
    unseen: str | None = None

    def __post_init__(self) -> None:
        if list(self.edges) != sorted(set(self.edges)):
            raise InputError("The edges of the bands must rise.")
        if (self.seen is None) != (self.unseen is None):
            raise InputError("Name both the documents that were trained on (seen) and those that were not (unseen).")


def compare(
    real: Path,
    synt: Path,
    documents: list[Documents],
    options: Options,
    history: list[Path],
    texts: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """All figures of two folders of losses. Without `documents` the groups are what `mga losses` was given.

    Raises InputError when the folders cannot be compared.
    """
    pair = pair_of(open_losses(real), open_losses(synt), {d.name: set(d.ids) for d in documents} or None)
    synthetic = {d.name: d.synthetic for d in documents}
    differences = pair.synt - pair.real
    positions = first_anomalies(differences, pair.offsets, options.rule)
    columns = _Columns.of(pair)
    figures: dict[str, Any] = {
        "version": VERSION,
        "models": {"real": _model(pair.real_losses), "synt": _model(pair.synt_losses)},
        "settings": _settings(options),
        "groups": [
            _group(pair, number, synthetic.get(name, looks_synthetic(name)), differences, positions, columns, options)
            for number, name in enumerate(pair.names)
        ],
        "memorisation": _memorisation(pair, options),
        "history": _history([pair.real_losses, pair.synt_losses, *map(open_losses, history)]),
        "texts": texts,
    }
    figures["verdict"] = verdict_of(figures)
    return figures


def looks_synthetic(name: str) -> bool:
    """Whether a file's name says that it holds synthetic text."""
    return any(sign in name.lower() for sign in ("synt", "kept", "rewrit", "reformul", "expan"))


@dataclass(frozen=True, slots=True)
class _Columns:
    """Both models' columns, read once: rank, entropy and top_probability, and token_id and end of the tokens."""

    real: dict[str, NDArray[Any]]
    synt: dict[str, NDArray[Any]]

    @classmethod
    def of(cls, pair: Pair) -> "_Columns":
        sure = ("rank", "entropy", "top_probability")
        real = {name: pair.of_real(name) for name in (*sure, "token_id", "end")}
        return cls(real, {name: pair.of_synt(name) for name in sure})

    def taken(self, places: NDArray[np.bool_] | slice) -> "_Columns":
        return _Columns(*({name: c[places] for name, c in of.items()} for of in (self.real, self.synt)))


def _group(
    pair: Pair,
    number: int,
    synthetic: bool,
    differences: NDArray[np.float32],
    positions: NDArray[np.int64],
    columns: _Columns,
    options: Options,
) -> dict[str, Any]:
    members = pair.groups == number
    lengths = np.diff(pair.offsets)
    tokens: NDArray[np.bool_] | slice = slice(None) if members.all() else np.repeat(members, lengths)
    mine = differences[tokens]
    offsets = np.concatenate([[0], np.cumsum(lengths[members])])
    documents = pair.documents if members.all() else pair.documents.filter(members)
    real, synt = (values[members] for values in pair.means())
    sums = [float(values[tokens].sum(dtype=np.float64)) for values in (pair.real, pair.synt)]
    size = float(np.asarray(documents["bytes"]).sum()) * float(np.log(2))
    long = np.diff(offsets) >= options.least_tokens
    long_tokens = np.repeat(long, np.diff(offsets))
    long_offsets = np.concatenate([[0], np.cumsum(np.diff(offsets)[long])])
    shown = np.unique(np.linspace(0, len(real) - 1, SCATTER).astype(np.int64))
    of = columns.taken(tokens)
    return {
        "name": pair.names[number],
        "synthetic": synthetic,
        "documents": len(real),
        "tokens": len(mine),
        "loss": {
            "real": sums[0] / len(mine),
            "synt": sums[1] / len(mine),
            "bits_per_byte": {"real": sums[0] / size, "synt": sums[1] / size},
            "difference": estimate(synt - real),
        },
        "scatter": {
            "real": real[shown].round(4).tolist(),
            "synt": synt[shown].round(4).tolist(),
            "ids": documents["document"].take(shown).to_pylist(),
        },
        "too_short": int((~long).sum()),
        "positions": position_figures(
            mine[long_tokens], long_offsets, options.rule, options.edges, options.circular_shifts, options.seed
        ),
        "profile": profile(mine, offsets),
        "ranks": by_rank(mine, of.real["rank"], offsets),
        "frequencies": by_frequency(mine, of.real["token_id"], offsets),
        "rare_excess": rare_excess(mine, of.real["token_id"], offsets),
        **by_class(mine, documents["text"], of.real["end"], offsets),
        "calibration": {
            name: calibration_figures(c["top_probability"], c["rank"], c["entropy"])
            for name, c in (("real", of.real), ("synt", of.synt))
        },
        "continuation": {
            name: continuation_figures(c["rank"], offsets, options.prefix, options.continuation)
            for name, c in (("real", of.real), ("synt", of.synt))
        },
        "cases": cases_of(
            pair, number, _all_differences(pair), positions, columns.real["end"], options.rule, options.cases
        ),
    }


def _all_differences(pair: Pair) -> NDArray[np.float64]:
    real, synt = pair.means()
    return synt - real


def _memorisation(pair: Pair, options: Options) -> dict[str, Any] | None:
    if options.seen is None or options.unseen is None:
        return None
    for name in (options.seen, options.unseen):
        if name not in pair.names:
            raise InputError(f"There is no group {name!r}; the groups are: {', '.join(pair.names)}.")
    if options.seen == options.unseen:
        raise InputError("The seen and the unseen documents are the same group.")
    numbers = [pair.names.index(options.seen), pair.names.index(options.unseen)]
    chosen = np.isin(pair.groups, numbers)
    tokens = np.repeat(chosen, np.diff(pair.offsets))
    offsets = np.concatenate([[0], np.cumsum(np.diff(pair.offsets)[chosen])])
    seen = pair.groups[chosen] == numbers[0]
    return {
        name: seen_figures(values[tokens], offsets, seen) for name, values in (("real", pair.real), ("synt", pair.synt))
    }


def _history(losses: list[Losses]) -> list[dict[str, Any]]:
    """Losses over training: of folders that were given a run, each once."""
    points: dict[Path, dict[str, Any]] = {}
    for one in losses:
        record = one.record
        if record["run"] is not None:
            points[one.folder.resolve()] = {key: record[key] for key in ("run", "step", "model", "by_source")}
    return sorted(points.values(), key=lambda point: (point["run"], point["step"] or 0))


def _model(losses: Losses) -> dict[str, Any]:
    keys = ("model", "run", "step", "by_source")
    return {**{key: losses.record[key] for key in keys}, "folder": losses.folder.name}


def _settings(options: Options) -> dict[str, Any]:
    rule = options.rule
    return {
        "window": rule.share,
        "k": rule.k,
        "reading": rule.reading,
        "edges": list(options.edges),
        "least_tokens": options.least_tokens,
        "circular_shifts": options.circular_shifts,
        "seed": options.seed,
        "prefix": options.prefix,
        "continuation": options.continuation,
        "seen": options.seen,
        "unseen": options.unseen,
    }
