"""Where texts of known origin lie beside a corpus: what the thresholds of `mga compare-prompts` are set by.

    python bench/prompt_comparison_controls.py CORPUS [--documents 200] [--kind kind] [--embedder NAME]

CORPUS is Parquet or JSON Lines. With a column of kinds, texts of another kind are the unrelated ones from elsewhere.
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow.dataset as ds

from mga.embedders.choose import choose_embedder
from mga.embedders.names import DEFAULT
from mga.embedders.vectors import Vectors
from mga.prompt_comparison.overlap import overlap, place
from mga.prompt_comparison.planted import of_others, shortened
from mga.text.words import KEYWORDS, keywords, sentences


def main() -> None:
    """Place texts of known origin beside the originals and print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--documents", type=int, default=200)
    parser.add_argument("--kind")
    parser.add_argument("--embedder", default=DEFAULT)
    given = parser.parse_args()

    columns = ["text", *([given.kind] if given.kind else [])]
    table = ds.dataset(given.corpus, format="parquet" if given.corpus.suffix == ".parquet" else "json").to_table(
        columns
    )
    rng = np.random.default_rng(0)
    rows = table.take(rng.permutation(table.num_rows)).to_pylist()
    sets = {"all kinds": rows}
    if given.kind:
        counts = {kind: sum(row[given.kind] == kind for row in rows) for kind in {row[given.kind] for row in rows}}
        for kind in sorted(counts, key=lambda kind: -counts[kind])[:2]:
            sets[str(kind)] = [row for row in rows if row[given.kind] == kind]

    print(
        "| originals | texts | close | quartiles | own nearest | coverage | density | outside | MMD² | p | in words |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    with TemporaryDirectory() as folder:
        vectors = Vectors(Path(folder) / "v.parquet", lambda: choose_embedder(given.embedder), lambda line: None)
        for name, chosen in sets.items():
            originals = [row["text"][:2000] for row in chosen[: given.documents]]
            others = {
                "copies": originals,
                "every third sentence left out": [shortened(text) for text in originals],
                "every second sentence": ["".join(sentences(text)[::2]) for text in originals],
                "first sentence": [sentences(text)[0] for text in originals],
                f"{KEYWORDS} keywords": [" ".join(keywords(text)) for text in originals],
                "other documents": of_others(originals),
            }
            if name != "all kinds":
                elsewhere = [row["text"][:2000] for row in rows if str(row[given.kind]) != name]
                others["documents of other kinds"] = elsewhere[: len(originals)]
            found = vectors.of(originals)
            every = list(range(len(originals)))
            stays = 1.0
            for what, texts in others.items():
                figures = overlap(found, vectors.of(texts), every, every)
                stays = figures["closeness"] if what.startswith("every third") else stays
                low, _, high = figures["closeness_quartiles"]
                cells = [f"{figures['closeness']:.2f}", f"{low:.2f}–{high:.2f}", f"{figures['own_nearest']:.0%}"]
                cells += [f"{figures['coverage']:.2f}", f"{figures['density']:.2f}", f"{figures['outside']:.0%}"]
                cells += [f"{figures['mmd']:.4f}", f"{figures['mmd_p']:.3f}", place(figures, stays)]
                print("|", " | ".join([name, what, *cells]), "|")


if __name__ == "__main__":
    main()
