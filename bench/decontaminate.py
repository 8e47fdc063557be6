"""How fast `mga decontaminate` is, and what it finds.

    python bench/decontaminate.py CORPUS [--items items.jsonl] [--documents 2000]
    python bench/decontaminate.py --quality      precision and recall on a labelled set, by kind
    python bench/decontaminate.py --index        memory and time of an index of ten million n-grams

The first searches a folder of Parquet (CORPUS) for the items of a file of JSON Lines with the field question (if not
given, CORPUS/items.jsonl): `mga decontaminate` with one thread and with two on the whole corpus, datatrove's n-gram
filter with the same 13 words on the first --documents, since it takes minutes for few. Both read Parquet and write what
they keep as Parquet; each runs in a process of its own, and the rate is without start-up and index. datatrove runs in
.venv-peers/corpus (python3 -m venv .venv-peers/corpus, then pip install "datatrove[processing]" spacy xxhash). Its
indexer asks for lighteval, needed for tasks from the hub alone, so its index is made here, from its tokens and hashes.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

PEER = Path(__file__).parents[1] / ".venv-peers" / "corpus" / "bin" / "python"
NGRAM = 13
PER_KIND = 50
SYLLABLES = ["ba", "ce", "dor", "fi", "gul", "ha", "jen", "ko", "lam", "mi", "nar", "os", "pel", "qui", "ras", "tov"]


# ── quality ──


@dataclass(frozen=True, slots=True)
class Labelled:
    """A text of one kind, and the id of the item it holds; None: it holds none."""

    kind: str
    text: str
    item: str | None


def labelled_set(per_kind: int = PER_KIND, seed: int = 7) -> tuple[list[dict[str, object]], list[Labelled]]:
    """Items of benchmarks, and texts that hold one of them or, by a hair, none."""
    items: list[dict[str, object]] = []
    texts: list[Labelled] = []
    for kind, (make, holds) in KINDS.items():
        for number in range(per_kind):
            chance = random.Random(f"{seed} {kind} {number}")
            item, planted = make(chance)
            items.append({"id": f"{kind} {number}", **item})
            before, after = _prose(chance, 120), _prose(chance, 80)
            texts.append(Labelled(kind, f"{before} {planted} {after}", f"{kind} {number}" if holds else None))
    return items, texts


def _word(chance: random.Random) -> str:
    return "".join(chance.choices(SYLLABLES, k=chance.randint(2, 4)))


def _words(chance: random.Random, count: int) -> list[str]:
    return [_word(chance) for _ in range(count)]


def _sentence(chance: random.Random, count: int, end: str = ".") -> str:
    words = _words(chance, count)
    words[count // 2] += ","
    return " ".join(words).capitalize() + end


def _prose(chance: random.Random, count: int) -> str:
    return " ".join(_sentence(chance, 12) for _ in range(count // 12))


def _characters(chance: random.Random, first: int, last: int, count: int) -> str:
    return "".join(chr(chance.randint(first, last)) for _ in range(count))


def _han(chance: random.Random, count: int) -> str:
    return _characters(chance, 0x4E00, 0x9FA5, count)


def _verbatim(chance: random.Random) -> tuple[dict[str, object], str]:
    question = _sentence(chance, 30, "?")
    return {"question": question}, question


def _restyled(chance: random.Random) -> tuple[dict[str, object], str]:
    words = _words(chance, 30)
    marks = ["", ",", ";", "…", "»", "\n"]
    return {"question": " ".join(words) + "?"}, " ".join(w.upper() + chance.choice(marks) for w in words)


def _sentences_reordered(chance: random.Random) -> tuple[dict[str, object], str]:
    sentences = [_sentence(chance, 16) for _ in range(3)]
    return {"problem": " ".join(sentences)}, " ".join(sentences[::-1])


def _choices_reordered(chance: random.Random) -> tuple[dict[str, object], str]:
    question, choices = _sentence(chance, 18, "?"), [_sentence(chance, 4) for _ in range(4)]
    shown = "\n".join(f"{letter}. {text}" for letter, text in zip("ABCD", choices[::-1], strict=True))
    return {"question": question, "choices": choices, "answer": 1}, f"{question}\n{shown}"


def _one_passage(chance: random.Random) -> tuple[dict[str, object], str]:
    words = _words(chance, 60)
    start = chance.randint(0, 60 - NGRAM)
    return {"passage": " ".join(words)}, " ".join(words[start : start + NGRAM])


def _chinese(chance: random.Random) -> tuple[dict[str, object], str]:
    text = _han(chance, 36)
    return {"question": f"{text[:18]}，{text[18:]}？"}, f"{text}。"


def _chinese_spaced(chance: random.Random) -> tuple[dict[str, object], str]:
    text = _han(chance, 36)
    return {"question": text}, " ".join(text)


def _japanese(chance: random.Random) -> tuple[dict[str, object], str]:
    text = "".join(
        _han(chance, 1) if chance.random() < 0.4 else _characters(chance, 0x3042, 0x3082, 1) for _ in range(40)
    )
    return {"question": text}, f"「{text}」"


def _thai(chance: random.Random) -> tuple[dict[str, object], str]:
    text = _characters(chance, 0x0E01, 0x0E2E, 70)
    return {"question": text}, text


def _korean(chance: random.Random) -> tuple[dict[str, object], str]:
    text = " ".join(_characters(chance, 0xAC00, 0xD7A3, 3) for _ in range(20))
    return {"question": text}, unicodedata.normalize("NFC", text).replace(" ", "\u00a0")


def _decomposed(chance: random.Random) -> tuple[dict[str, object], str]:
    text = " ".join(word.replace("e", "é").replace("o", "ö").replace("a", "ñ") for word in _words(chance, 25))
    return {"question": text}, unicodedata.normalize("NFD", text)


def _full_width(chance: random.Random) -> tuple[dict[str, object], str]:
    text = _sentence(chance, 25)
    return {"question": text}, "".join(chr(ord(c) + 0xFEE0) if c.isascii() and c.isalpha() else c for c in text)


def _short_item(chance: random.Random) -> tuple[dict[str, object], str]:
    question = _sentence(chance, chance.randint(8, 12), "?")
    return {"question": question}, question


def _with_answer(chance: random.Random) -> tuple[dict[str, object], str]:
    question, choices = _sentence(chance, 6, "?"), [_sentence(chance, 4) for _ in range(4)]
    item = {"question": question, "choices": {"text": choices, "label": list("ABCD")}, "answerKey": "C"}
    return item, f"{question} {choices[2]}"


def _blank_filled(chance: random.Random) -> tuple[dict[str, object], str]:
    left, right, name, other = _words(chance, 6), _words(chance, 6), *_words(chance, 2)
    item = {"sentence": " ".join([*left, "_", *right]), "option1": other, "option2": name, "answer": "2"}
    return item, " ".join([*left, name, *right])


def _changed_each_13th(chance: random.Random) -> tuple[dict[str, object], str]:
    words = _words(chance, 39)
    near = [f"x{word}" if i % NGRAM == NGRAM - 1 else word for i, word in enumerate(words)]
    return {"question": " ".join(words)}, " ".join(near)


def _short_changed(chance: random.Random) -> tuple[dict[str, object], str]:
    words = _words(chance, chance.randint(8, NGRAM))
    near = list(words)
    near[chance.randrange(len(near))] += "x"
    return {"question": " ".join(words)}, " ".join(near)


def _shuffled(chance: random.Random) -> tuple[dict[str, object], str]:
    words = _words(chance, 30)
    return {"question": " ".join(words)}, " ".join(chance.sample(words, len(words)))


def _short_answer(chance: random.Random) -> tuple[dict[str, object], str]:
    answer = _word(chance).capitalize()
    return {"question": _sentence(chance, 12, "?"), "answer": answer}, f"He went to {answer}, and stayed in {answer}."


def _chinese_near(chance: random.Random) -> tuple[dict[str, object], str]:
    text = _han(chance, 40)
    return {"question": text}, f"{text[:19]}。"


def _chinese_short(chance: random.Random) -> tuple[dict[str, object], str]:
    text = _han(chance, 9)
    return {"question": text}, text


def _template_stem(chance: random.Random) -> tuple[dict[str, object], str]:
    stem = "Read the text above with care and then say which of the following four sentences is the one that fits"
    return {"question": f"{stem} {_sentence(chance, 10)}"}, f"{stem}: nothing."


Make = Callable[[random.Random], tuple[dict[str, object], str]]
KINDS: dict[str, tuple[Make, bool]] = {
    "verbatim": (_verbatim, True),
    "case and punctuation": (_restyled, True),
    "sentences reordered": (_sentences_reordered, True),
    "choices reordered": (_choices_reordered, True),
    "13 words of a passage": (_one_passage, True),
    "Chinese": (_chinese, True),
    "Chinese, with spaces": (_chinese_spaced, True),
    "Japanese": (_japanese, True),
    "Thai": (_thai, True),
    "Korean": (_korean, True),
    "accents decomposed": (_decomposed, True),
    "full width": (_full_width, True),
    "item of 8 to 12 words": (_short_item, True),
    "short question and answer": (_with_answer, True),
    "blank filled in": (_blank_filled, True),
    "each 13th word changed": (_changed_each_13th, False),
    "short item, one word changed": (_short_changed, False),
    "words shuffled": (_shuffled, False),
    "short answer alone": (_short_answer, False),
    "19 Han characters of 40": (_chinese_near, False),
    "item of 9 Han characters": (_chinese_short, False),
    "template of many items": (_template_stem, False),
}


def print_quality(seed: int) -> None:
    """The table of kinds."""
    import pyarrow as pa

    from mga.curation.contamination.benchmarks import read_benchmarks
    from mga.curation.contamination.decontaminate import Limits, build_index, find_matches
    from mga.data.documents import find_files

    items, texts = labelled_set(seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "items.jsonl"
        path.write_bytes(b"".join(json.dumps(item).encode() + b"\n" for item in items))
        index = build_index(read_benchmarks(find_files([str(path)])), Limits())
    found: list[set[str]] = [set() for _ in texts]
    for match in find_matches(index, pa.array([text.text for text in texts], pa.large_string())):
        found[match.row].add(index.benchmarks.items[match.item].id)
    print("| kind | texts | should match | right item found | wrong matches |")
    print("|---|---|---|---|---|")
    right = wrong = wanted = 0
    for kind in KINDS:
        rows = [(text, items) for text, items in zip(texts, found, strict=True) if text.kind == kind]
        hits = sum(text.item in items for text, items in rows if text.item)
        others = sum(len(items - {text.item}) for text, items in rows)
        positives = sum(text.item is not None for text, _ in rows)
        print(f"| {kind} | {len(rows)} | {positives} | {hits} | {others} |")
        right, wrong, wanted = right + hits, wrong + others, wanted + positives
    print(f"\nprecision {right / (right + wrong):.3f}, recall {right / wanted:.3f}")


# ── speed ──


def run_ours(corpus: Path, items: Path, threads: int) -> dict[str, float]:
    """Documents, seconds and CPU seconds of the command's work, index apart."""
    from dataclasses import asdict

    import pyarrow.parquet as pq

    from mga.curation.contamination.benchmarks import read_benchmarks
    from mga.curation.contamination.decontaminate import Limits, build_index, decontaminate, find_matches
    from mga.curation.stage import Stage
    from mga.data.corpus_files import open_corpus
    from mga.data.documents import find_files

    started = time.perf_counter()
    limits = Limits(NGRAM)
    index = build_index(read_benchmarks(find_files([str(items)])), limits)
    built = time.perf_counter() - started
    files = open_corpus([str(path) for path in parquet_files(corpus)])
    first = next(files.batches(files.files[0], ["text"]))
    find_matches(index, first.column("text").slice(0, 100))  # compiles, where that was not done before
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage(Path(folder) / "out", "decontaminate", files, asdict(limits))
        wall, cpu = time.perf_counter(), time.process_time()
        with stage.work():
            counts = decontaminate(stage, index, threads)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        dropped = pq.read_table(stage.folder / "dropped", columns=["id"])["id"].to_pylist() if counts.reasons else []
    planted = planted_in(corpus)
    return {
        "documents": counts.rows,
        "contaminated": counts.rows - counts.kept,
        "seconds": wall,
        "cpu": cpu,
        "index": built,
        "planted": len(planted),
        "found": len(planted.intersection(dropped)),
    }


