"""A model's samples: continuations of the beginnings of real documents, and how varied they are beside the real ones.

What a model writes by itself, drawn from its own probabilities, is where lost tails show: sets of equal size, from the
same beginnings, of the model and of the people who wrote the documents, are held against each other.

sample.json       model, settings
texts/*.parquet   id, prompt, text (the model's), human (the document's own continuation, as many tokens)
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mga.checks import check_corpus
from mga.curation.diversity.spread import Vocabulary, compression_ratio, cosine_kernel, distinct_share, vendi_score
from mga.data.corpus_files import Corpus
from mga.data.output_folder import SAMPLES, open_output
from mga.data.store import write_atomically
from mga.errors import InputError
from mga.scoring.model import Scorer
from mga.scoring.texts import texts_of
from mga.scoring.token_losses import table_bytes
from mga.text.tokens import ngrams_of, tokens_of

RECORD = SAMPLES.record
ROWS = {"cpu": 32, "cuda": 256}
VENDI_TEXTS = 1000
BLEU_TEXTS = 200
BLEU_GRAMS = 4
TAIL_SHARE = 0.5
"""The tail: the rarest kinds of words of the human texts that make up half of all kinds (most stand there once)."""

_SCHEMA = pa.schema([(name, pa.large_string()) for name in ("id", "prompt", "text", "human")])


@dataclass(frozen=True, slots=True)
class Sampling:
    """`limit` texts of `tokens` tokens after `prompt` tokens of a document, drawn at `temperature` from `seed`."""

    prompt: int = 32
    tokens: int = 128
    limit: int = 256
    temperature: float = 1.0
    seed: int = 0


def write_texts(
    corpus: Corpus,
    scorer: Scorer,
    out: Path,
    about: dict[str, Any],
    sampling: Sampling,
    say: Callable[[str], None] = lambda line: None,
) -> int:
    """Continue the first documents that are long enough, into the folder `out`, new or to be continued.

    Returns the number of texts. Raises InputError when the folder holds other texts or no document is long enough.
    """
    check_corpus(corpus)
    settings = {
        **asdict(sampling),
        "corpus": corpus.fingerprint,
        "model": about["fingerprint"],
        "device": scorer.device,
    }
    with open_output(out, SAMPLES, {"settings": settings}, about) as folder:
        if not folder.is_complete:
            folder.finish({"texts": _write(corpus, scorer, out, sampling, say)})
        return int(folder.record["texts"])


def _write(corpus: Corpus, scorer: Scorer, out: Path, sampling: Sampling, say: Callable[[str], None]) -> int:
    if sampling.prompt + sampling.tokens > scorer.context:
        raise InputError(
            f"{sampling.prompt} + {sampling.tokens} tokens are more than the model reads, {scorer.context:,}."
        )
    written = 0
    for number, rows in enumerate(_batches(corpus, scorer, sampling)):
        file = out / "texts" / f"{number:05}.parquet"
        if not file.exists():
            shown = np.stack([prompt for _, prompt, _ in rows])
            made = scorer.generate(shown, sampling.tokens, sampling.temperature, sampling.seed + number)
            table = [
                {
                    "id": name,
                    "prompt": scorer.decode(prompt),
                    "text": scorer.decode(own),
                    "human": scorer.decode(human),
                }
                for (name, prompt, human), own in zip(rows, made, strict=True)
            ]
            write_atomically(file, table_bytes(pa.Table.from_pylist(table, _SCHEMA)))
        written += len(rows)
        say(f"{written:,} texts")
    if not written:
        raise InputError(
            f"No document has {sampling.prompt + sampling.tokens} tokens; choose less with --prompt, --tokens."
        )
    return written


def compare_texts(real: Path, synt: Path) -> dict[str, Any]:
    """Variety of two models' samples, from the same beginnings, and of the documents' own continuations (`human`).

    Per set: texts, distinct_1 … distinct_3, self_bleu, vendi, compression, tail_coverage (null for too little text).
    """
    tables = [_read(folder) for folder in (real, synt)]
    mine, others = ({name: i for i, name in enumerate(t["id"].to_pylist())} for t in tables)
    shared = [name for name in mine if name in others]
    if len(shared) < 2:
        raise InputError(f"{real} and {synt} do not continue the same documents.")
    first = tables[0].take([mine[name] for name in shared])
    second = tables[1].take([others[name] for name in shared])
    sets = {"human": first["human"], "real": first["text"], "synt": second["text"]}
    return variety_of({name: texts.combine_chunks() for name, texts in sets.items()})


def variety_of(sets: dict[str, pa.Array]) -> dict[str, Any]:
    """Variety of sets of texts, all measured on pieces of the size that the smallest has; `human` is the yardstick."""
    tokens = {name: tokens_of(texts) for name, texts in sets.items()}
    grams = {name: {n: ngrams_of(t, n) for n in range(1, BLEU_GRAMS + 1)} for name, t in tokens.items()}
    piece = min(len(t.hashes) for t in tokens.values())
    size = min(sum(len(text.encode()) for text in texts.to_pylist()) for texts in sets.values())
    vocabulary = Vocabulary.of(*grams["human"][1])
    tail = tail_of(grams["human"][1][0])
    found = {}
    for name, texts in sets.items():
        words, offsets = grams[name][1]
        some = [words[offsets[i] : offsets[i + 1]] for i in range(min(len(texts), VENDI_TEXTS))]
        found[name] = {
            "texts": len(texts),
            **{f"distinct_{n}": distinct_share(grams[name][n][0], piece - (n - 1) * len(texts)) for n in (1, 2, 3)},
            "self_bleu": self_bleu(grams[name]),
            "vendi": vendi_score(cosine_kernel(some, vocabulary)),
            "compression": compression_ratio([text.encode() for text in texts.to_pylist()], size),
            "tail_coverage": tail_coverage(words[:piece], tail) if len(tail) and name != "human" else None,
        }
    return found


def tail_of(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The rarest half of the different words, ties in the order of their hashes."""
    different, counts = np.unique(words, return_counts=True)
    return np.sort(different[np.argsort(counts, kind="stable")[: int(len(different) * TAIL_SHARE)]])


