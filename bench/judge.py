"""What a judge is worth: pairs of a document and a text whose right verdict is known, and the judge's AUC on them.

    python bench/judge.py INPUT [--documents 40] [--judge-engine URI] [--out FOLDER]

The same questions as in `mga compare-prompts`, without its variants. The same --out continues after a stop.
"""

import argparse
import asyncio
from pathlib import Path
from tempfile import mkdtemp

from mga.config import load_config
from mga.data.documents import find_files
from mga.prompt_comparison.judging import ask_judge, judgements_in
from mga.prompt_comparison.questions import questions
from mga.prompt_comparison.reliability import reliability
from mga.runs.sample import sample_documents, write_sample


def main() -> None:
    """Ask the judge and print what it is worth."""
    parser = argparse.ArgumentParser()
    parser.add_argument("input")
    parser.add_argument("--documents", type=int, default=40)
    parser.add_argument("--judge-engine", default="llamacpp:smollm2-135m")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()

    folder = given.out or Path(mkdtemp(prefix="mga-judge-"))
    sample = folder / "sample.jsonl"
    if not sample.exists():
        asyncio.run(write_sample(sample, find_files([given.input]), "text", "id", given.documents, 500, 0))
    config = load_config(None, {"engine": given.judge_engine, "judging": {"expected_score": True}})
    answers = judgements_in(folder)
    if answers is None:
        asked = questions(sample_documents(sample), {}, given.documents, 0, 0)
        answers = asyncio.run(ask_judge(folder, config, asked, print))
    figures = reliability(answers, config.min_score)
    planted = figures["planted"]
    print("| judge | pairs | no verdict | AUC | 95% | expected | mean of own | of other | own dropped | other kept |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    if planted:
        low, high = planted["interval"]
        cells = [f"{planted['pairs']}", f"{planted['no_verdict']}", f"{planted['auc']:.2f}", f"{low:.2f}–{high:.2f}"]
        cells.append("–" if planted["auc_expected"] is None else f"{planted['auc_expected']:.2f}")
        cells += [f"{planted['mean_faithful']:.2f}", f"{planted['mean_unrelated']:.2f}"]
        cells += [f"{planted['faithful_dropped']:.0%}", f"{planted['unrelated_kept']:.0%}"]
        print("|", " | ".join([given.judge_engine, *cells]), "|")
    print(figures["statement"])


if __name__ == "__main__":
    main()
