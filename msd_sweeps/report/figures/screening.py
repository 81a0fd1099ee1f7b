"""The effects of a screening design."""

from collections.abc import Iterator
from functools import partial

import pandas as pd
from matplotlib.figure import Figure

import msd_sweeps.report.figures.style as style
from msd_sweeps.report import screening
from msd_sweeps.report.figures.style import Plot
from msd_sweeps.report.results import Results


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
    yield Plot("screening", "What each choice does", caption, frame, partial(_draw, x=results.value.difference_title))


def _draw(frame: pd.DataFrame, x: str) -> Figure:
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
