"""The loss of every token of every document under a model, as a folder that continues where it was stopped.

losses.json           model, settings and fingerprints; with `counts` once all is done
tokens/*.parquet      a row per scored token: document, position (from 0), token_id, end (the character of the text at
                      which it ends), loss and entropy (nats), top_probability, rank (1: the likeliest)
documents/*.parquet   a row per document: document (id), input (what the user named), source, text, tokens, scored,
                      bytes (of what the scored tokens spell); a shard's file here is written last and makes it done

A document begins with the model's own begin or end token, so that its first token is predicted too. Without one
(`prefix` null in losses.json) the first token is not scored.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mga.checks import check_corpus
from mga.data.corpus_files import Corpus
from mga.data.output_folder import LOSSES, open_output
from mga.data.store import write_atomically
from mga.engine_uri import public_uri
from mga.errors import InputError
from mga.scoring.model import Encoded, Scorer, TokenScores
from mga.scoring.texts import Text, texts_of

RECORD = LOSSES.record
SHARD_CHARACTERS = {"cpu": 1 << 18, "cuda": 1 << 22}
"""A minute or so of work, which is what a kill can cost."""

TOKENS = pa.schema(
    [
        ("document", pa.dictionary(pa.int32(), pa.string())),
        ("position", pa.int32()),
        ("token_id", pa.int32()),
        ("end", pa.int32()),
        ("loss", pa.float32()),
        ("entropy", pa.float32()),
        ("top_probability", pa.float32()),
        ("rank", pa.int32()),
    ]
)
DOCUMENTS = pa.schema(
    [
        ("document", pa.string()),
        ("input", pa.string()),
        ("source", pa.string()),
        ("text", pa.large_string()),
        ("tokens", pa.int32()),
        ("scored", pa.int32()),
        ("bytes", pa.int64()),
    ]
)


def measure_losses(
    corpus: Corpus,
    scorer: Scorer,
    out: Path,
    about: dict[str, Any],
    overlap: int | None = None,
    source_key: str | None = None,
    limit: int | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Score all texts of a corpus into the folder `out`, new or to be continued; the record with its counts.

    `about` names the model: `model`, `fingerprint`, and perhaps `run` and `step`. `overlap` is the least number of
    tokens that later windows of long documents have before them (None: a quarter of the context). Raises InputError
    when the folder holds other losses.
    """
    check_corpus(corpus, {"--by": source_key})
    overlap = scorer.context // 4 if overlap is None else overlap
    if not 0 <= overlap < scorer.context:
        raise InputError(f"--overlap is {overlap:,}; it must be less than the context, {scorer.context:,} tokens.")
    settings = {
        "model": about["fingerprint"],
        "corpus": corpus.fingerprint,
        "context": scorer.context,
        "overlap": overlap,
        "prefix": scorer.prefix,
        "device": scorer.device,
        "dtype": scorer.dtype,
        "shard_characters": SHARD_CHARACTERS[scorer.device],
        "text_key": corpus.text_key,
        "id_key": corpus.id_key,
        "source_key": source_key,
        "limit": limit,
    }
    versions = {name: version(name) for name in ("mga", "torch", "transformers")}
    described = {**about, "given": [public_uri(name) for name in corpus.given], "versions": versions}
    with open_output(out, LOSSES, {"settings": settings}, described) as folder:
        if folder.is_complete:
            return folder.record
        shown = 0
        skipped: Counter[str] = Counter()
        started = time.monotonic()
        for number, shard in enumerate(_shards(corpus, source_key, limit, settings["shard_characters"], skipped)):
            done = out / "documents" / f"{number:05}.parquet"
            if not done.exists():
                before = scorer.read
                tokens, documents = _score(shard, scorer, overlap)
                write_atomically(out / "tokens" / done.name, table_bytes(tokens))
                write_atomically(done, table_bytes(documents))
                shown += scorer.read - before
                speed = shown / max(time.monotonic() - started, 1e-9)
                say(f"{number + 1:,} shards, {shown:,} tokens now, {speed:,.0f} tokens/s")
        if not (out / "documents").exists():
            raise InputError(f"There is no text in the column {corpus.text_key!r} of {', '.join(corpus.given)}.")
        return folder.finish({"counts": {**_counts(out), "skipped": dict(skipped)}, "by_source": by_source(out)})


