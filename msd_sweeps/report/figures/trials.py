"""Trials: how a search went, which parameters mattered, what its winners' scores were worth, and learning curves.

A search's scores choose the winners and are no results; the captions say so.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

import msd_sweeps.report.figures.style as style
from msd_sweeps.report.cells import metric_title, short_path
from msd_sweeps.report.figures.style import Plot, cell_looks
from msd_sweeps.report.results import NO_RESULT, PERMUTATIONS, Results, search_trials
from msd_sweeps.report.stats import ALPHA, half_widths

MOST_CURVES = 100
"""Search trials up to which every learning curve is drawn; beyond, quantiles."""


def history(results: Results) -> Iterator[Plot]:
    """The score of every finished trial in order, and the best so far."""
    numbers = search_trials(results.frames)
    if not ((numbers["state"] == "finished") & numbers["score"].notna()).any():
        return
    caption = f"{NO_RESULT}{unfinished_note(numbers)}"
    caption += " Several searches stand together." * (len(results.frames.sweep.searches) > 1)
    numbers = numbers[numbers["state"] == "finished"].reset_index(drop=True)

    def draw(frame: pd.DataFrame) -> Figure:
        figure, (axis,) = style.new_figure(2.8, "search trial", metric_title(results.frames.metric.name))
        style.cloud(axis, frame["number"], frame["score"], frame["state"])
        line: dict[str, Any] = {"color": style.ORANGE, "linewidth": 1.4, "zorder": 1, "label": "best finished so far"}
        axis.step(frame["number"], frame["best"], where="post", **line)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        style.legend_below(figure, 3)
        return figure

    yield Plot("history", "How the search went", caption, numbers, draw)


def unfinished_note(trials: pd.DataFrame) -> str:
    """Why search trials that were stopped or failed are not among scores of the last epoch."""
    count = int((trials["state"] != "finished").sum())
    if not count:
        return ""
    some = "One trial" if count == 1 else f"{count} trials"
    return (
        f" {some} that did not finish {'is' if count == 1 else 'are'} left out: the last score is of an earlier epoch."
    )


def importances(results: Results) -> Iterator[Plot]:
    """PED-ANOVA importances."""
    numbers = results.importances
    if numbers.empty:
        return
    share, trials = numbers["quantile"].iloc[0], numbers["trials"].iloc[0]
    caption = (
        f"PED-ANOVA: how much each parameter tells the best {100 * share:.0f} % of the {trials} finished search "
        "trials from the rest, as shares of the sum. p: how often any parameter is as important when the scores are "
        f"shuffled among the trials ({PERMUTATIONS} times). "
    )
    clear = int((numbers["p"] <= ALPHA).sum())
    caption += f"{clear or 'None'} of {len(numbers)} can be told from chance; grey ones cannot."
    if results.frames.sweep.space.search.sampler not in ("random", "qmc"):
        caption += " p is approximate: this sampler learns from scores, and does not draw trials independently."
    if len(results.frames.sweep.space.metrics) > 1:
        caption += f" The best are those by {metric_title(results.frames.metric.name)} alone."

    def draw(frame: pd.DataFrame) -> Figure:
        names = [f"{row.parameter} (p = {row.p:.2g})" for row in frame.itertuples(index=False)]
        figure, axis = style.rows_figure(names, "share of all importance (0 to 1)")
        colors = [style.BLUE if p <= ALPHA else style.GREY for p in frame["p"]]
        axis.barh(range(len(frame)), frame["importance"], color=colors, height=0.6)
        axis.set_xlim(0, 1)
        return figure

    numbers = numbers.assign(parameter=[short_path(path) for path in numbers["parameter"]])
    yield Plot("importances", "Which parameters mattered", caption, numbers, draw)


def confirmation(results: Results) -> Iterator[Plot]:
    """The winners' search scores, crosses, joined with what they reach on fresh seeds."""
    looks = cell_looks(results)
    caption = (
        "Cross: the score that the search chose by (one seed, held-out images). Marker: fresh seeds, all training "
        "images, test set, with 95 % t interval. The gap is selection, other images and more training data "
        "together."
    )

    def draw(frame: pd.DataFrame) -> Figure:
        figure, axis = style.rows_figure(list(frame["label"]), results.value.title.replace("test ", ""))
        for place, row in enumerate(frame.rename(columns={"mean": "value"}).itertuples(index=False)):
            look = looks.get(row.label, style.OTHER)
            axis.plot([row.search_score, row.value], [place, place], color=style.GREY, linewidth=1, zorder=1)
            axis.plot([row.search_score], [place], "x", ms=6, mew=1.5, color=look.color, zorder=3)
            style.mean_with_interval(axis, "x", place, row, look)
        axis.margins(x=0.08)
        return figure

    if len(results.confirmation):
        yield Plot("confirmation", "Search score and confirmed score", caption, results.confirmation, draw)


