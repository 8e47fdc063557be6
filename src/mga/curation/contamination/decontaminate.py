"""Texts that hold a benchmark's items: runs of words that stand in both.

A text is contaminated when it shares an n-gram with an item (Brown et al. 2020, appendix C, arXiv:2005.14165: 13 words,
for shorter items all their words, never under 8; what very many share is a template). It is found by seed and
extension, as sequence search does it: of an item only every (n - w + 1)-th run of w words is in the index, one of which
lies in every n-gram; where a text has such a run, both are compared letter by letter to the ends of what they share.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

from mga.curation.contamination.benchmarks import PASSAGES, Benchmarks
from mga.curation.stage import Counts, Stage, reasons_of
from mga.data.columns import is_text
from mga.data.corpus_files import Batch, Corpus, is_parquet, ordered
from mga.data.store import committed
from mga.errors import InputError, StopError
from mga.text.tokens import (
    ALONE,
    IGNORED,
    JOINS,
    SEPARATOR,
    Tokens,
    folding,
    joined,
    joining,
    mixed,
    ngrams_of,
    string_buffers,
    tokens_of,
)

REASON = "contaminated"
SPAN_CHARACTERS = 300
TEMPLATES_SHOWN = 20

_TWELFTHS = 12
# A word of English takes about 1.5 Han characters in translation, 2 kana, 4 letters of Thai: what a token of a script
# written without spaces is worth, in twelfths of a word.
_HAN, _KANA, _OTHER = 8, 6, 3
_STEP = np.uint64(0x9E3779B97F4A7C15)
_FILTER_BITS = 16


@dataclass(frozen=True, slots=True)
class Limits:
    """`ngram` words in common are contamination; an item of fewer is searched whole, from `shortest` words on.

    An n-gram of more than `template` items is a template (0: none is); a passage that many questions ask about counts
    once, and so does a question that several files have. A Han character counts 2/3 of a word, kana 1/2, a letter of
    Thai, Lao, Khmer or Myanmar 1/4. Raises InputError when the numbers do not go together.
    """

    ngram: int = 13
    shortest: int = 8
    template: int = 10

    def __post_init__(self) -> None:
        if not 4 <= self.shortest <= self.ngram:
            raise InputError(f"--shortest is {self.shortest}; it must lie between 4 and --ngram ({self.ngram}).")


@dataclass(frozen=True, slots=True)
class Match:
    """The longest run of words that text `row` of an array shares with an item.

    `start` and `end` count characters of the text. `tokens` are the words of the run, `share` their part of the item's
    text in `field`.
    """

    row: int
    item: int
    field: str
    start: int
    end: int
    tokens: int
    share: float


# ── index ──


class Words(NamedTuple):
    """Texts and their words: bytes and where each text's begin, then the arrays of `Tokens`."""

    data: NDArray[np.uint8]
    bytes: NDArray[np.int64]
    hashes: NDArray[np.uint64]
    offsets: NDArray[np.int64]
    starts: NDArray[np.int32]
    ends: NDArray[np.int32]


class Seeds(NamedTuple):
    """Runs of `width` words of items, in a table with open addressing.

    `filter` has 16 bits a run: whether it may be in the table. `slots` holds numbers of runs, -1 where empty; run g has
    hash keys[g] and begins at the words places[bounds[g]:bounds[g + 1]] of the texts owners[…]. `windows[k]` is the
    word before which the n-gram that begins at word k ends, 0 where none is searched; `seeded[k]` tells whether a run
    that is in the table begins at k.
    """

    filter: NDArray[np.uint64]
    slots: NDArray[np.int32]
    keys: NDArray[np.uint64]
    bounds: NDArray[np.int64]
    places: NDArray[np.int32]
    owners: NDArray[np.int32]
    windows: NDArray[np.int32]
    seeded: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Index:
    """What is searched for: 44 MB per million n-grams, 100 MB while it is built. It is only read, so threads share it.

    `too_short` counts items none of whose texts is long enough to be searched. `ngrams` are those searched,
    `templates` those left out; `examples` are the templates of most items: (items, text).
    """

    benchmarks: Benchmarks
    limits: Limits
    words: Words
    seeds: Seeds
    too_short: int
    ngrams: int
    templates: int
    examples: tuple[tuple[int, str], ...]

    @property
    def bytes(self) -> int:
        """Memory of its arrays."""
        return sum(array.nbytes for array in (*self.words, *self.seeds))


