"""What a generator is worth for an expansion: its pairs, its texts by rule and by judge, its speed.

    python bench/generators.py run ENGINE INPUT [--documents 60] [--pairs 2] [--split valid,test] [--judge-engine URI]
        [--config SETTINGS.toml] [--variant base] [--out FOLDER]
    python bench/generators.py table RESULT.json [RESULT.json …]

`run` expands documents as `mga expand` does: the same ones for every engine, drawn evenly over the input's column
`kind` where there is one. All replies lie in FOLDER/journal.jsonl, so that the same command continues after a stop, and
says the same again at no cost when it is through; with a larger --documents it goes on. FOLDER/result.json holds the
figures, FOLDER/texts.jsonl every text with its fate. FOLDER/readings.jsonl, if a reader has written one (a line
`{"id": …, "form": true, "audience": true, "complete": true, "about_document": false}` for each text read), is counted
in. `table` puts results beside each other as Markdown.
"""

import argparse
import asyncio
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from random import Random
from typing import Any

from mga.config import ExpandConfig, load_config
from mga.data.documents import find_files
from mga.data.reading import read
from mga.engines.engine import Reply, Request
from mga.expand.flow import Kit, expand_document
from mga.expand.limits import Limits, measure_limits
from mga.expand.pair_validity import put_right, what_is_wrong
from mga.expand.pairs import near_identical, parse_pairs
from mga.expand.recipe import Ask, Recipe
from mga.records import Document, Outcome, Pair
from mga.runs.asking import ask_all
from mga.stats import clustered_share
from mga.text.chunks import chunk
from mga.text.words import copied_share

Clusters = Sequence[tuple[int, int]]  # of each document: how many are so, of how many
READ = ("form", "audience", "complete", "about_document")


@dataclass(frozen=True, slots=True)
class Expanded:
    """Of one document: what came of each pair, and every pair that the model proposed, at once and in all."""

    outcomes: list[Outcome]
    at_once: list[Pair]
    proposed: list[Pair]


def documents_of(path: str, splits: Sequence[str], count: int) -> list[Document]:
    """So many documents, evenly over their kinds; more of them begin with the same ones."""
    rows = rows_of(path)
    chosen = [row for row in rows if not splits or row.get("split") in splits]
    by_kind: dict[str, list[dict[str, Any]]] = {}
    for row in chosen:
        by_kind.setdefault(str(row.get("kind", "")), []).append(row)
    for kind in by_kind.values():
        Random(0).shuffle(kind)
    turns = [
        kind[turn] for turn in range(max(map(len, by_kind.values()))) for kind in by_kind.values() if turn < len(kind)
    ]
    return [Document(str(row["id"]), row["text"], f"0:{n}") for n, row in enumerate(turns[:count])]


def rows_of(path: str) -> list[dict[str, Any]]:
    """The rows of a Parquet file with all their columns, or the texts and ids of any input."""
    if path.endswith(".parquet"):
        import pyarrow.parquet as pq

        return list(pq.read_table(path).to_pylist())
    return [{"id": d.source_id, "text": d.text} for d in read(find_files([path])) if isinstance(d, Document)]