def cell_curves(results: Results) -> Iterator[Plot]:
    """Validation accuracy by epoch of each cell; training accuracy where nothing is held out."""
    trials = results.frames.trials
    shown = trials[(trials["phase"] != "search") & (trials["state"] == "finished")]
    mine = results.frames.history.merge(shown[["trial", "cell"]], on="trial")
    held_out = results.value.validation in mine and mine[results.value.validation].notna().any()
    name = results.value.validation if held_out else "train_top1"
    if name not in mine or mine[name].isna().all():
        return
    labels = {cell.cell: cell.label for cell in results.cells if cell.cell}
    mine["label"] = pd.Categorical(mine["cell"].map(labels), list(labels.values()))
    groups = mine[mine[name].notna()].groupby(["label", "epoch"], observed=True)[name]
    numbers = groups.agg(value="mean", spread="std", n="count").reset_index().astype({"label": "str"})
    half = half_widths(numbers.pop("spread"), numbers["n"])
    looks = cell_looks(results)
    numbers = numbers.assign(low=numbers["value"] - half, high=numbers["value"] + half)
    if "(%)" in metric_title(name):
        numbers[["low", "high"]] = numbers[["low", "high"]].clip(0, 100)
    numbers["named"] = numbers["label"].isin(looks.keys())
    caption = "Mean over seeds by epoch, with 95 % t intervals as bands."
    if not held_out:
        caption += " Nothing is held out from these trials, so this is on the training images."
    if hidden := numbers.loc[~numbers["named"], "label"].nunique():
        caption += f" In grey the {hidden} cells that are neither the baseline nor among the best; the CSV has all."

    def draw(frame: pd.DataFrame) -> Figure:
        figure, axis = _epochs_figure(metric_title(name))
        lines = frame.set_index("epoch").groupby("label", sort=False)
        named = [cell for cell, rows in lines if cell in looks]
        for cell, rows in lines:
            if cell not in looks:
                axis.plot(rows["value"], color=style.GREY, linewidth=0.6, alpha=0.8, zorder=1, label="others")
        for place, cell in enumerate(named):
            rows, look, text = lines.get_group(cell), looks[cell], style.label(cell, 26, lines=2)
            # Markers of different lines stand at different epochs, so that near lines can be told apart.
            every = max(1, len(rows) // 5)
            marks: Any = (place * every // len(named), every)
            axis.plot(rows["value"], **look._asdict(), linewidth=1.2, label=text, markevery=marks)
            axis.fill_between(rows.index, rows["low"], rows["high"], color=look.color, alpha=0.15, linewidth=0)
        style.legend_below(figure)
        return figure

    yield Plot("learning_curves", "Learning curves", caption, numbers, draw)


def trial_curves(results: Results) -> Iterator[Plot]:
    """Every trial of a search, or quantiles over the trials where there are many."""
    name, trials = results.frames.metric.name, search_trials(results.frames)
    if trials["score"].isna().all() or name not in results.frames.history:
        return
    mine = results.frames.history[["trial", "epoch", name]].merge(trials[["trial", "number", "state"]], on="trial")
    mine = mine[mine[name].notna()].rename(columns={name: "value"})
    if trials["trial"].nunique() <= MOST_CURVES:
        frame = mine.sort_values(["number", "epoch"], kind="stable")[["number", "state", "epoch", "value"]]
        caption, draw = f"{NO_RESULT} Orange lines end where their trial was stopped or failed.", _draw_trials
    else:
        groups = mine.groupby("epoch")["value"]
        quantiles = {f"q{round(100 * q)}": groups.quantile(q) for q in (0.1, 0.25, 0.5, 0.75, 0.9)}
        frame = pd.DataFrame({**quantiles, "trials": groups.size()}).reset_index()
        caption = f"{NO_RESULT} Median, quartiles and 10 to 90 % of the trials that reached the epoch."
        draw = _draw_quantiles
    frame, draw = frame.reset_index(drop=True), partial(draw, y=metric_title(name))
    yield Plot("search_curves", "Learning curves of the search", caption, frame, draw)


def _epochs_figure(y: str) -> tuple[Figure, Axes]:
    figure, (axis,) = style.new_figure(2.7, "epoch", y)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure, axis


def _draw_trials(frame: pd.DataFrame, y: str) -> Figure:
    """A line a trial; a cross ends the line of one that was stopped or failed."""
    figure, axis = _epochs_figure(y)
    finished: dict[str, Any] = {"color": style.BLUE, "label": "finished", "zorder": 1}
    stopped = {"color": style.ORANGE, "label": "stopped or failed", "zorder": 2, "marker": "x", "markevery": [-1]}
    for _, rows in frame.groupby("number", sort=True):
        look = finished if rows["state"].iloc[0] == "finished" else stopped
        axis.plot(rows["epoch"], rows["value"], linewidth=1.0, alpha=0.8, **look)
    style.legend_below(figure)
    return figure


def _draw_quantiles(frame: pd.DataFrame, y: str) -> Figure:
    figure, axis = _epochs_figure(y)
    for low, high, alpha, name in (("q10", "q90", 0.15, "10 to 90 %"), ("q25", "q75", 0.3, "quartiles")):
        axis.fill_between(frame["epoch"], frame[low], frame[high], color=style.BLUE, alpha=alpha, lw=0, label=name)
    axis.plot(frame["epoch"], frame["q50"], color=style.BLUE, label="median")
    style.legend_below(figure, 3)
    return figure
