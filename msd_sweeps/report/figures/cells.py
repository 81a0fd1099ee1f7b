"""Cells: their differences and effects, every seed behind every mean, and results against what they cost."""

from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import msd_sweeps.report.figures.style as style
from msd_sweeps.records.ranking import best_first
from msd_sweeps.report import screening
from msd_sweeps.report.beside import over_tasks
from msd_sweeps.report.cells import metric_title
from msd_sweeps.report.figures.style import Look, Plot, cell_looks
from msd_sweeps.report.formats import short
from msd_sweeps.report.results import NO_RESULT, Results, front_of
from msd_sweeps.report.stats import mean_interval
from msd_sweeps.report.tables import what_is_charged
from msd_sweeps.space.trial import Metric

MOST_TOLD = 4
"""Cells of a front that a caption names."""


def differences(results: Results) -> Iterator[Plot]:
    """Effects of factors or of parts left out; where a design has neither, differences of cells to the baseline."""
    looks: Mapping[str, Look] | None = cell_looks(results)
    if results.effects.empty or results.effects_are_rows:
        table, against = results.table, results.baseline.label if results.baseline else ""
        numbers = table[table["pairs"] > 0].assign(factor="", level=table["label"], reference=against)
        title = f"Differences to {short(against, 40)}"
    elif results.design == "leave_one_out":
        numbers = results.effects.assign(level="without " + results.effects["level"])
        title, against = "What leaving out each part does", "the full method"
    else:
        numbers, looks = results.effects, None
        title, against = "What each factor does", "the level named beside each factor"
    numbers = numbers.assign(low=numbers["difference_low"], high=numbers["difference_high"])
    columns = ["factor", "level", "reference", "difference", "low", "high", "pairs", "paired"]
    numbers = numbers.loc[numbers["difference"].notna(), columns].reset_index(drop=True)
    if numbers.empty:
        return
    fewest, most = numbers["pairs"].min(), numbers["pairs"].max()
    pairs = f"{fewest} to {most}" if fewest < most else str(fewest)
    how = "paired by seed" if numbers["paired"].all() else "paired by seed where seeds are shared"
    caption = f"Difference to {short(against)}, {how} ({pairs} pair{'s' * bool(most > 1)}), with 95 % "
    caption += "intervals that hold together." + " One pair has no interval." * bool(fewest == 1)
    if (hidden := len(numbers) - style.MOST_ROWS) > 0:
        caption += f" The first {style.MOST_ROWS} rows; {hidden} more are in the CSV."

    def draw(frame: pd.DataFrame) -> Figure:
        """A row a difference: of a cell in its look, of a level (no looks) under its factor and its reference."""
        names: list[str] = []
        places: list[int] = []
        shown = frame.head(style.MOST_ROWS).rename(columns={"difference": "value"})
        for _, rows in shown.groupby("factor", sort=False) if looks is None else [("", shown)]:
            if looks is None:
                names.append(f"{rows['factor'].iloc[0]}, against {rows['reference'].iloc[0]}")
            places += range(len(names), len(names) + len(rows))
            names += rows["level"].tolist()
        figure, axis = style.rows_figure(names, results.value.difference_title)
        axis.axvline(0, color="black", linewidth=0.8)
        for place, row in zip(places, shown.itertuples(index=False), strict=True):
            look = style.PLAIN if looks is None else looks.get(row.level, style.OTHER)
            style.mean_with_interval(axis, "x", place, row, look)
        for place in set(range(len(names))) - set(places):
            axis.get_yticklabels()[place].set_fontweight("bold")
            axis.yaxis.get_major_ticks()[place].tick1line.set_visible(False)
        axis.margins(x=0.08)
        return figure

    yield Plot("effects", title, caption, numbers, draw)


def effects(results: Results) -> Iterator[Plot]:
    """The effects of a screening design with their intervals, the largest on top."""
    if results.design != "screening":
        return
    frame, notes = screening.effects(results.frames.sweep, results.cells, results.family)
    frame = frame.reindex(frame["difference"].abs().sort_values(ascending=False, kind="stable").index)
    frame = frame.rename(columns={"difference": "value"}).reset_index(drop=True)
    if frame.empty:
        return
    caption = "Every effect, the largest on top; intervals hold together at 95 %. An interaction names the first of "
    caption += " ".join(["those that are aliased.", *notes])
    draw = partial(_draw_effects, x=results.value.difference_title)
    yield Plot("screening", "What each choice does", caption, frame, draw)


def _draw_effects(frame: pd.DataFrame, x: str) -> Figure:
    shown = frame.head(style.MOST_ROWS)
    names = [
        f"{row.effect}: {row.change}" if row.change else row.effect.partition(" = ")[0] + " …" * (" = " in row.effect)
        for row in shown.itertuples()
    ]
    drawn, axis = style.rows_figure(names, x)
    axis.axvline(0, color="black", linewidth=0.8)
    for place, row in enumerate(shown.itertuples(index=False)):
        style.mean_with_interval(axis, "x", place, row)
    axis.margins(x=0.08)
    return drawn


