"""Whether `mga boilerplate` finds planted boilerplate and nothing else, how long it takes and how much memory.

    python bench/boilerplate.py SOURCE.parquet [--texts 1000000] [--planted 0.001] [--seed 7] [--work FOLDER]

Texts of 300 to 600 characters are made from the passages of the source (column `text`): an original is some
neighbouring sentences, and five texts are parts of it; three in a hundred are made up of Han characters. A passage is
a source.
Each planted phrase is put into its share of the texts, each at most one to a text. Controls must not be found:

    both       stands in the originals as often
    few        stands in as many texts, but of a few sources only
    rare       stands in a fifth of as many texts

A proposal is right when one of it and a planted phrase of the same place contains the other.
"""

import argparse
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mga.expand.corpus_boilerplate import Pattern, phrase_words, read_patterns
from mga.text.words import sentences

TEXTS_PER_ORIGINAL = 5
HAN_SHARE = 0.03
ROWS_AT_ONCE = 50_000
SCHEMA = pa.schema([("text", pa.string()), ("source_id", pa.string()), ("raw_text", pa.string())])

PLANTED = {
    "opening": [
        "Gather round, curious minds,",
        "Settle in with a warm drink, because",
        "What if I told you that",
        "Hello, fellow seekers of knowledge!",
        "Voilà une idée à méditer :",
        "亲爱的读者朋友们，",
    ],
    "closing": [
        "May this guide light your path.",
        "And that, dear friend, is the beauty of it all.",
        "Keep exploring, and never stop asking questions about {}.",
        "So the next time you meet {}, think of this.",
        "Bis zum nächsten Mal, liebe Hörer!",
        "让我们一起期待明天。",
    ],
    "anywhere": [
        "stands as a shining beacon of",
        "like threads in a vast tapestry",
        "it is worth pausing to consider",
        "weaves together the strands of",
        "a delicate dance between order and chaos",
        "犹如一幅美丽的画卷",
    ],
}
CONTROLS = {
    "both": ["the ancient guild of clockmakers", "under the articles of the northern league", "青铜时代的水车"],
    "few": [
        "the lighthouse keeper of the outer bank",
        "her second ledger of the voyage",
        "a bell cast in the old foundry",
    ],
    "rare": ["a symphony of quiet triumphs", "let us raise the curtain on", "the compass of our shared tomorrow"],
}
NAMES = ["the sea", "old maps", "a stranger", "bread", "winter", "your neighbour", "copper", "the wind"]


@dataclass(frozen=True)
class Result:
    """What a run of the command came to."""

    seconds: float
    peak_mb: float
    found: int
    planted: int
    right: int
    proposed: int
    controls: int

    def __str__(self) -> str:
        return (
            f"{self.seconds:.1f} s, peak {self.peak_mb:,.0f} MB\n"
            f"planted phrases found: {self.found} of {self.planted} (recall {self.found / self.planted:.3f})\n"
            f"proposals that are right: {self.right} of {self.proposed} "
            f"(precision {self.right / max(self.proposed, 1):.3f})\n"
            f"controls found: {self.controls} of {sum(map(len, CONTROLS.values()))}"
        )


def write_corpus(source: Path, out: Path, texts: int, planted: float, seed: int) -> None:
    """The corpus as one Parquet file with text, source_id and raw_text. Equal arguments give equal texts."""
    rng = random.Random(seed)
    passages = [_cut(text) for text in pq.read_table(source, columns=["text"]).column("text").to_pylist()]
    rows = _rows(rng, passages, texts, planted)
    with pq.ParquetWriter(out, SCHEMA, compression="zstd", compression_level=1) as writer:
        while held := [row for _, row in zip(range(ROWS_AT_ONCE), rows, strict=False)]:
            writer.write_table(pa.table([pa.array(column, pa.string()) for column in zip(*held, strict=True)], SCHEMA))


def _cut(text: str) -> list[str]:
    """Sentences without the title line; long ones are cut at words."""
    pieces = []
    for sentence in sentences(text.partition("\n\n")[2] or text):
        while len(sentence) > 250:
            at = sentence.rfind(" ", 100, 250) + 1 or 250
            pieces.append(sentence[:at])
            sentence = sentence[at:]
        pieces.append(sentence)
    return pieces


def _rows(rng: random.Random, passages: list[list[str]], texts: int, planted: float) -> Iterator[tuple[str, str, str]]:
    plan = _plan(rng, texts, planted)
    few = max(6, round(4 * planted * len(passages)))
    han = _Han(rng)
    for first in range(0, texts, TEXTS_PER_ORIGINAL):
        number = rng.randrange(len(passages))
        is_han = rng.random() < HAN_SHARE
        if is_han:
            pieces, source = [han.sentence() for _ in range(12)], f"han-{rng.randrange(len(passages))}"
        else:
            start = rng.randrange(max(1, len(passages[number]) - 9))
            pieces, source = passages[number][start : start + 10], f"passage-{number}"
        control = next(
            (p for p in CONTROLS["both"] if is_han == (not p.isascii()) and rng.random() < _odds(p, planted)), ""
        )
        if control:
            pieces = [*pieces[:3], f"{control} ", *pieces[3:]]
        original = "".join(pieces)
        for row in range(first, min(first + TEXTS_PER_ORIGINAL, texts)):
            text = _part(rng, pieces)
            if control:
                text = _inside(rng, text, control) if control not in text and rng.random() < 0.5 else text
            elif not is_han and number < few:
                text = _inside(rng, text, CONTROLS["few"][number % 3]) if rng.random() < 0.8 else text
            elif row in plan:
                text = _plant(rng, text, *plan[row], han)
            yield text, source, original


