"""Figures from numbers: one drawing a kind, each from the frame that is written beside it."""

import logging
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from msd_sweeps.report.cells import parameter_title
from msd_sweeps.report.figures import search_drawings as search_figures
from msd_sweeps.report.figures.numbers import MOST_ROWS
from msd_sweeps.report.figures.style import (
    BLUE,
    COLORS,
    GREY,
    MARKERS,
    beside,
    label,
    legend_below,
    mean_with_interval,
    new_figure,
    rendered,
    row_height,
    rows_axis,
    style,
    turn_ticks,
)
from msd_sweeps.report.results import FigureNumbers
from msd_sweeps.report.writing import write_bytes, write_csv

Drawing = Callable[[FigureNumbers], Figure]


def write(numbers: FigureNumbers, folder: Path) -> tuple[list[Path], str]:
    """Write <slug>.csv, .svg and .pdf into a folder; give back the paths and the text of the SVG."""
    with style(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a glyph that the font lacks is drawn as a box
        logging.getLogger("matplotlib").setLevel(logging.ERROR)
        figure = DRAWINGS[numbers.kind](numbers)
        vector, print_form = rendered(figure, "svg"), rendered(figure, "pdf")
    paths = [
        write_csv(folder / f"{numbers.slug}.csv", numbers.frame),
        write_bytes(folder / f"{numbers.slug}.svg", vector),
        write_bytes(folder / f"{numbers.slug}.pdf", print_form),
    ]
    return paths, vector.decode()


def _rows(numbers: FigureNumbers) -> Figure:
    """Seeds as dots under their mean, one row a group."""
    group = numbers.axes["group"]
    names = list(dict.fromkeys(numbers.frame[group]))[:MOST_ROWS]
    figure, (axis,) = new_figure(row_height(names))
    for place, name in enumerate(names):
        rows = numbers.frame[numbers.frame[group] == name]
        seeds = rows.loc[rows["kind"] == "seed", "value"].to_numpy()
        axis.plot(seeds, place + 0.24 + _spread(seeds), "o", ms=3.5, color=GREY, alpha=0.75, mec="none")
        mean_with_interval(axis, rows[rows["kind"] == "mean"], "x", pd.Series([float(place)]))
    rows_axis(axis, names)
    axis.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axis.set_xlabel(numbers.axes["x"])
    return figure


def _spread(values: "np.ndarray") -> "np.ndarray":
    """Small offsets across the axis, so that equal values stay apart: the same every time."""
    count: dict[float, int] = {}
    offsets = []
    for value in values:
        seen = count.get(float(value), 0)
        count[float(value)] = seen + 1
        offsets.append(0.07 * ((seen + 1) // 2) * (-1) ** seen)
    return np.clip(np.array(offsets), -0.14, 0.14)


def _columns(numbers: FigureNumbers) -> Figure:
    """Seeds as dots beside their mean, one column a level."""
    group = numbers.axes["group"]
    names = list(dict.fromkeys(numbers.frame[group]))
    figure, (axis,) = new_figure(3.2)
    for place, name in enumerate(names):
        rows = numbers.frame[numbers.frame[group] == name]
        seeds = rows.loc[rows["kind"] == "seed", "value"].to_numpy()
        axis.plot(place + 0.18 + _spread(seeds), seeds, "o", ms=3.5, color=GREY, alpha=0.75, mec="none")
        mean_with_interval(axis, rows[rows["kind"] == "mean"], "y", pd.Series([float(place)]))
    crowded = max(len(label(name, 24)) for name in names) * len(names) > 60
    axis.set_xticks(range(len(names)), [label(name, 24) for name in names])
    if crowded:
        turn_ticks(axis)
    axis.set_xlim(-0.6, len(names) - 0.4)
    axis.grid(axis="x", visible=False)
    axis.set_xlabel(numbers.axes["x"])
    axis.set_ylabel(numbers.axes["y"])
    return figure


def _forest(numbers: FigureNumbers) -> Figure:
    """Differences with intervals around zero; a factor's levels stand under its name and reference."""
    frame = numbers.frame.head(MOST_ROWS).rename(columns={"difference": "value"})
    names: list[str] = []
    heads, places = [], []
    for row in frame.itertuples(index=False):
        head = f"{row.factor}, against {row.reference}" if numbers.axes["grouped"] else ""
        if head and head not in names:
            heads.append(len(names))
            names.append(head)
        places.append(float(len(names)))
        names.append(str(row.level))
    figure, (axis,) = new_figure(row_height(names))
    axis.axvline(0, color="black", linewidth=0.8)
    mean_with_interval(axis, frame, "x", pd.Series(places))
    rows_axis(axis, names)
    for place in heads:
        axis.get_yticklabels()[place].set_fontweight("bold")
        axis.yaxis.get_major_ticks()[place].tick1line.set_visible(False)
    axis.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axis.set_xlabel(numbers.axes["x"])
    axis.margins(x=0.08)
    return figure


def _slices(numbers: FigureNumbers) -> Figure:
    """One panel a numeric factor: seeds beside means with intervals."""
    factors = list(dict.fromkeys(numbers.frame["factor"]))
    figure, axes = new_figure(2.2 * -(-len(factors) // 2), (-(-len(factors) // 2), min(2, len(factors))))
    for axis, factor in zip(axes, factors, strict=False):
        rows = numbers.frame[numbers.frame["factor"] == factor]
        seeds, means = rows[rows["kind"] == "seed"], rows[rows["kind"] == "mean"]
        positions = sorted(set(rows["position"]))
        if positions[0] > 0 and positions[-1] / positions[0] >= 5:
            axis.set_xscale("log")
        axis.plot(means["position"], means["value"], color=BLUE, linewidth=0.8)
        mean_with_interval(axis, means, "y", means["position"])
        axis.margins(x=0.12)
        axis.update_datalim(seeds[["position", "value"]].to_numpy())
        axis.autoscale_view()
        axis.add_artist(
            Line2D(
                seeds["position"],
                seeds["value"],
                ls="",
                marker="o",
                ms=3.2,
                color=GREY,
                alpha=0.75,
                mec="none",
                transform=beside(axis, x=5),
            )
        )
        axis.set_xticks(positions, [f"{place:g}" for place in positions])
        axis.minorticks_off()
        axis.set_xlabel(label(parameter_title(factor), 36))
        if axis.get_subplotspec().colspan.start == 0:  # type: ignore[union-attr]
            axis.set_ylabel(numbers.axes["y"])
    for axis in axes[len(factors) :]:
        axis.set_visible(False)
    return figure


def _map(numbers: FigureNumbers) -> Figure:
    """A field for each pair of levels with its mean and half interval."""
    frame = numbers.frame
    rows, columns = (list(dict.fromkeys(frame[name])) for name in ("first_level", "second_level"))
    means = frame["mean"].to_numpy().reshape(len(rows), len(columns))
    figure, (axis,) = new_figure(1.1 + 0.42 * len(rows))
    image = axis.imshow(np.ma.masked_invalid(means), cmap="cividis", aspect="auto")
    axis.grid(visible=False)
    if len(columns) <= 8:
        lowest, highest = np.nanmin(means), np.nanmax(means)
        for index, row in enumerate(frame.itertuples(index=False)):
            if row.n:
                half = "" if np.isnan(row.low) else f" ± {(row.high - row.low) / 2:.2f}"
                text = f"{row.mean:.2f}{half if len(columns) <= 5 else ''}"
                dark = row.mean < (lowest + highest) / 2
                axis.text(
                    index % len(columns),
                    index // len(columns),
                    text,
                    ha="center",
                    va="center",
                    fontsize=7.5,
                    color="white" if dark else "black",
                )
    axis.set_xticks(range(len(columns)), [label(name, 60 // len(columns)) for name in columns])
    axis.set_yticks(range(len(rows)), [label(name, 20) for name in rows])
    axis.set_ylabel(label(frame["first"].iloc[0]))
    axis.set_xlabel(label(frame["second"].iloc[0]))
    figure.colorbar(image, ax=axis, label=numbers.axes["color"])
    return figure


def _curves(numbers: FigureNumbers) -> Figure:
    """A line a cell with its band over seeds; cells beyond the named ones in grey."""
    figure, (axis,) = new_figure(2.7)
    frame = numbers.frame
    others = frame[~frame["named"]]
    for place, (_, rows) in enumerate(others.groupby("label", sort=False)):
        axis.plot(
            rows["epoch"],
            rows["value"],
            color=GREY,
            linewidth=0.6,
            alpha=0.8,
            zorder=1,
            label="" if place else "others",
        )
    names = list(dict.fromkeys(frame.loc[frame["named"], "label"]))
    for index, (name, color, marker) in enumerate(zip(names, COLORS, MARKERS, strict=False)):
        rows = frame[frame["label"] == name]
        every = max(1, len(rows) // 5)
        # Markers of different lines at different epochs, so that near lines stay apart.
        marks = (index * every // len(names), every)
        axis.plot(
            rows["epoch"],
            rows["value"],
            color=color,
            marker=marker,
            ms=4,
            markevery=marks,
            linewidth=1.2,
            label=label(name, 26, lines=2),
        )
        axis.fill_between(rows["epoch"], rows["low"], rows["high"], color=color, alpha=0.15, linewidth=0)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_xlabel(numbers.axes["x"])
    axis.set_ylabel(numbers.axes["y"])
    legend_below(figure)
    return figure


def _cost(numbers: FigureNumbers) -> Figure:
    """Result against seconds; the front is joined, and its cells are named in the legend."""
    frame = numbers.frame.rename(columns={"mean": "value"})
    figure, (axis,) = new_figure(2.7)
    front = frame[frame["pareto"]].sort_values("seconds", kind="stable")
    axis.step(front["seconds"], front["value"], where="post", color=GREY, linewidth=1, linestyle="--", zorder=1)
    named = pd.concat([front, frame[~frame["pareto"]]]).head(len(COLORS))
    for (_, row), color, marker in zip(named.iterrows(), COLORS, MARKERS, strict=False):
        half = None if np.isnan(row["low"]) else [[row["value"] - row["low"]], [row["high"] - row["value"]]]
        axis.errorbar(
            [row["seconds"]],
            [row["value"]],
            yerr=half,
            fmt=marker,
            color=color,
            ms=5,
            capsize=3,
            elinewidth=1.2,
            label=label(row["label"], 26, lines=2),
        )
    rest = frame[~frame.index.isin(named.index)]
    if len(rest):
        half = np.nan_to_num([rest["value"] - rest["low"], rest["high"] - rest["value"]])
        axis.errorbar(rest["seconds"], rest["value"], yerr=half, fmt=".", color=GREY, elinewidth=0.6, label="others")
    axis.margins(x=0.1, y=0.08)
    if frame["seconds"].max() > 20 * frame["seconds"].min() > 0:
        axis.set_xscale("log")
    else:
        axis.set_xlim(0, 1.08 * frame["seconds"].max())  # a small difference in cost is to look small
    axis.set_xlabel(numbers.axes["x"])
    axis.set_ylabel(numbers.axes["y"])
    legend_below(figure)
    return figure


DRAWINGS: dict[str, Drawing] = {
    "rows": _rows,
    "columns": _columns,
    "forest": _forest,
    "slices": _slices,
    "map": _map,
    "curves": _curves,
    "cost": _cost,
    **search_figures.DRAWINGS,
}
"""The drawing of each kind of figure."""
