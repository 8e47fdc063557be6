"""Originals and all variants on one map: t-SNE (van der Maaten and Hinton 2008) of their vectors, by scikit-learn."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mga.data.store import write_atomically
from mga.prompt_comparison.settings import ORIGINALS

PERPLEXITY = 30.0
MOST_POINTS = 5_000


def coordinates(vectors: NDArray[np.float32], seed: int) -> NDArray[np.float64]:
    """Two coordinates of each vector (points × 2), to three decimals. Equal vectors and seed give equal maps."""
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    perplexity = min(PERPLEXITY, max(1.0, (len(vectors) - 1) / 3))
    # Points that are equal (a copy of its document) would make the initial axes degenerate with too few others.
    if len(vectors) < 4:
        return np.asarray(np.round(vectors[:, :2].astype(np.float64), 3), np.float64)
    with threadpool_limits(1):  # sums in another order would draw another map
        found = TSNE(perplexity=perplexity, init="pca", random_state=seed % 2**32).fit_transform(vectors)
    return np.asarray(np.round(np.asarray(found, np.float64), 3), np.float64)


def draw(path: Path, points: Sequence[Mapping[str, Any]], places: Mapping[str, str]) -> None:
    """The map as an SVG file: originals as grey circles, each variant in a colour with its words from `places`."""
    import io

    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 6), layout="constrained")
    axes = figure.add_subplot()
    for number, (name, words) in enumerate(places.items()):
        chosen = [point for point in points if point["variant"] == name]
        style: dict[str, Any] = {"s": 14, "color": f"C{number % 10}", "marker": "osDv^<>pPX"[number % 10]}
        if name == ORIGINALS:
            style = {"s": 28, "facecolors": "none", "edgecolors": "0.35"}
        label = f"{name}: {words}" if words else name
        x, y = ([point[axis] for point in chosen] for axis in ("x", "y"))
        axes.scatter(x, y, label=label.replace("$", r"\$"), **style)
    axes.set_axis_off()
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    written = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "mga"}):  # else names in the file are drawn at random
        FigureCanvasSVG(figure)
        figure.savefig(written, format="svg", metadata={"Date": None, "Title": "Originals and variants, t-SNE"})
    write_atomically(path, written.getvalue())