def run_datatrove(corpus: Path, items: Path, documents: int) -> dict[str, float]:
    """The same through datatrove's reader, filter and writer; runs in its own environment."""
    import numpy as np
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.decont.n_grams import NGramsDecontConfig, NGramsDecontFilter
    from datatrove.pipeline.readers import ParquetReader
    from datatrove.pipeline.writers import ParquetWriter
    from datatrove.utils.text import ngrams, simplify_text

    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        index, config = Path(folder) / "index", NGramsDecontConfig(n_grams=NGRAM)
        index.mkdir()
        step = NGramsDecontFilter(str(index), config)
        with items.open("rb") as lines:
            words = (
                step.tokenizer.word_tokenize(simplify_text(json.loads(line)["question"], config.norm_config))
                for line in lines
            )
            hashes = {step.hash_func(" ".join(gram)) for held in words for gram in ngrams(held, NGRAM)}
        np.array(sorted(hashes), config.hash_config.np_descr).tofile(index / "items.index.hashes")
        step.load_index_hashes()
        built = time.perf_counter() - started
        read = ParquetReader(str(corpus), glob_pattern="*.parquet", limit=documents)
        write = ParquetWriter(f"{folder}/kept", compression="zstd")
        wall, cpu = time.perf_counter(), time.process_time()
        stats = LocalPipelineExecutor([read, step, write], tasks=1, logging_dir=f"{folder}/logs").run()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        counted = stats.stats[1].stats
    return {
        "documents": counted["total"].total,
        "contaminated": counted["dropped"].total if "dropped" in counted else 0,
        "seconds": wall,
        "cpu": cpu,
        "index": built,
    }


