"""What a page is made of: sections, each of blocks. A block is data; `assets/blocks.js` has a function for each kind.

All text in them is shown as text, whatever it says. Numbers are written with separators by the page.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias


@dataclass(frozen=True, slots=True)
class Label:
    """A cell with words: indented by `level`, and a link to a place in the page when it has one (`to`, "#…")."""

    label: str
    level: int = 0
    to: str | None = None


@dataclass(frozen=True, slots=True)
class Share:
    """A cell with a bar from 0 to 1 and the number in words beside it."""

    share: float
    words: str


Cell: TypeAlias = str | int | float | Label | Share | None


@dataclass(frozen=True, slots=True)
class Prose:
    """A paragraph."""

    text: str
    kind: Literal["prose"] = "prose"


@dataclass(frozen=True, slots=True)
class Code:
    """Text as it stands, line for line."""

    text: str
    kind: Literal["code"] = "code"


@dataclass(frozen=True, slots=True)
class Tiles:
    """A few large figures: (what, figure, remark)."""

    caption: str
    figures: Sequence[tuple[str, str, str]]
    kind: Literal["tiles"] = "tiles"


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under column names; the first cell of a row names the row."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    kind: Literal["table"] = "table"


@dataclass(frozen=True, slots=True)
class Bars:
    """A panel for each series, a bar for each label: `values[series][label]` are shares (0–1) of that series,
    `counts` what they are shares of. Upright bars are for labels with an order."""

    caption: str
    series: Sequence[str]
    labels: Sequence[str]
    values: Sequence[Sequence[float]]
    counts: Sequence[Sequence[int]]
    upright: bool = False
    kind: Literal["bars"] = "bars"


@dataclass(frozen=True, slots=True)
class Histogram:
    """A panel for each series: `counts[series][i]` values lie from `edges[i]` to `edges[i + 1]`; `beyond[series]` are
    larger than all edges. `medians` are marked (null: none). `expected[series]` is drawn behind the bars: the shares in
    which chance puts values into each bin (no series, or None: nothing is drawn)."""

    caption: str
    unit: str
    series: Sequence[str]
    edges: Sequence[float]
    counts: Sequence[Sequence[int]]
    beyond: Sequence[int]
    medians: Sequence[float | None]
    expected: Sequence["Band | None"] = ()
    kind: Literal["histogram"] = "histogram"


@dataclass(frozen=True, slots=True)
class Band:
    """Values with their intervals."""

    low: Sequence[float | None]
    middle: Sequence[float | None]
    high: Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Points:
    """A map: point i of `series[of[i]]` lies at (x[i], y[i]) and says `labels[i]`. Axes are drawn when they have a
    name; with `diagonal` the line x = y too."""

    caption: str
    series: Sequence[str]
    of: Sequence[int]
    x: Sequence[float]
    y: Sequence[float]
    labels: Sequence[str]
    x_name: str = ""
    y_name: str = ""
    diagonal: bool = False
    kind: Literal["points"] = "points"


@dataclass(frozen=True, slots=True)
class Lines:
    """Curves over one pair of axes: that of `series[i]` goes through `x[i]`, `y[i].middle`, with the band between
    `y[i].low` and `y[i].high` where they are given. With `diagonal` the line x = y is drawn, else y = 0 if that is
    near."""

    caption: str
    x_name: str
    y_name: str
    series: Sequence[str]
    x: Sequence[Sequence[float]]
    y: Sequence[Band]
    diagonal: bool = False
    kind: Literal["lines"] = "lines"


@dataclass(frozen=True, slots=True)
class Intervals:
    """A panel for each series, and in it a value with its interval for each label (None: there is none)."""

    caption: str
    unit: str
    series: Sequence[str]
    labels: Sequence[str]
    values: Sequence[Band]
    kind: Literal["intervals"] = "intervals"


Mark: TypeAlias = Literal["", "much-worse", "worse", "better", "here"]


@dataclass(frozen=True, slots=True)
class Marked:
    """A text in pieces, some of them marked; `note` says what is to be known of it."""

    caption: str
    note: str
    pieces: Sequence[tuple[str, Mark]]
    kind: Literal["marked"] = "marked"


@dataclass(frozen=True, slots=True)
class Folded:
    """Blocks behind a line that opens them."""

    summary: str
    blocks: Sequence["Block"]
    kind: Literal["folded"] = "folded"


Block: TypeAlias = Prose | Code | Tiles | Table | Bars | Histogram | Points | Lines | Intervals | Marked | Folded


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page with a heading, reached by #id."""

    id: str
    title: str
    blocks: Sequence[Block]