def build_index(benchmarks: Benchmarks, limits: Limits) -> Index:
    """The index of all texts of the items. Raises InputError when nothing is left to be searched."""
    texts = pa.array([text.text for text in benchmarks.texts], pa.large_string())
    tokens = tokens_of(texts)
    words = _words(texts, tokens)
    joints = np.array([text.joint for text in benchmarks.texts], np.int64)
    windows = np.zeros(len(tokens.hashes), np.int32)
    grams = np.zeros(len(tokens.hashes), np.uint64)
    powers = np.multiply.accumulate(np.full(limits.ngram * _TWELFTHS // _OTHER + 2, _STEP))
    _find_windows(
        words,
        joints,
        (folding(), joining()),
        limits.ngram * _TWELFTHS,
        limits.shortest * _TWELFTHS,
        powers,
        windows,
        grams,
    )
    at = np.flatnonzero(windows)
    if not len(at):
        raise InputError(f"No benchmark item has {limits.shortest} words or more; lower --shortest, or use --fields.")
    owners = (np.searchsorted(words.offsets, at, "right") - 1).astype(np.int32)
    searched = {item for text in np.unique(owners).tolist() for item in benchmarks.holders[text]}
    common, examples = _templates(benchmarks, words, windows, at, grams[at], owners, limits.template)
    del grams
    windows[at[common]] = 0
    if common.all():
        raise InputError(
            f"Nothing is left to search for: every n-gram stands in more than {limits.template} items and counts as a "
            "template. Raise --template (0: none is one), or name --fields."
        )
    return Index(
        benchmarks=benchmarks,
        limits=limits,
        words=words,
        seeds=_seeds(tokens, windows, limits),
        too_short=len(benchmarks.items) - len(searched),
        ngrams=int(len(at) - common.sum()),
        templates=int(common.sum()),
        examples=examples,
    )


def _words(texts: pa.Array, tokens: Tokens) -> Words:
    data, offsets = string_buffers(texts)
    data.flags.writeable = False  # as Arrow's own buffers are: one type, compiled once
    return Words(data, offsets, tokens.hashes, tokens.offsets, tokens.starts, tokens.ends)


def _templates(
    benchmarks: Benchmarks,
    words: Words,
    windows: NDArray[np.int32],
    at: NDArray[np.int64],
    grams: NDArray[np.uint64],
    owners: NDArray[np.int32],
    most: int,
) -> tuple[NDArray[np.bool_], tuple[tuple[int, str], ...]]:
    """Which n-grams (those that begin at the words `at`) more than `most` items have; and the commonest of them."""
    common = np.zeros(len(at), np.bool_)
    if not most:
        return common, ()
    items = np.array([benchmarks.equals[held[0]] for held in benchmarks.holders], np.int32)[owners]
    held = [_weight(benchmarks, text) for text in range(len(benchmarks.texts))]
    order = np.argsort(grams, kind="stable")  # stable: within equal n-grams, items stay in order
    counts = np.zeros(len(at), np.int32)
    _mark_common(grams, items, np.array(held, np.int32)[owners], order, most, common, counts)
    first = np.sort(np.flatnonzero(counts))
    breaks = np.flatnonzero((np.diff(at[first]) != 1) | (np.diff(counts[first]) != 0)) + 1
    shown = [
        (int(counts[run[0]]), _text_between(words, int(at[run[0]]), int(windows[at[run[-1]]])))
        for run in np.split(first, breaks)
        if len(run)
    ]
    shown.sort(key=lambda example: -example[0])
    return common, tuple(shown[:TEMPLATES_SHOWN])


def _weight(benchmarks: Benchmarks, text: int) -> int:
    """For how many items a text counts: different ones of one file, since a copy, there or in another file, makes no
    template of it."""
    holders = {benchmarks.equals[item] for item in benchmarks.holders[text]}
    if len(holders) == 1 or benchmarks.texts[text].field in PASSAGES:
        return 1
    return max(Counter(benchmarks.items[item].benchmark for item in holders).values())


def _text_between(words: Words, first: int, end: int) -> str:
    """The words from `first` to before `end` as they stand in their text."""
    text = int(np.searchsorted(words.offsets, first, "right")) - 1
    base = int(words.bytes[text])
    return _shortened(words.data[base + words.starts[first] : base + words.ends[end - 1]].tobytes().decode())


def _seeds(tokens: Tokens, windows: NDArray[np.int32], limits: Limits) -> Seeds:
    width, step = limits.shortest, limits.ngram - limits.shortest + 1
    runs, run_offsets = ngrams_of(tokens, width)
    seeded = np.zeros(len(windows), np.bool_)
    _choose_seeds(tokens.offsets, windows, width, step, seeded)
    places = np.flatnonzero(seeded)
    owners = np.searchsorted(tokens.offsets, places, "right") - 1
    hashes = runs[run_offsets[owners] + places - tokens.offsets[owners]]
    order = np.argsort(hashes, kind="stable")
    keys, firsts = np.unique(hashes[order], return_index=True)
    size = 1 << max(10, int(2 * len(keys)).bit_length())
    slots, kept = np.full(size, -1, np.int32), np.zeros(size * _FILTER_BITS // 128, np.uint64)
    _fill(keys, slots, kept)
    return Seeds(
        filter=kept,
        slots=slots,
        keys=keys,
        bounds=np.append(firsts, len(places)),
        places=places[order].astype(np.int32),
        owners=owners[order].astype(np.int32),
        windows=windows,
        seeded=seeded,
    )


# ── search ──


def find_matches(index: Index, texts: pa.Array) -> list[Match]:
    """For each text of an Arrow array, and each item it shares an n-gram with, the longest run in common.

    In order of the texts, and for each the longest first. Safe to call from several threads.
    """
    tokens = tokens_of(texts)
    words = _words(texts, tokens)
    runs, run_offsets = ngrams_of(tokens, index.limits.shortest)
    found = np.empty((max(1024, 4 * len(texts)), 4), np.int64)
    count = _search(runs, run_offsets, words, index.words, index.seeds, (folding(), joining()), found)
    if count > len(found):
        found = np.empty((count, 4), np.int64)
        count = _search(runs, run_offsets, words, index.words, index.seeds, (folding(), joining()), found)
    matches: list[Match] = []
    for text, rows in groupby(found[:count].tolist(), key=lambda row: row[0]):
        matches += _longest(index, words, text, rows)
    return matches


def _longest(index: Index, words: Words, text: int, rows: Iterable[list[int]]) -> list[Match]:
    """Of one text's matches, the longest with each item."""
    best: dict[int, tuple[int, int, int]] = {}
    for _, owner, first, end in rows:
        for item in index.benchmarks.holders[owner]:
            if item not in best or end - first > best[item][2] - best[item][1]:
                best[item] = (owner, first, end)
    base = int(words.bytes[text])
    content = words.data[base : int(words.bytes[text + 1])].tobytes()
    found = []
    for item, (owner, first, end) in sorted(best.items(), key=lambda one: (one[1][1] - one[1][2], one[0])):
        start = len(content[: words.starts[first]].decode("utf-8", "replace"))
        length = len(content[words.starts[first] : words.ends[end - 1]].decode("utf-8", "replace"))
        whole = int(index.words.offsets[owner + 1] - index.words.offsets[owner])
        field = index.benchmarks.texts[owner].field
        found.append(Match(text, item, field, start, start + length, end - first, (end - first) / whole))
    return found


# ── the command's work ──


def decontaminate(stage: Stage, index: Index, workers: int) -> Counts:
    """Do what is left to do in a folder: every text that matches an item goes to dropped/ with the reason REASON.

    The detail is JSON: the item, and the longest span in common. contamination/ has a file of JSON Lines for each file
    of the corpus, a line for each (text, item). Files are done one by one; all threads work on their batches.
    """
    todo = stage.todo()
    judged = ordered(lambda one: _judge(stage.corpus, index, *one), _batches(stage.corpus, todo), workers)
    for number, batches in groupby(judged, key=lambda one: one.number):
        stage.write(number, _reported(batches, stage.folder / "contamination" / f"{number:05}.jsonl"))
    return stage.finish({"contamination": _summary(stage, index)})


@dataclass(frozen=True, slots=True)
class _Judged:
    """A batch of the corpus's file `number` with its decisions and lines of the report; None ends the file."""

    number: int
    decided: tuple[Batch, pa.Array, pa.Array] | None
    lines: bytes = b""


def _batches(corpus: Corpus, numbers: Iterable[int]) -> Iterator[tuple[int, Batch | None]]:
    for number in numbers:
        file = corpus.files[number]
        columns = None if is_parquet(file) else [corpus.text_key, corpus.id_key]
        for batch in corpus.batches(file, columns):
            yield number, batch
        yield number, None


def _judge(corpus: Corpus, index: Index, number: int, batch: Batch | None) -> _Judged:
    if batch is None:
        return _Judged(number, None)
    file, texts = corpus.files[number].name, batch.column(corpus.text_key)
    ids = batch.column(corpus.id_key)
    ids = batch.ids(corpus.id_key) if is_text(ids.type) else ids
    reasons: dict[int, tuple[str, str]] = {}
    lines: list[bytes] = []
    for row, matches in groupby(find_matches(index, texts), key=lambda match: match.row):
        text = texts[row].as_buffer().to_pybytes().decode("utf-8", "replace")
        facts = [_facts(index, match, text) for match in matches]
        reasons[row] = (REASON, orjson.dumps({**facts[0], "items": len(facts)}).decode())
        where = {"file": file, "row": batch.first + row, "id": ids[row].as_py()}
        lines += [orjson.dumps(where | fact, default=str) + b"\n" for fact in facts]
    return _Judged(number, (batch, *reasons_of(batch.rows.num_rows, reasons)), b"".join(lines))


def _facts(index: Index, match: Match, text: str) -> dict[str, Any]:
    item = index.benchmarks.items[match.item]
    return {
        "benchmark": item.benchmark,
        "item": item.id,
        "item_row": item.row,
        "field": match.field,
        "tokens": match.tokens,
        "share": round(match.share, 4),
        "start": match.start,
        "end": match.end,
        "span": _shortened(text[match.start : match.end]),
    }


def _shortened(span: str) -> str:
    half = SPAN_CHARACTERS // 2
    return span if len(span) <= SPAN_CHARACTERS else f"{span[:half]} … {span[-half:]}"


def _reported(batches: Iterable[_Judged], path: Path) -> Iterator[tuple[Batch, pa.Array, pa.Array]]:
    """The decisions on a file; its report gets its name before the file can count as done."""
    with _written(path) as report:
        for judged in batches:
            if judged.decided is not None:
                report.write(judged.lines)
                yield judged.decided


@contextmanager
def _written(path: Path) -> Iterator[Any]:
    beside = path.with_name(f".{path.name}.writing")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as stream:
            yield stream
        committed(beside, path)
    except OSError as error:
        raise StopError(f"Cannot write {path}: {error.strerror}. Make room or rights, then run again.") from error
    finally:
        beside.unlink(missing_ok=True)


def _summary(stage: Stage, index: Index) -> dict[str, Any]:
    """Figures of the whole report: items hit, and per benchmark file its items and the texts that hold any of them."""
    items: dict[str, set[int]] = {}
    texts: Counter[str] = Counter()
    fields: Counter[str] = Counter()
    for path in sorted((stage.folder / "contamination").glob("*.jsonl")):
        with path.open("rb") as lines:
            for _, facts in groupby(map(orjson.loads, lines), key=lambda fact: fact["row"]):
                held = list(facts)
                texts.update({fact["benchmark"] for fact in held})
                fields.update({fact["field"] for fact in held})
                for fact in held:
                    items.setdefault(fact["benchmark"], set()).add(fact["item_row"])
    of_file = Counter(item.benchmark for item in index.benchmarks.items)
    return {
        "benchmarks": {
            name: {"items": of_file[name], "items_hit": len(items.get(name, ())), "texts": texts[name]}
            for name in sorted(of_file)
        },
        "fields": dict(fields.most_common()),
        "items": len(index.benchmarks.items),
        "items_too_short": index.too_short,
        "ngrams": index.ngrams,
        "template_ngrams": index.templates,
        "templates": [{"items": count, "text": text} for count, text in index.examples],
    }


# ── compiled ──


@njit(nogil=True, cache=True)
def _worth(code: Any) -> Any:
    """Of a character that is a word by itself, in twelfths of a word."""
    if 0x3040 <= code <= 0x30FF or 0x31F0 <= code <= 0x31FF:
        return _KANA
    return _OTHER if code < 0x2E80 or 0xA9E0 <= code <= 0xAA7F else _HAN


@njit(nogil=True, cache=True)
def _letter(data: Any, at: Any, end: Any, fold: Any) -> Any:
    """The next letter of a word with what joins it, and where the one after it begins; 0 at the word's end."""
    letter, at = _part(data, at, end, fold[0])
    while letter != SEPARATOR:
        mark, later = _part(data, at, end, fold[0])
        whole = joined(letter, mark, fold[1]) if mark & JOINS else np.uint32(0)
        if whole == 0:
            break
        letter, at = whole, later
    return letter, at


@njit(nogil=True, cache=True)
def _part(data: Any, at: Any, end: Any, fold: Any) -> Any:
    """The next letter as the folding table has it, and where the one after it begins; 0 at the word's end."""
    while at < end:
        code = np.uint32(data[at])
        size = 1 if code < 0x80 else 4 if code >= 0xF0 else 3 if code >= 0xE0 else 2
        if size > 1:
            code &= np.uint32(0x7F >> size)
            for k in range(1, size):
                code = (code << np.uint32(6)) | np.uint32(data[at + k] & 0x3F)
        at += size
        letter = fold[code]
        if letter != IGNORED:
            return letter, at
    return np.uint32(SEPARATOR), at


@njit(nogil=True, cache=True)
def _same(a: Any, text_a: Any, k: Any, b: Any, text_b: Any, m: Any, fold: Any) -> Any:
    """Whether word k of one text and word m of another are the same, letter by letter."""
    if a.hashes[k] != b.hashes[m]:
        return False
    at_a, end_a = a.bytes[text_a] + a.starts[k], a.bytes[text_a] + a.ends[k]
    at_b, end_b = b.bytes[text_b] + b.starts[m], b.bytes[text_b] + b.ends[m]
    while True:
        one, at_a = _letter(a.data, at_a, end_a, fold)
        other, at_b = _letter(b.data, at_b, end_b, fold)
        if one != other:
            return False
        if one == SEPARATOR:
            return True


@njit(nogil=True, cache=True)
def _find_windows(
    words: Any, joints: Any, fold: Any, ngram: int, shortest: int, powers: Any, windows: Any, grams: Any
) -> None:
    """Where the n-grams of each text end, and their hashes; ngram and shortest in twelfths of a word."""
    for text in range(len(words.offsets) - 1):
        first, last = words.offsets[text], words.offsets[text + 1]
        worth = np.empty(last - first, np.int64)
        joint = first
        for k in range(first, last):
            letter, _ = _letter(
                words.data, words.bytes[text] + words.starts[k], words.bytes[text] + words.ends[k], fold
            )
            worth[k - first] = _worth(letter & ~np.uint32(ALONE)) if letter >= ALONE else _TWELFTHS
            joint += words.starts[k] < joints[text]
        total = worth.sum()
        if total < shortest:
            continue
        needed = min(ngram, total)
        end, held, value = first, 0, np.uint64(0)
        for begin in range(first, last):
            while end < last and held < needed:
                value = (value + words.hashes[end]) * _STEP
                held += worth[end - first]
                end += 1
            if held < needed:
                break
            if joints[text] == 0 or begin < joint < end:
                windows[begin] = end
                grams[begin] = mixed(value)
            value -= words.hashes[begin] * powers[end - begin - 1]
            held -= worth[begin - first]


@njit(nogil=True, cache=True)
def _mark_common(grams: Any, items: Any, held: Any, order: Any, most: int, common: Any, counts: Any) -> None:
    """Mark n-grams of more than so many items; the first occurrence of each gets its number of items in `counts`."""
    first = 0
    while first < len(order):
        end, having = first + 1, held[order[first]]
        while end < len(order) and grams[order[end]] == grams[order[first]]:
            if items[order[end]] != items[order[end - 1]]:
                having += held[order[end]]
            end += 1
        if having > most:
            counts[order[first]] = having
            for k in range(first, end):
                common[order[k]] = True
        first = end


@njit(nogil=True, cache=True)
def _choose_seeds(offsets: Any, windows: Any, width: int, step: int, seeded: Any) -> None:
    """Mark every step-th run of each text that lies within an n-gram searched for."""
    for text in range(len(offsets) - 1):
        reach = 0
        for k in range(offsets[text], offsets[text + 1]):
            reach = max(reach, windows[k])
            if (k - offsets[text]) % step == 0 and reach >= k + width:
                seeded[k] = True


@njit(nogil=True, cache=True)
def _fill(keys: Any, slots: Any, kept: Any) -> None:
    for run in range(len(keys)):
        slot = (keys[run] >> np.uint64(32)) & np.uint64(len(slots) - 1)
        while slots[slot] >= 0:
            slot = (slot + np.uint64(1)) & np.uint64(len(slots) - 1)
        slots[slot] = run
        bit = keys[run] & np.uint64(len(kept) * 64 - 1)
        kept[bit >> np.uint64(6)] |= np.uint64(1) << (bit & np.uint64(63))


@njit(nogil=True, cache=True)
def _run_of(value: Any, seeds: Any) -> Any:
    """Number of the run with a hash, -1 when there is none."""
    bit = value & np.uint64(len(seeds.filter) * 64 - 1)
    if not (seeds.filter[bit >> np.uint64(6)] >> (bit & np.uint64(63))) & np.uint64(1):
        return -1
    slot = (value >> np.uint64(32)) & np.uint64(len(seeds.slots) - 1)
    while seeds.slots[slot] >= 0:
        if seeds.keys[seeds.slots[slot]] == value:
            return seeds.slots[slot]
        slot = (slot + np.uint64(1)) & np.uint64(len(seeds.slots) - 1)
    return -1


@njit(nogil=True, cache=True)
def _search(runs: Any, run_offsets: Any, words: Any, items: Any, seeds: Any, fold: Any, found: Any) -> Any:
    """Write (text, item text, first word, word after the last) of every match; returns how many there are, which may
    be more than have found room."""
    count = 0
    for text in range(len(words.offsets) - 1):
        first = words.offsets[text]
        for k in range(run_offsets[text], run_offsets[text + 1]):
            run = _run_of(runs[k], seeds)
            if run < 0:
                continue
            here = first + k - run_offsets[text]
            for j in range(seeds.bounds[run], seeds.bounds[run + 1]):
                owner, there = seeds.owners[j], seeds.places[j]
                begin, back, is_first = _extended_left(words, text, here, items, owner, there, seeds.seeded, fold)
                if not is_first:
                    continue
                end = _extended_right(words, text, here, items, owner, there, fold)
                if not _holds_ngram(seeds.windows, back, back + end - begin):
                    continue
                known = count - 1
                if 0 <= known < len(found) and found[known, 0] == text and found[known, 1] == owner:
                    if end - begin <= found[known, 3] - found[known, 2]:
                        continue
                else:
                    known = count
                    count += 1
                if known < len(found):
                    found[known, 0], found[known, 1], found[known, 2], found[known, 3] = text, owner, begin, end
    return count


@njit(nogil=True, cache=True)
def _extended_left(words: Any, text: Any, here: Any, items: Any, owner: Any, there: Any, seeded: Any, fold: Any) -> Any:
    """Where in the text and in the item what they share begins; false when a seed before this one leads there too."""
    first, item_first = words.offsets[text], items.offsets[owner]
    while here > first and there > item_first and _same(words, text, here - 1, items, owner, there - 1, fold):
        here -= 1
        there -= 1
        if seeded[there]:
            return here, there, False
    return here, there, True


@njit(nogil=True, cache=True)
def _extended_right(words: Any, text: Any, here: Any, items: Any, owner: Any, there: Any, fold: Any) -> Any:
    last, item_last = words.offsets[text + 1], items.offsets[owner + 1]
    while here < last and there < item_last and _same(words, text, here, items, owner, there, fold):
        here += 1
        there += 1
    return here


@njit(nogil=True, cache=True)
def _holds_ngram(windows: Any, begin: Any, end: Any) -> Any:
    """Whether an n-gram that is searched for lies between two words of an item."""
    for k in range(begin, end):
        if windows[k]:
            return windows[k] <= end
    return False
