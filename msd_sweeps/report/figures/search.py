"""How a search went, which parameters mattered, and what its winners' scores were worth.

A search's scores choose the winners and are no results; the captions say so.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

import msd_sweeps.report.figures.style as style
from msd_sweeps.report.cells import metric_title, short_path
from msd_sweeps.report.figures.style import Plot, cell_looks
from msd_sweeps.report.results import Results
from msd_sweeps.report.search import NO_RESULT, search_trials


def history(results: Results) -> Iterator[Plot]:
    """The score of every trial in order, and the best so far."""
    frame = search_trials(results.frames)
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