def _odds(control: str, planted: float) -> float:
    """How many of its originals have a control, so that the whole corpus has it as often as what is planted."""
    return 2 * planted / (HAN_SHARE if not control.isascii() else 1 - HAN_SHARE)


def _plan(rng: random.Random, texts: int, planted: float) -> dict[int, tuple[str, str]]:
    """Which row gets which phrase, and where."""
    each = round(planted * texts)
    wanted = [(phrase, where, each) for where, phrases in PLANTED.items() for phrase in phrases]
    wanted += [(phrase, "anywhere", each // 5) for phrase in CONTROLS["rare"]]
    rows = rng.sample(range(texts), sum(count for _, _, count in wanted))
    ends = list(accumulate(count for _, _, count in wanted))
    return {
        row: (phrase, where)
        for (phrase, where, count), end in zip(wanted, ends, strict=True)
        for row in rows[end - count : end]
    }


def _part(rng: random.Random, pieces: list[str]) -> str:
    """Neighbouring pieces of 300 to 600 characters, where there are so many."""
    wanted = rng.randint(300, 600)
    start = rng.randrange(max(1, len(pieces) - 3))
    text = ""
    for piece in pieces[start:]:
        if text and len(text) + len(piece) > wanted:
            break
        text += piece
    return text.strip()


def _plant(rng: random.Random, text: str, phrase: str, where: str, han: "_Han") -> str:
    is_han = any("\u4e00" <= character <= "\u9fff" for character in phrase)
    if is_han:
        text = "".join(han.sentence() for _ in range(5))
    said = phrase.format(rng.choice(NAMES))
    if where == "opening":
        return f"{said}{'' if is_han else ' '}{text}"
    if where == "closing":
        return f"{text.rstrip('.,;: ')}{'。' if is_han else '. '}{said}"
    return _inside(rng, text, said)


def _inside(rng: random.Random, text: str, phrase: str) -> str:
    """The phrase between two words in the middle third; in a text without spaces, between two characters."""
    middle = rng.randint(len(text) // 3, 2 * len(text) // 3)
    at = text.find(" ", middle) if phrase.isascii() else middle
    at = at if at >= 0 else middle
    return f"{text[:at]} {phrase} {text[at:]}" if phrase.isascii() else f"{text[:at]}{phrase}{text[at:]}"


class _Han:
    """Sentences of Han characters; the k-th is drawn about 1/k as often as the first."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._characters = [chr(0x4E00 + 7 * i) for i in range(2000)]
        self._weights = list(accumulate(1 / (i + 8) for i in range(2000)))

    def sentence(self) -> str:
        return (
            "".join(self._rng.choices(self._characters, cum_weights=self._weights, k=self._rng.randint(15, 45))) + "。"
        )


def run(corpus: Path, out: Path, planted: float) -> Result:
    """Run the command in a process of its own and compare what it proposes with what was planted."""
    code = "import typer; from mga.cli.boilerplate import boilerplate; typer.run(boilerplate)"
    options = ["--out", str(out), "--min-share", str(planted / 2)]
    started = time.monotonic()
    done = subprocess.Popen([sys.executable, "-c", code, str(corpus), *options], stdout=subprocess.DEVNULL)  # noqa: S603
    _, status, used = os.wait4(done.pid, 0)
    seconds = time.monotonic() - started
    if status != 0:
        raise SystemExit(f"mga boilerplate ended with {os.waitstatus_to_exitcode(status)}.")
    return judged(read_patterns(out), seconds, used)


def judged(proposals: list[Pattern], seconds: float, used: resource.struct_rusage) -> Result:
    """Precision, recall and controls."""
    wanted = [(where, phrase) for where, phrases in PLANTED.items() for phrase in phrases]
    right = [p for p in proposals if any(p.where == where and _same(p.phrase, phrase) for where, phrase in wanted)]
    found = [w for w in wanted if any(p.where == w[0] and _same(p.phrase, w[1]) for p in proposals)]
    controls = [c for listed in CONTROLS.values() for c in listed if any(_same(p.phrase, c) for p in proposals)]
    for proposal in proposals:
        if proposal not in right:
            print(f"wrong: {proposal.where}: {proposal.phrase}: {proposal.texts} texts, z {proposal.z}")
    for where, phrase in wanted:
        if (where, phrase) not in found:
            print(f"not found: {where}: {phrase}")
    peak_mb = used.ru_maxrss / 1024
    return Result(seconds, peak_mb, len(found), len(wanted), len(right), len(proposals), len(controls))


def _same(one: str, other: str) -> bool:
    """Whether one of two phrases contains the other; of a phrase with a blank, either side counts."""
    first = f" {' '.join(phrase_words(one))} "
    sides = (f" {' '.join(words)} " for part in other.split("{}") if len(words := phrase_words(part)) > 1)
    return any(first in side or side in first for side in sides)


def main() -> None:
    """Read the flags, make the corpus, run the command, print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("--texts", type=int, default=1_000_000)
    parser.add_argument("--planted", type=float, default=0.001, help="share of the texts that have each phrase")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--work", type=Path, help="folder that keeps the corpus and the pattern file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = arguments.work or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        corpus = work / f"texts-{arguments.texts}-{arguments.planted:g}-{arguments.seed}.parquet"
        if not corpus.exists():
            write_corpus(arguments.source, corpus, arguments.texts, arguments.planted, arguments.seed)
        out = work / "patterns.toml"
        out.unlink(missing_ok=True)
        print(run(corpus, out, arguments.planted))


if __name__ == "__main__":
    main()
