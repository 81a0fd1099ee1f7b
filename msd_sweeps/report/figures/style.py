"""What all figures share: one style, colours for the colour-blind, axes, legends, equal bytes for equal numbers."""

import io
import math
import textwrap
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from matplotlib.transforms import ScaledTranslation

from msd_sweeps.report.cells import Cell
from msd_sweeps.report.formats import short
from msd_sweeps.report.results import Results

WIDTH = 4.8
"""Inches: a column of a page, and still readable on a telephone."""
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#8C6D31")
"""Okabe and Ito's palette, which the colour-blind can tell apart, with a brown for its pale yellow."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
BLUE, ORANGE, GREY = COLORS[0], COLORS[1], "#8A8A8A"
MANY = 1500
"""Points from which a cloud is drawn as an image inside the vector figure."""
MOST_ROWS = 30
"""Rows that a figure of cells or effects shows; its CSV has them all."""


class Look(NamedTuple):
    """How one thing is drawn in all figures of a page."""

    color: str
    marker: str


PLAIN = Look(BLUE, "o")
"""Means that are no cell's, such as those of a factor's level."""
OTHER = Look(GREY, "o")
"""Cells without a colour of their own."""


@dataclass(frozen=True)
class Plot:
    """One figure: its numbers, its texts, and the function that draws the numbers."""

    slug: str
    """Name of its files."""
    title: str
    caption: str
    frame: pd.DataFrame
    """The numbers, which are written as CSV beside the drawing."""
    draw: Callable[[pd.DataFrame], Figure]


def cell_looks(results: Results) -> dict[str, Look]:
    """Colour and marker of cells by label: of the baseline and the best others, in the table's order."""

    def rank(cell: Cell) -> tuple[bool, float]:
        return cell is not results.baseline, -results.value.sign * cell.interval.mean if cell.values else math.inf

    finished = [cell for cell in results.cells if cell.states["finished"]]
    chosen = [cell.label for cell in sorted(finished, key=rank)[: len(COLORS)]]
    named = [cell.label for cell in finished if cell.label in chosen]
    return dict(zip(named, map(Look, COLORS, MARKERS), strict=False))


def style() -> AbstractContextManager[None]:
    """Draw within this: matplotlib's defaults and our style, whatever the user's own settings."""
    return matplotlib.style.context(Path(__file__).with_name("report.mplstyle"), after_reset=True)


