"""One shard of packed tokens, from its draws: documents put together, cut, laid into sequences, written.

NAME.bin           ids, row after row of one sequence each; Megatron's data file
NAME.pieces.npy    what stands where (PIECE); written last but NAME.json
NAME.idx           Megatron's index
NAME.ds, .ds.index, .ds.metadata    datatrove and nanotron; .ds is the same file as .bin under another name
NAME.json          counts; it exists when the shard is done
"""

import os
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mga.data.store import committed, write_atomically, write_json
from mga.errors import StopError
from mga.packing.rows import best_fit, cut
from mga.packing.tokenise import Folders

PIECE = np.dtype(
    {
        "names": ["sequence", "start", "length", "source", "epoch", "part", "row", "offset", "begins"],
        "formats": ["<u4", "<u4", "<u4", "<u2", "<u2", "<u4", "<u4", "<u4", "?"],
    }
)
"""Neighbouring tokens of one text in one sequence, the separator or joiner behind it included: `length` from `start`
on, the text's from `offset` on. `begins`: no attention reaches further back. What no piece covers is padding."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How shards are packed. `joiner` are ids; megadocs are the numbers of the sources whose texts are stitched."""

    sequence: int
    best_fit: bool
    separator: int
    joiner: NDArray[Any]
    megadocs: tuple[int, ...]
    dtype: np.dtype[Any]
    tokenizer: str
    seed: int


def write_shard(
    path: Path, draws: NDArray[Any], names: list[str], folders: Folders, layout: Layout, number: int
) -> dict[str, Any]:
    """Write the shard `path` (without ending) of draws in order; returns its counts."""
    stream, texts, documents = _stream(draws, names, folders, layout)
    starts, lengths, sequences, at = _laid_out(documents, layout, number)
    count = int(sequences.max()) + 1 if len(sequences) else 0
    ids = np.full((count, layout.sequence), layout.separator, layout.dtype)
    flat = ids.reshape(-1)
    targets = sequences * layout.sequence + at
    for source, target, length in zip(starts.tolist(), targets.tolist(), lengths.tolist(), strict=True):
        flat[target : target + length] = stream[source : source + length]
    pieces = _pieces(draws, texts, documents, starts, lengths, sequences, at)
    _write(path, ids, pieces, None if layout.best_fit else documents, layout)
    tokens = np.bincount(draws["source"], _spans(texts, len(stream)), len(names)).astype(int)
    counts = {
        "sequences": count,
        "tokens": int(lengths.sum()),
        "documents": len(documents),
        "cut": len(lengths) - len(documents),
        "by_source": dict(zip(names, tokens.tolist(), strict=True)),
    }
    write_json(path.with_suffix(".json"), counts)
    return counts


def _stream(
    draws: NDArray[Any], names: list[str], folders: Folders, layout: Layout
) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int64]]:
    """All tokens in a row, where each text begins, and the length of each document."""
    follows = np.zeros(len(draws), bool)  # whether a text goes on with the document before it
    if layout.megadocs and len(draws):
        same = np.ones(len(draws) - 1, bool)
        for name in ("source", "epoch", "key"):
            same &= draws[name][1:] == draws[name][:-1]
        follows[1:] = same & np.isin(draws["source"][1:], layout.megadocs)
    goes_on = np.append(follows[1:], False)[: len(draws)]
    spans = draws["length"].astype(np.int64) + np.where(goes_on, len(layout.joiner), 1)
    texts = np.cumsum(spans) - spans
    stream = np.empty(int(spans.sum()), layout.dtype)
    _read(stream, texts, draws, names, folders)
    ends = texts + draws["length"]
    stream[ends[~goes_on]] = layout.separator
    for i, token in enumerate(layout.joiner.tolist()):
        stream[ends[goes_on] + i] = token
    firsts = texts[~follows]
    return stream, texts, np.diff(np.append(firsts, len(stream)))


def _read(
    stream: NDArray[Any], texts: NDArray[np.int64], draws: NDArray[Any], names: list[str], folders: Folders
) -> None:
    """Read each text's ids into its place, part by part."""
    size = stream.itemsize
    target = stream.data.cast("B")
    order = np.lexsort((draws["start"], draws["part"], draws["source"]))
    columns = [draws[name][order].tolist() for name in ("source", "part", "start", "length")]
    opened, now = -1, None
    try:
        for source, number, start, length, first in zip(*columns, texts[order].tolist(), strict=True):
            if (source, number) != now:
                if opened >= 0:
                    os.close(opened)
                path = folders.tokens(names[source], number)
                opened, now = os.open(path, os.O_RDONLY), (source, number)
            place = target[first * size : (first + length) * size]
            if os.preadv(opened, [place], start * size) != length * size:
                raise StopError(f"{path} is shorter than it was; pack anew.")
    except OSError as error:
        raise StopError(f"Cannot read the tokens in {folders.ids}: {error.strerror}.") from error
    finally:
        if opened >= 0:
            os.close(opened)


