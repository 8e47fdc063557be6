"""A corpus of any size with planted duplicates and benchmark items, for measuring work on whole corpora.

    python bench/corpus_data.py SOURCE.parquet OUT_FOLDER [--megabytes 500] [--seed 7]

Documents are sentences of the source (column `text`) in random order, so that two of them have next to nothing in
common unless it was planted. Equal arguments give equal files:

    part-00000.parquet …   id, text, source_id; about 64 MB of text each; five neighbours have one source
    labels.jsonl           a line for each planted document: id, kind and
                           exact: of, jaccard 1       another document, as it is or with other case and punctuation
                           near: of, jaccard, target  another with words replaced; its exact Jaccard similarity in
                                                      5-word shingles, and the one it was made for
                           contaminated: item         question and answer stand in it word for word
    items.jsonl            benchmark items: id, question, answer; sentences of the source that no document uses
"""

import argparse
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from mga.text.tokens import tokens_of
from mga.text.words import sentences, words

SIMILARITIES = (0.3, 0.5, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
SHINGLE = 5
FILE_BYTES = 64_000_000
ITEMS = 500
EXACT_SHARE, NEAR_SHARE, CONTAMINATED_SHARE = 0.08, 0.08, 0.01
_RECENT = 5000
_WORD = re.compile(r"[A-Za-z]+")


def jaccard(one: str, other: str, n: int = SHINGLE) -> float:
    """Exact Jaccard similarity of two texts' sets of n-word shingles."""
    tokens = (tokens_of(pa.array([text])).hashes.tolist() for text in (one, other))
    left, right = ({tuple(own[i : i + n]) for i in range(len(own) - n + 1)} for own in tokens)
    return len(left & right) / len(left | right)


def near_copy(text: str, target: float, random_: random.Random) -> str:
    """The text with as many words replaced, far enough from each other, as leave it at least that similar.

    Of S shingles, m replaced words change n·m, so the similarity is (S - nm) / (S + nm).
    """
    places = list(_WORD.finditer(text))
    shingles = len(words(text)) - SHINGLE + 1
    changes = int(shingles * (1 - target) / (SHINGLE * (1 + target)))
    every = max(SHINGLE, (len(places) - 2 * SHINGLE) // max(changes, 1))
    copy, end = [], 0
    for number in range(changes):
        at = SHINGLE + number * every
        if at >= len(places) - SHINGLE:
            break
        copy += [text[end : places[at].start()], f"zq{random_.randrange(10**9)}x"]
        end = places[at].end()
    return "".join([*copy, text[end:]])


class Maker:
    """Makes documents one after the other, with a label for each that is planted."""

    def __init__(self, texts: list[str], seed: int) -> None:
        self._random = random.Random(seed)
        found = [s.strip() for text in texts for s in sentences(text) if 40 <= len(s) <= 600]
        found = list(dict.fromkeys(found))
        self._random.shuffle(found)
        long = [s for s in found if len(words(s)) >= 16][: 2 * ITEMS]
        taken = set(long)
        self._sentences = [s for s in found if s not in taken]
        self.items = [
            {"id": f"item-{i:04}", "question": question, "answer": answer}
            for i, (question, answer) in enumerate(zip(long[::2], long[1::2], strict=True))
        ]
        self._recent: list[dict[str, str]] = []

    def documents(self) -> Iterator[tuple[dict[str, str], dict[str, Any] | None]]:
        """Rows without end, each with its label or None."""
        number = 0
        while True:
            name = f"d{number:08}"
            text, label = self._planted() if len(self._recent) > 100 else (self._text(), None)
            row = {"id": name, "text": text, "source_id": f"s{number // 5:07}"}
            if label is None:
                self._recent.append(row)
                if len(self._recent) > _RECENT:
                    self._recent.pop(0)
            yield row, None if label is None else {"id": name, **label}
            number += 1

    def _text(self) -> str:
        chosen = self._random.choices(self._sentences, k=self._random.randint(12, 40))
        return "\n\n".join(" ".join(chosen[i : i + 6]) for i in range(0, len(chosen), 6))

    def _planted(self) -> tuple[str, dict[str, Any] | None]:
        draw = self._random.random()
        if draw < EXACT_SHARE:
            of = self._taken()
            return self._exact_copy(of["text"]), {"kind": "exact", "of": of["id"], "jaccard": 1.0}
        draw -= EXACT_SHARE
        if draw < NEAR_SHARE:
            of, target = self._taken(), self._random.choice(SIMILARITIES)
            text = near_copy(of["text"], target, self._random)
            found = jaccard(of["text"], text)
            return text, {"kind": "near", "of": of["id"], "jaccard": found, "target": target}
        draw -= NEAR_SHARE
        if draw < CONTAMINATED_SHARE:
            item = self._random.choice(self.items)
            head, tail = self._text(), self._text()
            text = f"{head}\n\n{item['question']}\n{item['answer']}\n\n{tail}"
            return text, {"kind": "contaminated", "item": item["id"]}
        return self._text(), None

    def _taken(self) -> dict[str, str]:
        """A recent document, each at most once, so that pairs are all that is planted."""
        return self._recent.pop(self._random.randrange(len(self._recent)))

    def _exact_copy(self, text: str) -> str:
        changes = (lambda t: t, str.upper, lambda t: t.replace(", ", " – "), lambda t: f"  {t}\n")
        return self._random.choice(changes)(text)


def write(source: Path, out: Path, megabytes: int, seed: int) -> int:
    """Write the corpus; returns the number of its documents."""
    out.mkdir(parents=True, exist_ok=True)
    maker = Maker(pq.read_table(source, columns=["text"])["text"].to_pylist(), seed)
    (out / "items.jsonl").write_bytes(b"".join(orjson.dumps(item) + b"\n" for item in maker.items))
    rows: list[dict[str, str]] = []
    total = held = files = documents = 0
    with (out / "labels.jsonl").open("wb") as labels:
        for row, label in maker.documents():
            rows.append(row)
            held += len(row["text"].encode())
            documents += 1
            if label:
                labels.write(orjson.dumps(label) + b"\n")
            done = total + held >= megabytes * 1_000_000
            if held >= FILE_BYTES or done:
                pq.write_table(pa.Table.from_pylist(rows), out / f"part-{files:05}.parquet", compression="zstd")
                total, held, files, rows = total + held, 0, files + 1, []
            if done:
                return documents
    raise AssertionError("there is no end to documents")


def main() -> None:
    """Read the flags and write the corpus."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    documents = write(arguments.source, arguments.out, arguments.megabytes, arguments.seed)
    print(f"{documents:,} documents in {arguments.out}")


if __name__ == "__main__":
    main()
