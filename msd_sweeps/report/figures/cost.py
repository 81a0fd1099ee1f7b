"""Results against what they cost: cells against training time, and the Pareto front of a search by several metrics."""

from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from msd_sweeps.records.ranking import best_first
from msd_sweeps.report.cells import metric_title
from msd_sweeps.report.escaping import short
from msd_sweeps.report.figures.plot import Plot, cell_looks, named_cells
from msd_sweeps.report.figures.search import NO_RESULT
from msd_sweeps.report.figures.style import (
    GREY,
    MANY,
    ORANGE,
    Look,
    label,
    legend_below,
    log_axis,
    mean_with_interval,
    new_figure,
)
from msd_sweeps.report.frames import Frames
from msd_sweeps.report.results import Results
from msd_sweeps.report.stats import pareto_front
from msd_sweeps.report.writing import rounded_frame

MOST_TOLD = 4
"""Cells of a front that a caption names."""


def costs(results: Results) -> Iterator[Plot]:
    """Accuracy against the seconds that a trial trained, with the cells that nobody beats in both."""
    table = results.table.frame
    frame = table.loc[table["seconds"].notna() & (table["n"] > 0), ["label", "seconds", "mean", "low", "high", "n"]]
    if len(frame) < 2:
        return
    frame = frame.reset_index(drop=True)
    frame["pareto"] = pareto_front(frame["seconds"], frame["mean"], results.value.higher_is_better)
    front = frame.loc[frame["pareto"]].sort_values("seconds", kind="stable")["label"].tolist()
    told = ", ".join([short(name, 40) for name in front[:MOST_TOLD]] + ["..."] * (len(front) > MOST_TOLD))
    joined = f"The dashed line joins the {len(front)} cells of the Pareto front ({told}), which no other beats in both."
    if len(front) == 1:
        joined = f"{told} is both the cheapest and the best cell, so it alone is the Pareto front."
    caption = (
        f"Mean training time of a trial on {results.frames.device} against its result with 95 % t interval. {joined} "
        "Trials that learn together are charged an equal share of their time."
    )
    looks = {name: look for name, look in cell_looks(results).items() if name in named_cells(results)}
    draw = partial(_draw_cells, title=results.value.title, looks=looks)
    yield Plot("cost", "Accuracy against cost", caption, frame, draw)


def _draw_cells(frame: pd.DataFrame, title: str, looks: Mapping[str, Look]) -> Figure:
    """Cells with their intervals; those without a look of their own in grey."""
    frame = frame.rename(columns={"mean": "value"})
    figure, (axis,) = new_figure(2.7)
    front = frame[frame["pareto"]].sort_values("seconds", kind="stable")
    axis.step(front["seconds"], front["value"], where="post", color=GREY, linewidth=1, linestyle="--", zorder=1)
    named = frame["label"].isin(looks.keys())
    for row in frame[named].itertuples(index=False):
        mean_with_interval(axis, "y", row.seconds, row, looks[row.label], label(row.label, 26, lines=2))
    if len(rest := frame[~named]):
        half = np.nan_to_num([rest["value"] - rest["low"], rest["high"] - rest["value"]])
        axis.errorbar(rest["seconds"], rest["value"], half, fmt="o", ms=3, color=GREY, elinewidth=0.6, label="others")
    if not _spread_wide(axis, frame["seconds"]):
        axis.set_xlim(0, 1.08 * frame["seconds"].max())  # a small difference in cost is to look small
    axis.set_xlabel("training time of a trial (s)")
    axis.set_ylabel(title)
    legend_below(figure)
    return figure


def _spread_wide(axis: Axes, values: "pd.Series[float]") -> bool:
    """Give the axes room, and costs that span a factor of 20 a logarithmic axis; whether they do."""
    axis.margins(x=0.1, y=0.08)
    wide = bool(values.max() > 20 * values.min() > 0)
    if wide:
        log_axis(axis, "x", values)
    return wide


def front_of(frames: Frames) -> pd.DataFrame:
    """A row a finished search trial: number, trial, its value of each metric, and whether it is on the front.

    The front comes first, the best by the first metric on top, then the others by number. Empty where the sweep has
    a single metric.
    """
    metrics, trials = frames.sweep.space.metrics, frames.trials
    names = [str(metric.name) for metric in metrics]
    if len(names) < 2 or not set(names) <= set(trials.columns):
        return pd.DataFrame(columns=["number", "trial", *names, "front"])
    search = trials[(trials["phase"] == "search") & (trials["state"] == "finished")]
    search = search.sort_values(["number", "trial"], kind="stable")[["number", "trial", *names]]
    search = search[np.isfinite(search[names].to_numpy(dtype=float)).all(axis=1)].reset_index(drop=True)
    front = best_first(search[names].to_numpy(dtype=float).tolist(), metrics)
    search["front"] = search.index.isin(front)
    rest = search.index[~search["front"]]
    return rounded_frame(search.loc[[*front, *rest]].reset_index(drop=True))


def fronts(results: Results) -> Iterator[Plot]:
    """The first metric against each of the others, the front marked."""
    frame = front_of(results.frames)
    if frame.empty:
        return
    first, *others = results.frames.sweep.space.metrics
    joined = "The dashed line joins the Pareto front"
    if len(others) > 1:
        joined = f"Filled: the Pareto front of all {len(others) + 1} metrics"
    caption = f"{NO_RESULT} Each dot is a finished search trial. {joined}."
    for place, other in enumerate(others, 1):
        step = "" if len(others) > 1 else "steps-post" if other.mode == "min" else "steps-pre"
        titles = [metric_title(metric.name) for metric in (other, first)]
        title = "Pareto front: {1} against {0}".format(*(text.partition(" (")[0] for text in titles))
        draw = partial(_draw_front, x=other.name, y=first.name, titles=titles, step=step)
        yield Plot("pareto" if place == 1 else f"pareto_{place}", title, caption, frame, draw)


def _draw_front(frame: pd.DataFrame, x: str, y: str, titles: list[str], step: str) -> Figure:
    """Finished trials by two metrics, the front filled, and joined where there are no further metrics."""
    figure, (axis,) = new_figure(2.9)
    front = frame[frame["front"]].sort_values([x, y], kind="stable")
    if step:
        axis.plot(front[x], front[y], "--", drawstyle=step, color=GREY, linewidth=1, zorder=1)
    if len(rest := frame[~frame["front"]]):
        dot = {"ms": 4.5, "mfc": "none", "mec": GREY, "rasterized": len(rest) > MANY}
        axis.plot(rest[x], rest[y], "o", label="beaten by another", **dot)  # type: ignore[arg-type]
    axis.plot(front[x], front[y], "o", ms=5.5, color=ORANGE, label="Pareto front", zorder=3)
    _spread_wide(axis, frame[x])
    axis.set_xlabel(titles[0])
    axis.set_ylabel(titles[1])
    legend_below(figure)
    return figure
