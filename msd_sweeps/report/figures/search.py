"""How a search went, which parameters mattered, and what its winners' scores were worth.

A search's scores choose the winners and are no results; the captions say so.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

import msd_sweeps.report.figures.style as style
from msd_sweeps.report.cells import metric_title, parameter_title, short_path, value_text
from msd_sweeps.report.figures.plot import Plot, cell_looks
from msd_sweeps.report.results import Results
from msd_sweeps.report.search import chosen
from msd_sweeps.space.schema import Range

NO_RESULT = "Scores on the held-out part of the training set, which chose the winners; they are no results."


def search_trials(results: Results) -> pd.DataFrame:
    """A row a search trial: number, trial, state, epochs, score (NaN where none), best so far."""
    trials, metric = results.frames.trials, results.frames.metric
    search = trials[trials["phase"] == "search"].sort_values(["number", "trial"], kind="stable")
    score = search[metric.name] if metric.name in search.columns else pd.Series(np.nan, index=search.index)
    frame = search[["number", "trial", "state", "epochs"]].assign(score=score.astype(float))
    finished = frame["score"].where(frame["state"] == "finished")
    best = finished.cummax() if metric.mode == "max" else finished.cummin()
    return frame.assign(best=best.ffill()).reset_index(drop=True)


def parameter_slices(results: Results) -> dict[str, pd.DataFrame]:
    """By parameter a row for each search trial that has a score and this parameter.

    Columns: factor (the parameter's title), number, state, score, level (as text), position (NaN for choices), log.
    """
    trials = search_trials(results)
    trials = trials.loc[trials["score"].notna(), ["number", "state", "score", "trial"]]
    slices = {}
    for name, values in chosen(results.frames, trials["trial"]).items():
        parameter, factor = results.frames.sweep.space.parameters[name], short_path(name)
        frame = trials.assign(level=pd.Series(values, trials.index, object), position=np.nan, log=False)
        frame = frame[frame["level"].notna()].drop(columns="trial")
        if isinstance(parameter, Range):
            factor = parameter_title(factor)
            frame = frame.assign(position=frame["level"].astype(float), log=parameter.log)
        frame["level"] = [value_text(level) for level in frame["level"]]
        frame.insert(0, "factor", factor)
        slices[name] = frame
    return slices


def history(results: Results) -> Iterator[Plot]:
    """The score of every trial in order, and the best so far."""
    frame = search_trials(results)
    if frame["score"].notna().any():
        caption = f"{NO_RESULT} A stopped trial stands at its last epoch's score, so the earlier the lower."
        draw = partial(_draw_history, y=metric_title(results.frames.metric.name))
        yield Plot("history", "How the search went", caption, frame, draw)


def _draw_history(frame: pd.DataFrame, y: str) -> Figure:
    figure, (axis,) = style.new_figure(2.8, "search trial", y)
    style.cloud(axis, frame["number"], frame["score"], frame["state"])
    line: dict[str, Any] = {"color": style.ORANGE, "linewidth": 1.4, "zorder": 1, "label": "best finished so far"}
    axis.step(frame["number"], frame["best"], where="post", **line)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    style.legend_below(figure, 3)
    return figure


def importances(results: Results) -> Iterator[Plot]:
    """PED-ANOVA importances."""
    frame = results.importances
    if not frame.empty:
        share, trials = frame["quantile"].iloc[0], frame["trials"].iloc[0]
        caption = (
            f"PED-ANOVA: how much each parameter tells the best {100 * share:.0f} % of the {trials} finished search "
            "trials from the rest, as shares of the sum. One search gives one value each and no interval."
        )
        if len(results.frames.sweep.space.metrics) > 1:
            caption += f" The best are those by {metric_title(results.frames.metric.name)} alone."
        frame = frame.assign(parameter=[short_path(path) for path in frame["parameter"]])
        yield Plot("importances", "Which parameters mattered", caption, frame, _draw_importances)


def _draw_importances(frame: pd.DataFrame) -> Figure:
    figure, axis = style.rows_figure(list(frame["parameter"]), "share of all importance (0 to 1)")
    axis.barh(range(len(frame)), frame["importance"], color=style.BLUE, height=0.6)
    axis.set_xlim(0, 1)
    return figure


def confirmation(results: Results) -> Iterator[Plot]:
    """The winners' search scores beside what they reach on fresh seeds."""
    frame = results.confirmation
    if not frame.empty:
        caption = (
            "Cross: the score that the search chose by (one seed, held-out images). Marker: fresh seeds, all training "
            "images, test set, with 95 % t interval. The gap is selection, other images and more training data "
            "together."
        )
        draw = partial(_draw_confirmation, x=results.value.title.replace("test ", ""), looks=cell_looks(results))
        yield Plot("confirmation", "Search score and confirmed score", caption, frame, draw)


def _draw_confirmation(frame: pd.DataFrame, x: str, looks: Mapping[str, style.Look]) -> Figure:
    """Each winner's search score, a cross, joined with its confirmed mean."""
    figure, axis = style.rows_figure(list(frame["label"]), x)
    for place, row in enumerate(frame.rename(columns={"mean": "value"}).itertuples(index=False)):
        look = looks.get(row.label, style.OTHER)
        axis.plot([row.search_score, row.value], [place, place], color=style.GREY, linewidth=1, zorder=1)
        axis.plot([row.search_score], [place], "x", ms=6, mew=1.5, color=look.color, zorder=3)
        style.mean_with_interval(axis, "x", place, row, look)
    axis.margins(x=0.08)
    return figure