def _laid_out(
    documents: NDArray[np.int64], layout: Layout, number: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Pieces of the stream: start, length, sequence, and place in it."""
    if not layout.best_fit:
        total = int(documents.sum())
        bounds = np.unique(np.concatenate([np.cumsum(documents), np.arange(0, total + 1, layout.sequence), [0, total]]))
        starts, lengths = bounds[:-1], np.diff(bounds)
        return starts, lengths, starts // layout.sequence, starts % layout.sequence
    starts, lengths = cut(documents, layout.sequence)
    sequences, count = best_fit(lengths, layout.sequence)
    shuffled = np.random.Generator(np.random.PCG64([layout.seed, number])).permutation(count)
    sequences = shuffled[sequences] if count else sequences
    order = np.lexsort((starts, sequences))
    starts, lengths, sequences = starts[order], lengths[order], sequences[order]
    ends = np.cumsum(lengths)
    before = np.append(0, ends)[np.searchsorted(sequences, sequences)]
    return starts, lengths, sequences, ends - lengths - before


def _spans(texts: NDArray[np.int64], total: int) -> NDArray[np.int64]:
    return np.diff(np.append(texts, total))


def _pieces(
    draws: NDArray[Any],
    texts: NDArray[np.int64],
    documents: NDArray[np.int64],
    starts: NDArray[np.int64],
    lengths: NDArray[np.int64],
    sequences: NDArray[np.int64],
    at: NDArray[np.int64],
) -> NDArray[Any]:
    """PIECE for each run of tokens of one text in one sequence, in the order of the sequences."""
    inner = texts[~np.isin(texts, starts)]
    order = np.argsort(starts, kind="stable")
    owner = order[np.searchsorted(starts[order], inner, "right") - 1]  # the piece in which a text begins
    bounds = np.concatenate([starts, inner])
    of = np.concatenate([np.arange(len(starts)), owner])
    by_place = np.lexsort((bounds, of))
    bounds, of = bounds[by_place], of[by_place]
    last = np.append(of[1:] != of[:-1], True)[: len(of)]
    ends = np.where(last, starts[of] + lengths[of], np.append(bounds[1:], 0)[: len(bounds)])
    text = np.searchsorted(texts, bounds, "right") - 1
    found = np.zeros(len(bounds), PIECE)
    found["sequence"], found["start"] = sequences[of], at[of] + bounds - starts[of]
    found["length"], found["offset"] = ends - bounds, bounds - texts[text]
    for name in ("source", "epoch", "part", "row"):
        found[name] = draws[name][text]
    firsts = np.cumsum(documents) - documents
    found["begins"] = np.isin(bounds, firsts) | (found["start"] == 0) | np.isin(bounds, starts)
    return found


def _write(
    path: Path, ids: NDArray[Any], pieces: NDArray[Any], documents: NDArray[np.int64] | None, layout: Layout
) -> None:
    """All files of a shard but its counts. `documents`: lengths of documents that stand one after the other from
    beginning to end; None where pieces of them were put into sequences."""
    data = path.with_suffix(".bin")
    write_atomically(data, ids.data.cast("B") if ids.size else b"")
    ds = path.with_suffix(".ds")
    with suppress(FileNotFoundError):
        ds.unlink()
    try:
        os.link(data, ds)
    except OSError:  # a disk without hard links has the tokens twice
        write_atomically(ds, ids.data.cast("B") if ids.size else b"")
    count, sequence = ids.shape
    if documents is None:
        begun = pieces[pieces["begins"]]
        firsts = begun["sequence"].astype(np.int64) * sequence + begun["start"]
    else:
        firsts = np.cumsum(documents) - documents
    ends = np.append(firsts[1:], ids.size) if ids.size else firsts
    write_atomically(path.with_suffix(".ds.index"), ends.astype("<u8").tobytes())
    width = layout.dtype.itemsize
    described = f"{layout.tokenizer}|{width}\n{ids.size}\n{ids.size / 1e9:.3f}B tokens"
    write_atomically(path.with_suffix(".ds.metadata"), described.encode())
    sizes = np.full(count, sequence) if layout.best_fit else ends - firsts
    write_atomically(path.with_suffix(".idx"), megatron_index(sizes.astype(np.int64), width))
    beside = path.with_name(f".{path.name}.pieces.npy")
    np.save(beside, pieces)
    committed(beside, path.with_suffix(".pieces.npy"))


def megatron_index(sizes: NDArray[np.int64], width: int) -> bytes:
    """Megatron's .idx for sequences of these lengths, each a document: header, version, code of the type (uint16 is
    8, int32 is 4), counts, lengths (int32), places in bytes (int64), documents' bounds (int64)."""
    head = b"MMIDIDX\x00\x00" + struct.pack("<QBQQ", 1, 8 if width == 2 else 4, len(sizes), len(sizes) + 1)
    places = (np.cumsum(sizes) - sizes) * width
    bounds = np.arange(len(sizes) + 1)
    return head + sizes.astype("<i4").tobytes() + places.astype("<i8").tobytes() + bounds.astype("<i8").tobytes()