def run(given: argparse.Namespace) -> None:
    """Expand the documents, or read from the journal what was asked before, and write the figures."""
    flags: dict[str, Any] = {"engine": given.engine, "judge_engine": given.judge_engine, "variant": given.variant}
    config = load_config(
        given.config, flags | ({"pairs": given.pairs} if given.variant in ("base", "strict", "relaxed") else {})
    )
    documents = documents_of(given.input, [s for s in given.split.split(",") if s], given.documents)
    given.out.mkdir(parents=True, exist_ok=True)
    limits: dict[str, Limits] = {}
    finished = 0

    async def answer(document: Document, ask: Ask, recipe: Recipe) -> Expanded:
        nonlocal finished
        if not limits:
            limits[""] = await measure_limits(recipe)
        part = (await chunk(document, limits[""].document, recipe.count_tokens))[0]
        found = await expanded(part, ask, recipe, limits[""])
        finished += 1
        kept = sum(outcome.status == "kept" for outcome in found.outcomes)
        print(
            f"{finished}/{len(documents)} {part.source_id}: {kept} of {len(found.outcomes)} kept",
            file=sys.stderr,
            flush=True,
        )
        return found

    journal = given.out / "journal.jsonl"
    asked = asyncio.run(ask_all(config.engine, config, documents, answer, journal, given.out / "logs", print))
    if asked.spent.requests:
        session = {
            "seconds": asked.seconds,
            "generated": asked.spent.generated_tokens,
            "prompt": asked.spent.prompt_tokens - asked.spent.cached_tokens,
        }
        with (given.out / "sessions.jsonl").open("a") as file:
            file.write(json.dumps(session) + "\n")
    texts = [text_row(outcome) for one in asked.answers for outcome in one.outcomes]
    with (given.out / "texts.jsonl").open("w") as file:
        file.writelines(json.dumps(text, ensure_ascii=False) + "\n" for text in texts)
    result = figures(asked.model, config, asked.answers, texts, given.out)
    (given.out / "result.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    print(table([result]))


async def expanded(document: Document, ask: Ask, recipe: Recipe, limits: Limits) -> Expanded:
    """A document as `mga expand` does it, and what the model proposed on the way."""
    replies: list[list[Pair]] = []

    async def listening(request: Request) -> Reply:
        reply = await ask(request)
        if request.purpose == "pairs":
            replies.append(parse_pairs(reply.text))
        return reply

    outcomes = await expand_document(document, Kit(listening, listening, recipe, limits))
    first = replies[0] if replies else []
    return Expanded(outcomes, first, [pair for pairs in replies for pair in pairs])


def text_row(outcome: Outcome) -> dict[str, Any]:
    """A text with its fate, for people."""
    written = outcome.reformulation
    return {
        "id": outcome.id,
        "document": outcome.document.source_id,
        "genre": outcome.pair.genre if outcome.pair else None,
        "audience": outcome.pair.audience if outcome.pair else None,
        "status": outcome.status,
        "reason": outcome.reason,
        "detail": outcome.detail,
        "score": outcome.verdict.score if outcome.verdict else None,
        "text": written.text if written else None,
        "tokens": written.n_tokens if written else 0,
        "copied": round(copied_share(outcome.document.text, written.text), 3) if written else None,
    }


def figures(
    model: str, config: ExpandConfig, answers: Sequence[Expanded], texts: Sequence[dict[str, Any]], out: Path
) -> dict[str, Any]:
    """All figures, as counts: shares and intervals are made of them where they are shown."""
    sessions = [json.loads(line) for line in lines_of(out / "sessions.jsonl")]
    readings = {row["id"]: row for row in map(json.loads, lines_of(out / "readings.jsonl"))}
    written = [text for text in texts if text["text"] is not None]
    wanted = config.pairs
    by_document = [
        [text for text in texts if text["document"] == d] for d in dict.fromkeys(t["document"] for t in texts)
    ]

    def counted(is_one: Callable[[dict[str, Any]], bool], among: Callable[[dict[str, Any]], bool]) -> Clusters:
        return [(sum(map(is_one, some)), len(some)) for all_ in by_document if (some := [*filter(among, all_)])]

    def read_as(what: str) -> Clusters:
        return counted(lambda text: bool(readings[text["id"]][what]), lambda text: text["id"] in readings)

    return {
        "model": model,
        "variant": config.variant,
        "prompts": Recipe(config, None).prompts,  # type: ignore[arg-type]
        "documents": len(answers),
        "documents_hash": blake2b("".join(sorted({t["document"] for t in texts})).encode(), digest_size=6).hexdigest(),
        "shares": {
            "pairs valid at once": [(len(valid(one.at_once)[:wanted]), wanted) for one in answers],
            "pairs in the end": counted(lambda text: text["genre"] is not None, lambda text: True),
            "texts kept by rule": counted(kept_by_rule, lambda text: text["text"] is not None),
            "near copies": counted(lambda text: text["reason"] == "near_copy", lambda text: text["text"] is not None),
            "kept in the end, of pairs wanted": counted(lambda text: text["status"] == "kept", lambda text: True),
            **{f"{what.replace('_', ' ')} (read)": read_as(what) for what in READ},
        },
        "genres": len({str(text["genre"]).casefold() for text in texts if text["genre"]}),
        "kept": sum(text["status"] == "kept" for text in texts),
        "copied_mean": round(sum(text["copied"] for text in written) / max(1, len(written)), 3),
        "reasons": dict(Counter(text["reason"] for text in texts if text["reason"]).most_common()),
        "scores": dict(sorted(Counter(str(text["score"]) for text in texts if text["score"]).items())),
        "kept_tokens": sum(text["tokens"] for text in texts if text["status"] == "kept"),
        "seconds": round(sum(session["seconds"] for session in sessions)),
        "generated_tokens": sum(session["generated"] for session in sessions),
        "prompt_tokens": sum(session["prompt"] for session in sessions),
    }


def kept_by_rule(text: dict[str, Any]) -> bool:
    """Whether cleaning keeps a text, whatever the judge says."""
    return text["status"] == "kept" or text["reason"] in ("low_score", "no_verdict")


def valid(pairs: Iterable[Pair]) -> list[Pair]:
    """The pairs that a run would take: right in themselves, and unlike the earlier ones."""
    taken: list[Pair] = []
    for pair in map(put_right, pairs):
        if not what_is_wrong(pair) and not any(near_identical(pair, other, 0.6) for other in taken):
            taken.append(pair)
    return taken


def table(results: Sequence[dict[str, Any]]) -> str:
    """Markdown: a column for each result. Shares have 95% intervals, with the texts of a document as one cluster."""
    rows: dict[str, list[str]] = {}
    for r in results:
        hours = r["seconds"] / 3600
        cells = {
            "": f"{r['model']}, {r['variant']}",
            "documents": str(r["documents"]),
            **{name: share(clusters) for name, clusters in r["shares"].items()},
            "different genres": str(r["genres"]),
            "8-grams copied, mean": f"{r['copied_mean']:.0%}",
            "reasons": ", ".join(f"{name} {count}" for name, count in r["reasons"].items()) or "–",
            "judge's scores": ", ".join(f"{score}: {count}" for score, count in r["scores"].items()) or "–",
            "generated tokens/s": f"{r['generated_tokens'] / r['seconds']:.0f}" if r["seconds"] else "–",
            "kept texts per hour": f"{r['kept'] / hours:.0f}" if hours else "–",
        }
        for name, cell in cells.items():
            rows.setdefault(name, []).append(cell)
    lines = [f"| {' | '.join([name, *cells])} |" for name, cells in rows.items()]
    return "\n".join([lines[0], "|---" * (len(results) + 1) + "|", *lines[1:]])


def share(clusters: Clusters) -> str:
    """A share with its counts and its interval; a dash where nothing was counted."""
    successes, of = (sum(numbers) for numbers in zip(*clusters, strict=True)) if clusters else (0, 0)
    if not of:
        return "–"
    found = clustered_share([(one, all_) for one, all_ in clusters])
    return f"{found.share:.0%} ({successes}/{of}, {found.low:.0%}–{found.high:.0%})"


def lines_of(path: Path) -> list[str]:
    """The lines of a file that may not be there."""
    return path.read_text().splitlines() if path.exists() else []


def main() -> None:
    """Run, or put results beside each other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run")
    running.add_argument("engine")
    running.add_argument("input")
    running.add_argument("--documents", type=int, default=60)
    running.add_argument("--pairs", type=int, default=2)
    running.add_argument("--split", default="", help="only rows with one of these in the column split")
    running.add_argument("--variant", default="base")
    running.add_argument("--judge-engine")
    running.add_argument("--config", type=Path)
    running.add_argument("--out", type=Path, default=Path("bench-generators"))
    showing = commands.add_parser("table")
    showing.add_argument("results", type=Path, nargs="+")
    given = parser.parse_args()
    if given.command == "run":
        run(given)
    else:
        print(table([json.loads(path.read_text()) for path in given.results]))


if __name__ == "__main__":
    main()