def planted_in(corpus: Path) -> set[str]:
    """Ids of the documents that hold an item, where the corpus is one that `corpus_data.py` has made."""
    labels = corpus / "labels.jsonl"
    lines = labels.read_bytes().splitlines() if labels.exists() else []
    return {label["id"] for label in map(json.loads, lines) if label["kind"] == "contaminated"}


def parquet_files(corpus: Path) -> list[Path]:
    return sorted(corpus.glob("*.parquet"))


def print_speed(arguments: argparse.Namespace) -> None:
    """The table of rates."""
    items = arguments.items or arguments.corpus / "items.jsonl"
    print("| | threads | documents | contaminated | seconds | documents/s | documents/s and core | index s | peak MB |")
    print("|---|---|---|---|---|---|---|---|---|")
    rates: dict[str, float] = {}
    found = ""
    for name, threads in [("mga decontaminate", 1), ("mga decontaminate", 2), ("datatrove", 1)]:
        python = PEER if name == "datatrove" else Path(sys.executable)
        if not python.exists():
            print(f"| {name} | {python} is not there; see --help |")
            continue
        amount = arguments.documents if name == "datatrove" else threads
        command = [python, __file__, "--inside", name, arguments.corpus, items, str(amount)]
        done = subprocess.run(command, capture_output=True, text=True)  # noqa: S603
        if done.returncode:
            raise SystemExit(f"{name} ended with an error:\n{done.stderr[-2000:]}")
        it = json.loads(done.stdout.splitlines()[-1])
        rates.setdefault(name, it["documents"] / it["cpu"])
        row = [name, f"{threads}", f"{it['documents']:,.0f}", f"{it['contaminated']:,.0f}", f"{it['seconds']:.1f}"]
        row += [f"{it['documents'] / it['seconds']:,.0f}", f"{it['documents'] / it['cpu']:,.0f}"]
        print("| " + " | ".join([*row, f"{it['index']:.1f}", f"{it['peak']:,.0f}"]) + " |", flush=True)
        if it.get("planted"):
            found = f"{it['found']:,} of {it['planted']:,} planted documents found"
    if found:
        print(f"\n{found}")
    if len(rates) == 2:
        print(f"\nPer core, mga does {rates['mga decontaminate'] / rates['datatrove']:.0f} times the documents.")


