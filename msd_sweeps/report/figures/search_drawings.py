"""Drawings of a search: history, slices, importances, confirmation, curves."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from msd_sweeps.report.figures.style import (
    BLUE,
    GREY,
    MANY,
    ORANGE,
    label,
    mean_with_interval,
    new_figure,
    row_height,
    rows_axis,
    turn_ticks,
)
from msd_sweeps.report.results import FigureNumbers


def _cloud(axis: Axes, frame: pd.DataFrame, x: str) -> None:
    """Scores against a column: finished trials filled, others hollow."""
    finished = frame["state"] == "finished"
    raster = len(frame) > MANY
    size = 2.5 if raster else 4.5
    groups = (("stopped or failed", frame[~finished], "none", GREY), ("finished", frame[finished], BLUE, "none"))
    for name, rows, fill, edge in groups:
        if len(rows):
            axis.plot(rows[x], rows["score"], "o", ms=size, mfc=fill, mec=edge, label=name, rasterized=raster)


def _history(numbers: FigureNumbers) -> Figure:
    frame = numbers.frame
    figure, (axis,) = new_figure(3.2)
    _cloud(axis, frame, "number")
    axis.step(frame["number"], frame["best"], where="post", color=ORANGE, linewidth=1.4, label="best finished so far")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_xlabel(numbers.axes["x"])
    axis.set_ylabel(numbers.axes["y"])
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def _search_slices(numbers: FigureNumbers) -> Figure:
    factors = list(dict.fromkeys(numbers.frame["factor"]))
    tall = -(-len(factors) // 2)
    figure, axes = new_figure(0.3 + 2.2 * tall, (tall, min(2, len(factors))))
    for axis, factor in zip(axes, factors, strict=False):
        rows = numbers.frame[numbers.frame["factor"] == factor]
        if rows["position"].notna().any():
            _cloud(axis, rows, "position")
            if rows["log"].iloc[0]:
                _log_axis(axis, "x")
        else:
            _categories(axis, rows)
        axis.set_xlabel(label(factor, 36))
        if axis.get_subplotspec().colspan.start == 0:  # type: ignore[union-attr]
            axis.set_ylabel(numbers.axes["y"])
    for axis in axes[len(factors) :]:
        axis.set_visible(False)
    handles = [
        Line2D([], [], marker="o", ls="", color=BLUE, ms=4.5, mec="none", label="finished"),
        Line2D([], [], marker="o", ls="", mfc="none", mec=GREY, ms=4.5, label="stopped or failed"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def _categories(axis: Axes, rows: pd.DataFrame) -> None:
    names = sorted(set(rows["level"]), key=lambda text: (len(text), text))[:12]
    place = {name: index for index, name in enumerate(names)}
    # Spread by trial number, so that a column's trials stand side by side in the order they ran.
    shift = 0.5 * (rows["number"] / max(1, rows["number"].max()) - 0.5)
    _cloud(axis, rows.assign(place=rows["level"].map(place) + shift), "place")
    axis.set_xticks(range(len(names)), [label(name, 14) for name in names])
    if len("".join(names)) > 26:
        turn_ticks(axis)
    axis.set_xlim(-0.5, len(names) - 0.5)


def _log_axis(axis: Axes, which: str) -> None:
    """A logarithmic axis with plain numbers at 1, 2 and 5 where it spans little."""
    getattr(axis, f"set_{which}scale")("log")
    one = axis.xaxis if which == "x" else axis.yaxis
    low, high = one.get_view_interval()
    subs = (1.0,) if high / max(low, 1e-300) > 200 else (1.0, 3.0)
    one.set_major_locator(LogLocator(subs=subs))
    one.set_major_formatter(lambda value, _: f"{value:g}")
    one.set_minor_formatter(NullFormatter())


def _scatter(numbers: FigureNumbers) -> Figure:
    frame = numbers.frame
    figure, (axis,) = new_figure(3.4)
    places = {}
    for which in ("x", "y"):
        if frame[which].notna().any():
            places[which] = frame[which]
        else:
            names = sorted(set(frame[f"{which}_level"].dropna()), key=lambda text: (len(text), text))
            shift = 0.4 * (frame["number"] / max(1, frame["number"].max()) - 0.5)
            places[which] = frame[f"{which}_level"].map({name: i for i, name in enumerate(names)}) + shift
            getattr(axis, f"set_{which}ticks")(range(len(names)), [label(name, 16) for name in names])
    cloud = axis.scatter(
        places["x"],
        places["y"],
        c=frame["score"],
        cmap="cividis",
        s=28,
        edgecolors="black",
        linewidths=0.4,
        rasterized=len(frame) > MANY,
    )
    for which in ("x", "y"):
        if numbers.axes.get(f"{which}_log"):
            _log_axis(axis, which)
    axis.set_xlabel(label(numbers.axes["x"], 48))
    axis.set_ylabel(label(numbers.axes["y"], 40))
    figure.colorbar(cloud, ax=axis, label=numbers.axes["color"])
    return figure


def _pareto(numbers: FigureNumbers) -> Figure:
    """Finished trials by two metrics, the front filled, and joined where there are no further metrics."""
    frame, axes = numbers.frame, numbers.axes
    figure, (axis,) = new_figure(3.4)
    x, y = axes["x_column"], axes["y_column"]
    front = frame[frame["front"]].sort_values([x, y], kind="stable")
    rest = frame[~frame["front"]]
    if axes["step"]:
        axis.plot(front[x], front[y], "--", drawstyle=f"steps-{axes['step']}", color=GREY, linewidth=1, zorder=1)
    if len(rest):
        axis.plot(
            rest[x], rest[y], "o", ms=4.5, mfc="none", mec=GREY, label="beaten by another", rasterized=len(rest) > MANY
        )
    axis.plot(front[x], front[y], "o", ms=5.5, color=ORANGE, label="Pareto front", zorder=3)
    if frame[x].max() > 20 * frame[x].min() > 0:
        _log_axis(axis, "x")
    axis.margins(0.08)
    axis.set_xlabel(axes["x"])
    axis.set_ylabel(axes["y"])
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def _bars(numbers: FigureNumbers) -> Figure:
    frame = numbers.frame
    figure, (axis,) = new_figure(row_height(list(frame["parameter"])))
    axis.barh(range(len(frame)), frame["importance"], color=BLUE, height=0.6)
    rows_axis(axis, list(frame["parameter"]))
    axis.set_xlim(0, 1)
    axis.set_xlabel(numbers.axes["x"])
    return figure


def _dumbbell(numbers: FigureNumbers) -> Figure:
    frame = numbers.frame.rename(columns={"mean": "value"})
    figure, (axis,) = new_figure(row_height(list(frame["label"])) + 0.25)
    for place, row in enumerate(frame.itertuples(index=False)):
        axis.plot([row.search_score, row.value], [place, place], color=GREY, linewidth=1, zorder=1)
        axis.plot(
            [row.search_score],
            [place],
            "o",
            ms=6,
            mfc="white",
            mec=ORANGE,
            zorder=3,
            label="" if place else "search score",
        )
    axis.plot([], [], "o", ms=5, color=BLUE, label="confirmed")
    mean_with_interval(axis, frame, "x", pd.Series(np.arange(len(frame), dtype=float)))
    rows_axis(axis, list(frame["label"]))
    axis.margins(x=0.08)
    axis.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axis.set_xlabel(numbers.axes["x"])
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def _search_curves(numbers: FigureNumbers) -> Figure:
    figure, (axis,) = new_figure(3.4)
    for _, rows in numbers.frame.groupby("number", sort=True):
        finished = rows["state"].iloc[0] == "finished"
        axis.plot(
            rows["epoch"],
            rows["value"],
            color=BLUE if finished else ORANGE,
            linewidth=1.0,
            alpha=0.8,
            zorder=1 if finished else 2,
        )
        if not finished:
            axis.plot(rows["epoch"].iloc[-1:], rows["value"].iloc[-1:], "x", ms=4.5, color=ORANGE, zorder=3)
    states = set(numbers.frame["state"])
    handles = [Line2D([], [], color=BLUE, label="finished")] * ("finished" in states)
    handles += [Line2D([], [], color=ORANGE, marker="x", ms=4.5, label="stopped or failed")] * bool(
        states - {"finished"}
    )
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_xlabel(numbers.axes["x"])
    axis.set_ylabel(numbers.axes["y"])
    return figure


def _quantile_curves(numbers: FigureNumbers) -> Figure:
    frame = numbers.frame
    figure, (axis,) = new_figure(3.2)
    axis.fill_between(frame["epoch"], frame["q10"], frame["q90"], color=BLUE, alpha=0.15, lw=0, label="10 to 90 %")
    axis.fill_between(frame["epoch"], frame["q25"], frame["q75"], color=BLUE, alpha=0.3, lw=0, label="quartiles")
    axis.plot(frame["epoch"], frame["q50"], color=BLUE, label="median")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_xlabel(numbers.axes["x"])
    axis.set_ylabel(numbers.axes["y"])
    figure.legend(loc="outside lower center", ncols=3)
    return figure


DRAWINGS: dict[str, Callable[[FigureNumbers], Figure]] = {
    "history": _history,
    "search_slices": _search_slices,
    "scatter": _scatter,
    "pareto": _pareto,
    "bars": _bars,
    "dumbbell": _dumbbell,
    "search_curves": _search_curves,
    "quantile_curves": _quantile_curves,
}
"""The drawings of a search's figures by kind."""