def new_figure(height: float, x: str = "", y: str = "", panels: tuple[int, int] = (1, 1)) -> tuple[Figure, list[Axes]]:
    """A figure of the common width with rows × columns of axes that share their y axis. x, y: the axes' titles."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = list(figure.subplots(*panels, squeeze=False, sharey=True).flat)
    for place, axis in enumerate(axes):
        axis.set(xlabel=x, ylabel="" if place % panels[1] else y)
    return figure, axes


def rows_figure(names: Sequence[str], x: str) -> tuple[Figure, Axes]:
    """A figure with names down its y axis, the first on top, and few ticks along x."""
    labels = [label(name, lines=2) for name in names]
    high = 0.33 if any("\n" in text for text in labels) else 0.27
    figure, (axis,) = new_figure(0.75 + high * len(names), x)
    axis.set_yticks(range(len(names)), labels)
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.grid(axis="y", visible=False)
    axis.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    return figure, axis


def rendered(figure: Figure, kind: str) -> bytes:
    """The bytes of a figure as svg or pdf, without dates and program versions."""
    buffer = io.BytesIO()
    absent = ("Date", "Creator") if kind == "svg" else ("CreationDate", "Creator", "Producer")
    figure.savefig(buffer, format=kind, metadata=dict.fromkeys(absent))
    figure.set_layout_engine("none")  # a second format keeps the places that were found
    return buffer.getvalue()


def label(text: object, longest: int = 30, lines: int = 1) -> str:
    """A name as an axis can carry it; what the font has no glyph for becomes a box of its own."""
    shown = "".join(c if ord(c) < 0x2600 else "\u25a1" for c in short(str(text), longest * lines - 4 * (lines > 1)))
    return "\n".join(textwrap.wrap(shown, longest)) if len(shown) > longest else shown


def legend_below(figure: Figure, columns: int = 2) -> None:
    """A legend under the axes, each label once; the figure grows by its height, so that the axes keep theirs."""
    found: dict[str, Any] = {}
    for axis in figure.axes:
        for handle, text in zip(*axis.get_legend_handles_labels(), strict=True):
            found.setdefault(text, handle)
    lines = 1 + max((text.count("\n") for text in found), default=0)
    figure.set_figheight(figure.get_figheight() + 0.2 + 0.15 * lines * -(-len(found) // columns))
    figure.legend(found.values(), found.keys(), loc="outside lower center", ncols=columns)


def mean_with_interval(axis: Axes, along: str, place: float, row: Any, look: Look = PLAIN, name: str = "") -> None:
    """A mean with its interval along x or y, `place` on the other axis; a mean without interval is hollow.

    row: has `value`, `low` and `high`. name: for the legend.
    """
    half = None if np.isnan(row.low) else [[row.value - row.low], [row.high - row.value]]
    x, y = (row.value, place) if along == "x" else (place, row.value)
    fill = "white" if half is None else look.color
    interval: dict[str, Any] = {f"{along}err": half}
    axis.errorbar([x], [y], fmt=look.marker, color=look.color, mfc=fill, zorder=3, label=name, **interval)


def seeds_beside(axis: Axes, along: str, places: Sequence[float], values: Sequence[float]) -> None:
    """Seeds as grey dots beside the place of their mean, in points on paper; equal values stand side by side."""
    seen: Counter[tuple[float, float]] = Counter()
    inches = axis.get_figure(root=True).dpi_scale_trans  # type: ignore[union-attr]
    for place, value in zip(places, values, strict=True):
        shift = (5 + 1.4 * min(2, (seen[place, value] + 1) // 2) * (-1) ** seen[place, value]) / 72
        seen[place, value] += 1
        x, y, right, up = (value, place, 0, -shift) if along == "x" else (place, value, shift, 0)
        dot = Line2D([x], [y], marker="o", ms=3.2, color=GREY, alpha=0.75, mec="none")
        dot.set_transform(axis.transData + ScaledTranslation(right, up, inches))
        axis.add_artist(dot)
        axis.update_datalim([(x, y)])


def cloud(axis: Axes, places: "pd.Series[float]", values: "pd.Series[float]", states: "pd.Series[str]") -> None:
    """Search trials as dots: finished ones filled, others hollow."""
    raster, size = len(values) > MANY, 2.5 if len(values) > MANY else 4.5
    finished = states == "finished"
    kinds = (("stopped or failed", ~finished, "none", GREY), ("finished", finished, BLUE, "none"))
    for name, rows, fill, edge in kinds:
        if rows.any():
            axis.plot(places[rows], values[rows], "o", ms=size, mfc=fill, mec=edge, label=name, rasterized=raster)


def level_axis(axis: Axes, which: str, rows: pd.DataFrame) -> "pd.Series[float]":
    """Lay out the x or y axis for a factor, and give the place of each row on it: its number, else that of its level.

    rows: columns level, position (NaN for levels that are no numbers), log, and for trials of a search number: those at
    one level stand side by side in the order of their numbers.
    """
    if rows["position"].notna().any():
        if rows["log"].any():
            log_axis(axis, which, rows["position"])
        return rows["position"]
    names = list(dict.fromkeys(rows["level"].dropna()))
    if is_search := "number" in rows:
        names = sorted(names, key=lambda name: (len(name), name))
    places = rows["level"].map({name: float(place) for place, name in enumerate(names)})
    labels = [label(name, 24 if len(names) <= 4 else 14) for name in names]
    getattr(axis, f"set_{which}ticks")(range(len(names)), labels)
    getattr(axis, f"set_{which}lim")(-0.6, len(names) - 0.4)
    if which == "x" and len("".join(labels)) > (26 if is_search else 60):  # they would touch each other upright
        axis.tick_params("x", rotation=30, rotation_mode="xtick")
    return places + 0.5 * (rows["number"] / max(1, rows["number"].max()) - 0.5) if is_search else places


def log_axis(axis: Axes, which: str, values: "pd.Series[float]") -> None:
    """A logarithmic axis with plain numbers, also at 3, 30, ... where the values span little."""
    getattr(axis, f"set_{which}scale")("log")
    one = axis.xaxis if which == "x" else axis.yaxis
    one.set_major_locator(LogLocator(subs=(1.0,) if values.max() > 150 * values.min() else (1.0, 3.0)))
    one.set_major_formatter(lambda value, _: f"{value:g}")
    one.set_minor_formatter(NullFormatter())
