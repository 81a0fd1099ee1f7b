"""The hand that every figure is drawn with: one style, colours for all eyes, the same bytes for the same numbers."""

import io
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation, Transform

from msd_sweeps.report.escaping import short

WIDTH = 4.8
"""Inches: a column of a page, and still readable on a telephone."""
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#8C6D31")
"""Okabe and Ito's palette, which the colour-blind can tell apart, with a brown for its pale yellow."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
BLUE, ORANGE, GREY = COLORS[0], COLORS[1], "#8A8A8A"
MANY = 1500
"""Points from which a cloud is drawn as an image inside the vector figure."""

_STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so it is the same on every machine
    "font.size": 9.0,
    "axes.titlesize": 9.0,
    "axes.labelsize": 9.0,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "legend.fontsize": 8.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "text.parse_math": False,  # a name with $ in it is a name
    "svg.fonttype": "path",
    "svg.hashsalt": "msd_sweeps",
    "pdf.fonttype": 42,
    "savefig.dpi": 150,
}


@contextmanager
def style() -> Iterator[None]:
    """Draw within this: matplotlib's defaults and our style, whatever the user's own settings."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)  # type: ignore[arg-type]
        yield


def new_figure(height: float, panels: tuple[int, int] = (1, 1)) -> tuple[Figure, list[Axes]]:
    """A figure of the common width with rows × columns of axes that share their y axis."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.subplots(*panels, squeeze=False, sharey=True)
    return figure, [axis for row in axes for axis in row]


def rendered(figure: Figure, kind: str) -> bytes:
    """The bytes of a figure as svg or pdf, without dates and program versions."""
    buffer = io.BytesIO()
    metadata = {
        "svg": {"Date": None, "Creator": None},
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    }
    figure.savefig(buffer, format=kind, metadata=metadata[kind])
    figure.set_layout_engine("none")  # a second format keeps the places that were found
    return buffer.getvalue()


def label(text: object, longest: int = 30, lines: int = 1) -> str:
    """A name as an axis can carry it; what the font has no glyph for becomes a box of its own."""
    shown = "".join(c if ord(c) < 0x2600 else "\u25a1" for c in short(str(text), longest * lines - 4 * (lines > 1)))
    return "\n".join(textwrap.wrap(shown, longest)) if len(shown) > longest else shown


def mean_with_interval(
    axis: Axes, rows: pd.DataFrame, along: str, places: "pd.Series[float]", color: str = BLUE
) -> None:
    """Means as filled markers with their intervals, along x or y; a mean without interval is hollow."""
    for place, row in zip(places, rows.itertuples(index=False), strict=True):
        certain = row.high == row.high
        half = [[row.value - row.low], [row.high - row.value]] if certain else None
        axis.errorbar(
            [place if along == "y" else row.value],
            [row.value if along == "y" else place],
            yerr=half if along == "y" else None,
            xerr=None if along == "y" else half,
            fmt="o",
            ms=5,
            color=color,
            mfc=color if certain else "white",
            elinewidth=1.5,
            capsize=3,
            zorder=3,
        )


def beside(axis: Axes, x: float = 0.0, y: float = 0.0) -> Transform:
    """The data's place moved by points on paper: for dots that stand beside a mean."""
    return axis.transData + ScaledTranslation(x / 72, y / 72, axis.get_figure(root=True).dpi_scale_trans)  # type: ignore[union-attr]


def legend_below(figure: Figure, columns: int = 2) -> None:
    """A legend under the axes; the figure grows by its height, so that the axes keep theirs."""
    texts = [str(text) for axis in figure.axes for text in axis.get_legend_handles_labels()[1]]
    rows = -(-len(texts) // columns)
    lines = 1 + max((text.count("\n") for text in texts), default=0)
    figure.set_figheight(figure.get_figheight() + 0.2 + 0.15 * rows * lines)
    figure.legend(loc="outside lower center", ncols=columns)


def turn_ticks(axis: Axes) -> None:
    """Slant the labels of the x axis, where they would touch each other upright."""
    for text in axis.get_xticklabels():
        text.set(rotation=30, ha="right", rotation_mode="anchor")


def rows_axis(axis: Axes, names: list[str]) -> None:
    """Names down the y axis, the first on top."""
    axis.set_yticks(range(len(names)), [label(name, lines=2) for name in names])
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.grid(axis="y", visible=False)


def row_height(names: Sequence[str]) -> float:
    """Height in inches of a figure with these rows."""
    return 0.75 + (0.33 if any("\n" in label(name, lines=2) for name in names) else 0.27) * len(names)