def tail_coverage(words: NDArray[np.uint64], tail: NDArray[np.uint64]) -> float:
    """Share of the tail's words that are used."""
    return float(np.isin(tail, words).mean())


def self_bleu(grams: dict[int, tuple[NDArray[np.uint64], NDArray[np.int64]]]) -> float | None:
    """Mean BLEU-4 of BLEU_TEXTS texts with all the others as references (Zhu et al. 2018); higher: more alike.

    Precisions are clipped by the largest count in any one reference and smoothed by one (Lin and Och 2004); the
    brevity penalty is left out, since all texts have the same number of tokens.
    """
    texts = min(len(grams[1][1]) - 1, BLEU_TEXTS)
    if texts < 2:
        return None
    logs = np.zeros(texts)
    for n in range(1, BLEU_GRAMS + 1):
        hashes, offsets = grams[n]
        counted = [np.unique(hashes[offsets[i] : offsets[i + 1]], return_counts=True) for i in range(texts)]
        best: dict[int, tuple[int, int, int]] = {}
        for i, (kinds, counts) in enumerate(counted):
            for kind, count in zip(kinds.tolist(), counts.tolist(), strict=True):
                most, owner, second = best.get(kind, (0, -1, 0))
                best[kind] = (count, i, most) if count > most else (most, owner, max(second, count))
        for i, (kinds, counts) in enumerate(counted):
            clipped = 0
            for kind, count in zip(kinds.tolist(), counts.tolist(), strict=True):
                most, owner, second = best[kind]
                clipped += min(count, second if owner == i else most)
            total = int(counts.sum())
            logs[i] += np.log((clipped + (n > 1)) / max(total + (n > 1), 1)) if clipped + (n > 1) else -np.inf
    return float(np.exp(logs / BLEU_GRAMS).mean())


def _batches(
    corpus: Corpus, scorer: Scorer, sampling: Sampling
) -> Iterator[list[tuple[str, NDArray[np.int32], NDArray[np.int32]]]]:
    """Id, prompt and human continuation of the documents that are long enough."""
    whole = sampling.prompt + sampling.tokens
    rows: list[tuple[str, NDArray[np.int32], NDArray[np.int32]]] = []
    taken = 0
    for text in texts_of(corpus, None, Counter()):
        if taken == sampling.limit:
            break
        ids = scorer.encode(text.text[: 40 * whole]).ids
        if len(ids) < whole:
            continue
        rows.append((text.id, ids[: sampling.prompt], ids[sampling.prompt : whole]))
        taken += 1
        if len(rows) == ROWS[scorer.device]:
            yield rows
            rows = []
    if rows:
        yield rows


def _read(folder: Path) -> pa.Table:
    files = sorted((folder / "texts").glob("*.parquet"))
    if not (folder / RECORD).is_file() or not files:
        raise InputError(f"{folder} holds no texts: write them with mga sample CHECKPOINT DOCS --out {folder}.")
    return pa.concat_tables(pq.read_table(file) for file in files)