def by_source(out: Path) -> list[dict[str, Any]]:
    """Loss per source (or input, where no source is named) and of all, in a folder of losses.

    `loss` is the mean of all scored tokens in nats, `bits_per_byte` their sum over the bytes they spell.
    """
    sums: defaultdict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0, 0.0])
    for file in sorted((out / "documents").glob("*.parquet")):
        documents = pq.read_table(file, columns=["input", "source", "scored", "bytes"])
        losses = pq.read_table(out / "tokens" / file.name, columns=["loss"])["loss"].to_numpy().astype(np.float64)
        scored = documents["scored"].to_numpy()
        bounds = np.concatenate([[0], np.cumsum(scored)])
        running = np.concatenate([[0.0], np.cumsum(losses)])
        totals = running[bounds[1:]] - running[bounds[:-1]]
        names = pc.coalesce(documents["source"], documents["input"]).to_pylist()
        for name, total, count, size in zip(names, totals, scored, documents["bytes"].to_numpy(), strict=True):
            for key in (name, ""):
                sums[key] = [a + b for a, b in zip(sums[key], (1, count, total, size), strict=True)]
    everything = sums.pop("", [0.0, 0.0, 0.0, 0.0])
    return [_loss_row(name, *values) for name, values in [*sorted(sums.items()), ("all", everything)]]


def _loss_row(name: str, documents: float, tokens: float, loss: float, size: float) -> dict[str, Any]:
    return {
        "name": name,
        "documents": int(documents),
        "tokens": int(tokens),
        "loss": float(loss / tokens) if tokens else None,
        "bits_per_byte": float(loss / np.log(2) / size) if size else None,
    }


def _shards(
    corpus: Corpus, source_key: str | None, limit: int | None, characters: int, skipped: Counter[str]
) -> Iterator[list[Text]]:
    shard: list[Text] = []
    size = 0
    for number, text in enumerate(texts_of(corpus, source_key, skipped)):
        if number == limit:
            break
        shard.append(text)
        size += len(text.text)
        if size >= characters:
            yield shard
            shard, size = [], 0
    if shard:
        yield shard


def _score(shard: list[Text], scorer: Scorer, overlap: int) -> tuple[pa.Table, pa.Table]:
    """The rows of tokens/ and documents/ of some texts."""
    encoded = [scorer.encode(text.text) for text in shard]
    begin = np.asarray([] if scorer.prefix is None else [scorer.prefix], np.int32)
    scores = scorer.score([np.concatenate([begin, tokens.ids]) for tokens in encoded], overlap)
    unscored = 1 - len(begin)
    documents = [
        {
            "document": text.id,
            "input": text.input,
            "source": text.source,
            "text": text.text,
            "tokens": len(tokens.ids),
            "scored": len(found.loss),
            "bytes": _bytes_scored(text.text, tokens, unscored),
        }
        for text, tokens, found in zip(shard, encoded, scores, strict=True)
    ]
    return _token_rows(shard, encoded, scores, unscored), pa.Table.from_pylist(documents, DOCUMENTS)


def _token_rows(shard: list[Text], encoded: list[Encoded], scores: list[TokenScores], unscored: int) -> pa.Table:
    counts = [len(found.loss) for found in scores]
    names = pa.DictionaryArray.from_arrays(
        pa.array(np.repeat(np.arange(len(shard), dtype=np.int32), counts)), pa.array([text.id for text in shard])
    )
    columns = [
        np.concatenate([np.arange(unscored, unscored + count, dtype=np.int32) for count in counts]),
        np.concatenate([tokens.ids[unscored:] for tokens in encoded]),
        np.concatenate([tokens.ends[unscored:] for tokens in encoded]),
        *(
            np.concatenate([getattr(s, name) for s in scores])
            for name in ("loss", "entropy", "top_probability", "rank")
        ),
    ]
    return pa.Table.from_arrays([names, *map(pa.array, columns)], schema=TOKENS)


def _bytes_scored(text: str, tokens: Encoded, unscored: int) -> int:
    if unscored and len(tokens.ends):
        text = text[int(tokens.ends[0]) :]
    return len(text.encode())


def table_bytes(table: pa.Table) -> memoryview:
    """A table as a Parquet file; equal tables give equal bytes."""
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer, compression="zstd")
    return memoryview(buffer.getvalue())


def _counts(out: Path) -> dict[str, int]:
    totals: Counter[str] = Counter()
    for file in sorted((out / "documents").glob("*.parquet")):
        table = pq.read_table(file, columns=["tokens", "scored", "bytes"])
        totals["documents"] += table.num_rows
        for name in table.column_names:
            totals[name] += pc.sum(table[name]).as_py() or 0
    return dict(totals)
