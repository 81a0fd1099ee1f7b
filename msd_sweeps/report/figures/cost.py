"""Results against what they cost: cells against training time, and the Pareto front of a search by several metrics."""

from collections.abc import Iterator, Mapping
from functools import partial

import pandas as pd
from matplotlib.figure import Figure

import msd_sweeps.report.figures.style as style
from msd_sweeps.records.ranking import best_first
from msd_sweeps.report.cells import metric_title
from msd_sweeps.report.escaping import short
from msd_sweeps.report.figures.style import Plot, cell_looks
from msd_sweeps.report.results import Results
from msd_sweeps.report.search import NO_RESULT, front_of
from msd_sweeps.space.metrics import Metric

MOST_TOLD = 4
"""Cells of a front that a caption names."""


def costs(results: Results) -> Iterator[Plot]:
    """Accuracy against the seconds that a trial trained, with the cells that nobody beats in both."""
    table = results.table
    frame = table.loc[table["seconds"].notna() & (table["n"] > 0), ["label", "seconds", "mean", "low", "high", "n"]]
    if len(frame) < 2:
        return
    frame = frame.reset_index(drop=True)
    metrics = [Metric(mode="min"), Metric(mode="max" if results.value.higher_is_better else "min")]
    frame["front"] = frame.index.isin(best_first(frame[["seconds", "mean"]].to_numpy().tolist(), metrics))
    front = frame.loc[frame["front"]].sort_values("seconds", kind="stable")["label"].tolist()
    told = ", ".join([short(name, 40) for name in front[:MOST_TOLD]] + ["..."] * (len(front) > MOST_TOLD))
    joined = f"The dashed line joins the {len(front)} cells of the Pareto front ({told}), which no other beats in both."
    if len(front) == 1:
        joined = f"{told} is both the cheapest and the best cell, so it alone is the Pareto front."
    caption = (
        f"Mean training time of a trial on {results.frames.device} against its result with 95 % t interval. {joined} "
        "Trials that learn together are charged an equal share of their time."
    )
    draw = partial(_draw, x="seconds", y="mean", titles=("training time of a trial (s)", results.value.title))
    yield Plot("cost", "Accuracy against cost", caption, frame, partial(draw, looks=cell_looks(results)))


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
        titles = (metric_title(other.name), metric_title(first.name))
        title = "Pareto front: {1} against {0}".format(*(text.partition(" (")[0] for text in titles))
        step = "" if len(others) > 1 else "post" if other.mode == "min" else "pre"
        draw = partial(_draw, x=other.name, y=first.name, titles=titles, step=step)
        yield Plot("pareto" if place == 1 else f"pareto_{place}", title, caption, frame, draw)


def _draw(
    frame: pd.DataFrame,
    x: str,
    y: str,
    titles: tuple[str, str],
    step: str = "post",
    looks: Mapping[str, style.Look] | None = None,
) -> Figure:
    """Results against a cost, the front joined (where `step` says how): cells in their looks, or trials (no looks)."""
    figure, (axis,) = style.new_figure(2.8, *titles)
    front = frame[frame["front"]].sort_values([x, y], kind="stable")
    if step:
        axis.plot(front[x], front[y], "--", drawstyle=f"steps-{step}", color=style.GREY, linewidth=1, zorder=1)
    if looks is None:
        rest, raster = frame[~frame["front"]], len(frame) > style.MANY
        axis.plot(rest[x], rest[y], "o", mfc="none", mec=style.GREY, label="beaten by another", rasterized=raster)
        axis.plot(front[x], front[y], "o", color=style.ORANGE, label="Pareto front")
    else:
        rows = frame.rename(columns={y: "value"}).itertuples(index=False)
        for row in sorted(rows, key=lambda row: row.label not in looks):
            name = style.label(row.label, 26, lines=2) if row.label in looks else "others"
            style.mean_with_interval(axis, "y", getattr(row, x), row, looks.get(row.label, style.OTHER), name)
    axis.margins(x=0.1, y=0.08)
    if frame[x].max() > 20 * frame[x].min() > 0:
        style.log_axis(axis, "x", frame[x])
    elif looks is not None:
        axis.set_xlim(0, 1.08 * frame[x].max())  # a small difference in cost is to look small
    style.legend_below(figure)
    return figure