def seed_frame(groups: Mapping[str, Mapping[int, float]], group: str) -> pd.DataFrame:
    """Rows of several groups, each {seed: value}: every seed's value, then their mean with its 95 % interval.

    Columns: `group`, kind (seed or mean), seed, value, low, high, n (of a seed 1).
    """
    rows: list[tuple[object, ...]] = []
    for name, values in groups.items():
        rows += [(name, "seed", seed, values[seed], np.nan, np.nan, 1) for seed in sorted(values)]
        interval = mean_interval([values[seed] for seed in sorted(values)])
        if interval.n:
            rows.append((name, "mean", pd.NA, *interval))
    frame = pd.DataFrame(rows, columns=[group, "kind", "seed", "value", "low", "high", "n"])
    return frame.astype({"seed": "Int64", "n": "int64", "value": float})


def seeds_note(frame: pd.DataFrame) -> str:
    """What the dots and bars of a `seed_frame` are."""
    n = frame.loc[frame["kind"] == "mean", "n"]
    counts = f"n = {n.min()}" if n.min() == n.max() else f"n = {n.min()} to {n.max()}"
    single = " A single seed has no interval." if n.min() == 1 else ""
    return f"Dots are seeds, beside their mean; bars are its 95 % t interval, {counts}.{single}"


def seeds(results: Results) -> Iterator[Plot]:
    """The seeds of each cell of the result table."""
    numbers, looks = seed_frame({cell.label: cell.values for cell in results.cells}, "cell"), cell_looks(results)
    if numbers.empty:
        return
    caption = f"{seeds_note(numbers)} Last epoch."
    if (hidden := numbers["cell"].nunique() - style.MOST_ROWS) > 0:
        caption += f" The first {style.MOST_ROWS} cells; {hidden} more are in the CSV."

    def draw(frame: pd.DataFrame) -> Figure:
        names = list(dict.fromkeys(frame["cell"]))[: style.MOST_ROWS]
        figure, axis = style.rows_figure(names, results.value.title)
        for place, name in enumerate(names):
            *dots, mean = frame[frame["cell"] == name].itertuples(index=False)
            style.seeds_beside(axis, "x", [place] * len(dots), [dot.value for dot in dots])
            style.mean_with_interval(axis, "x", place, mean, looks.get(name, style.OTHER))
        axis.autoscale_view()
        return figure

    yield Plot("seeds", "Every seed behind its mean", caption, numbers, draw)


def ranks(results: Results) -> Iterator[Plot]:
    """Mean ranks of methods over pairs of networks and data sets, with the critical difference (Demšar 2006)."""
    frame = over_tasks(results).frame
    if frame.empty or frame["critical_difference"].isna().any():
        return
    critical = frame["critical_difference"].iloc[0]
    numbers = frame[["method", "rank", "tasks", "critical_difference"]]
    numbers = numbers.assign(low=frame["rank"] - critical / 2, high=frame["rank"] + critical / 2)
    caption = (
        f"Mean ranks over {numbers['tasks'].iloc[0]} pairs, 1 is best. Bars are half the critical difference "
        f"({critical:.2f}) to each side: methods whose bars do not meet differ (Nemenyi test, 5 % for all together)."
    )
    if (hidden := len(numbers) - style.MOST_ROWS) > 0:
        caption += f" The first {style.MOST_ROWS} methods; {hidden} more are in the CSV."

    def draw(frame: pd.DataFrame) -> Figure:
        shown = frame.head(style.MOST_ROWS).rename(columns={"rank": "value"})
        figure, axis = style.rows_figure(list(shown["method"]), "mean rank")
        for place, row in enumerate(shown.itertuples(index=False)):
            style.mean_with_interval(axis, "x", place, row)
        return figure

    yield Plot("ranks", "Mean ranks and their critical difference", caption, numbers, draw)


def costs(results: Results) -> Iterator[Plot]:
    """Accuracy against the seconds that a trial trained, with the cells that nobody beats in both."""
    table = results.table
    frame = table.loc[table["seconds"].notna() & (table["n"] > 0), ["label", "seconds", "mean", "low", "high", "n"]]
    if len(frame) < 2:
        return
    frame = frame.reset_index(drop=True)
    metrics = [Metric(mode="min"), Metric(mode="max" if results.value.sign > 0 else "min")]
    frame["front"] = frame.index.isin(best_first(frame[["seconds", "mean"]].to_numpy().tolist(), metrics))
    front = frame.loc[frame["front"]].sort_values("seconds", kind="stable")["label"].tolist()
    told = ", ".join([short(name, 40) for name in front[:MOST_TOLD]] + ["..."] * (len(front) > MOST_TOLD))
    joined = f"The dashed line joins the {len(front)} cells of the Pareto front ({told}), which no other beats in both."
    if len(front) == 1:
        joined = f"{told} is both the cheapest and the best cell, so it alone is the Pareto front."
    caption = (
        f"Mean training time of a trial on {results.frames.device} against its result with 95 % t interval. {joined} "
        f"The time is {what_is_charged(results)}"
    )
    draw = partial(_draw_costs, x="seconds", y="mean", titles=("training time of a trial (s)", results.value.title))
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
        draw = partial(_draw_costs, x=other.name, y=first.name, titles=titles, step=step)
        yield Plot("pareto" if place == 1 else f"pareto_{place}", title, caption, frame, draw)


def _draw_costs(
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
