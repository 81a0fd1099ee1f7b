"""What all figures share: one style, colours for the colour-blind, axes, legends, the same bytes for the same numbers."""

import io
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from matplotlib.transforms import ScaledTranslation

from msd_sweeps.report.escaping import short

WIDTH = 4.8
"""Inches: a column of a page, and still readable on a telephone."""
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#8C6D31")
"""Okabe and Ito's palette, which the colour-blind can tell apart, with a brown for its pale yellow."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
BLUE, ORANGE, GREY = COLORS[0], COLORS[1], "#8A8A8A"
MANY = 1500
"""Points from which a cloud is drawn as an image inside the vector figure."""
MOST_ROWS = 30
"""Rows that a figure with a row a cell or effect shows; its CSV has them all."""
MOST_LEVELS = 12
"""Levels that an axis without numbers shows."""


class Look(NamedTuple):
    """How one thing is drawn in all figures of a page."""

    color: str
    marker: str


PLAIN = Look(BLUE, "o")
"""How means are drawn that are no cell's, such as those of a factor's level."""

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
    axis: Axes, along: str, place: float, row: Any, look: Look = PLAIN, name: str | None = None
) -> None:
    """A mean with its interval along x or y, `place` on the other axis; a mean without interval is hollow.

    row: has `value`, `low` and `high`.
    """
    half = None if np.isnan(row.low) else [[row.value - row.low], [row.high - row.value]]
    x, y = (row.value, place) if along == "x" else (place, row.value)
    axis.errorbar(
        [x],
        [y],
        xerr=half if along == "x" else None,
        yerr=half if along == "y" else None,
        fmt=look.marker,
        ms=5,
        color=look.color,
        mfc="white" if half is None else look.color,
        elinewidth=1.5,
        capsize=3,
        zorder=3,
        label=name,
    )


def seeds_beside(axis: Axes, along: str, places: Sequence[float], values: Sequence[float]) -> None:
    """Seeds as grey dots beside the place of their mean, in points on paper; equal values stand side by side."""
    seen: Counter[tuple[float, float]] = Counter()
    for place, value in zip(places, values, strict=True):
        shift = 5 + 1.4 * min(2, (seen[place, value] + 1) // 2) * (-1) ** seen[place, value]
        seen[place, value] += 1
        x, y = (value, place) if along == "x" else (place, value)
        points = (0, -shift / 72) if along == "x" else (shift / 72, 0)
        moved = axis.transData + ScaledTranslation(*points, axis.get_figure(root=True).dpi_scale_trans)  # type: ignore[union-attr]
        dot = {"ls": "", "marker": "o", "ms": 3.2, "color": GREY, "alpha": 0.75, "mec": "none"}
        axis.add_artist(Line2D([x], [y], transform=moved, **dot))  # type: ignore[arg-type]
        axis.update_datalim([(x, y)])


def cloud(axis: Axes, places: "pd.Series[float]", values: "pd.Series[float]", states: "pd.Series[str]") -> None:
    """Search trials as dots: finished ones filled, others hollow."""
    finished, raster = states == "finished", len(values) > MANY
    for name, shown, fill, edge in (("finished", finished, BLUE, "none"), ("stopped or failed", ~finished, "none", GREY)):
        if shown.any():
            dot = {"ms": 2.5 if raster else 4.5, "mfc": fill, "mec": edge, "label": name, "rasterized": raster}
            axis.plot(places[shown], values[shown], "o", **dot, zorder=2 + (fill != "none"))  # type: ignore[arg-type]


def level_axis(axis: Axes, which: str, rows: pd.DataFrame) -> "pd.Series[float]":
    """Lay out the x or y axis for a factor, and give the place of each row on it: its number, else that of its level.

    rows: columns level, position (NaN for levels that are no numbers), log, and for trials of a search number: those at
    one level stand side by side in the order of their numbers.
    """
    if rows["position"].notna().any():
        if rows["log"].any():
            log_axis(axis, which, rows["position"])
        return rows["position"]
    names = list(dict.fromkeys(rows["level"].dropna()))[:MOST_LEVELS]
    getattr(axis, f"set_{which}ticks")(range(len(names)), [label(name, 14) for name in names])
    getattr(axis, f"set_{which}lim")(-0.5, len(names) - 0.5)
    places = rows["level"].map({name: float(place) for place, name in enumerate(names)})
    return places + 0.5 * (rows["number"] / max(1, rows["number"].max()) - 0.5) if "number" in rows else places


def log_axis(axis: Axes, which: str, values: "pd.Series[float]") -> None:
    """A logarithmic axis with plain numbers, also at 3, 30, ... where the values span little."""
    getattr(axis, f"set_{which}scale")("log")
    one = axis.xaxis if which == "x" else axis.yaxis
    one.set_major_locator(LogLocator(subs=(1.0,) if values.max() > 150 * values.min() else (1.0, 3.0)))
    one.set_major_formatter(lambda value, _: f"{value:g}")
    one.set_minor_formatter(NullFormatter())


def few_ticks(axis: Axes) -> None:
    """At most six ticks along x, at round numbers: a row figure has little room."""
    axis.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))


def legend_below(figure: Figure, columns: int = 2, handles: Sequence[Line2D] | None = None) -> None:
    """A legend under the axes; the figure grows by its height, so that the axes keep theirs."""
    found = [text for axis in figure.axes for text in axis.get_legend_handles_labels()[1]]
    texts = found if handles is None else [str(handle.get_label()) for handle in handles]
    lines = 1 + max((text.count("\n") for text in texts), default=0)
    figure.set_figheight(figure.get_figheight() + 0.2 + 0.15 * lines * -(-len(texts) // columns))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns)


def turn_ticks(axis: Axes) -> None:
    """Slant the labels of the x axis, where they would touch each other upright."""
    for text in axis.get_xticklabels():
        text.set(rotation=30, ha="right", rotation_mode="anchor")


def rows_figure(names: Sequence[str], more: float = 0.0) -> tuple[Figure, Axes]:
    """A figure with names down its y axis, the first on top, `more` inches higher than they need."""
    labels = [label(name, lines=2) for name in names]
    high = 0.33 if any("\n" in text for text in labels) else 0.27
    figure, (axis,) = new_figure(0.75 + high * len(names) + more)
    axis.set_yticks(range(len(names)), labels)
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.grid(axis="y", visible=False)
    return figure, axis