def run_one(name: str, corpus: Path, items: Path, amount: int) -> None:
    """In a process of its own: do the job and print its figures."""
    figures = (run_datatrove if name == "datatrove" else run_ours)(corpus, items, amount)
    figures["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(figures))


def print_index(million: int, seed: int) -> None:
    """Memory and time of an index of so many million n-grams, of questions of 60 words."""
    from mga.curation.contamination.benchmarks import Benchmarks, Item, ItemText
    from mga.curation.contamination.decontaminate import Limits, build_index

    chance = random.Random(seed)
    vocabulary = _words(chance, 50_000)
    texts = tuple(_drawn(chance, vocabulary, million * 1_000_000 // (60 - NGRAM + 1)))
    items = tuple(Item(str(i), "drawn", i) for i in range(len(texts)))
    benchmarks = Benchmarks(
        items, tuple(ItemText(text, "question", 0) for text in texts), tuple((i,) for i in range(len(texts)))
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    started = time.perf_counter()
    index = build_index(benchmarks, Limits(NGRAM))
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{index.ngrams:,} n-grams of {len(items):,} items: {seconds:.1f} s, {index.bytes / 1e6:,.0f} MB "
        f"({index.bytes / index.ngrams:.0f} bytes an n-gram), {peak - before:,.0f} MB while it is built"
    )


def _drawn(chance: random.Random, vocabulary: list[str], count: int) -> Iterator[str]:
    for _ in range(count):
        yield " ".join(chance.choices(vocabulary, k=60))


def main() -> None:
    """Read the flags and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, nargs="?", help="folder of Parquet files")
    parser.add_argument("--items", type=Path, help="JSON Lines with the field question")
    parser.add_argument("--documents", type=int, default=2000, help="how many datatrove gets")
    parser.add_argument("--quality", action="store_true", help="precision and recall instead")
    parser.add_argument("--index", type=int, nargs="?", const=10, help="an index of so many million n-grams instead")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--inside", nargs=4, metavar=("NAME", "CORPUS", "ITEMS", "AMOUNT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        name, corpus, items, amount = arguments.inside
        run_one(name, Path(corpus), Path(items), int(amount))
    elif arguments.quality:
        print_quality(arguments.seed)
    elif arguments.index:
        print_index(arguments.index, arguments.seed)
    elif arguments.corpus:
        print_speed(arguments)
    else:
        parser.error("name the folder of a corpus, or --quality, or --index")


if __name__ == "__main__":
    main()
