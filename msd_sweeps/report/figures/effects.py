"""The forest plot: what each change does, as differences with intervals around zero."""

from collections.abc import Iterator, Mapping
from functools import partial

import pandas as pd
from matplotlib.figure import Figure

from msd_sweeps.report.escaping import short
from msd_sweeps.report.figures.plot import Plot, cell_looks
from msd_sweeps.report.figures.style import MOST_ROWS, OTHER, PLAIN, Look, mean_with_interval, rows_figure
from msd_sweeps.report.results import Results

_COLUMNS = ["factor", "level", "reference", "difference", "low", "high", "pairs", "paired"]


def differences(results: Results) -> Iterator[Plot]:
    """Effects of factors or of parts left out; where a design has neither, differences of cells to the baseline."""
    looks: Mapping[str, Look] | None = cell_looks(results)
    if results.effects.empty:
        table, against = results.table.frame, results.baseline.label if results.baseline else ""
        frame = table[table["pairs"] > 0].assign(factor="", level=table["label"], reference=against)
        title = f"Differences to {short(against, 40)}"
    elif results.design == "leave_one_out":
        frame = results.effects.assign(level="without " + results.effects["level"])
        title, against = "What leaving out each part does", "the full method"
    else:
        frame, looks = results.effects, None
        title, against = "What each factor does", "the level named beside each factor"
    frame = frame.assign(low=frame["difference_low"], high=frame["difference_high"])
    frame = frame.loc[frame["difference"].notna(), _COLUMNS].reset_index(drop=True)
    if frame.empty:
        return
    fewest, most = frame["pairs"].min(), frame["pairs"].max()
    pairs = f"{fewest} to {most}" if fewest < most else str(fewest)
    how = "paired by seed" if frame["paired"].all() else "paired by seed where seeds are shared"
    caption = f"Difference to {short(against)}, {how} ({pairs} pairs), with 95 % t intervals, not corrected for their "
    caption += "number." + " One pair has no interval." * bool(fewest == 1)
    if len(frame) > MOST_ROWS:
        caption += f" The first {MOST_ROWS} rows; {len(frame) - MOST_ROWS} more are in the CSV."
    yield Plot("effects", title, caption, frame, partial(_draw, x=results.value.difference_title, looks=looks))


def _draw(frame: pd.DataFrame, x: str, looks: Mapping[str, Look] | None) -> Figure:
    """A row a difference: of a cell in its look, of a level (no looks) under its factor and its reference."""
    names: list[str] = []
    places: list[int] = []
    shown = frame.head(MOST_ROWS).rename(columns={"difference": "value"})
    for _, rows in shown.groupby("factor", sort=False) if looks is None else [("", shown)]:
        if looks is None:
            names.append(f"{rows['factor'].iloc[0]}, against {rows['reference'].iloc[0]}")
        places += range(len(names), len(names) + len(rows))
        names += rows["level"].tolist()
    figure, axis = rows_figure(names, x)
    axis.axvline(0, color="black", linewidth=0.8)
    for place, row in zip(places, shown.itertuples(index=False), strict=True):
        mean_with_interval(axis, "x", place, row, PLAIN if looks is None else looks.get(row.level, OTHER))
    for place in set(range(len(names))) - set(places):
        axis.get_yticklabels()[place].set_fontweight("bold")
        axis.yaxis.get_major_ticks()[place].tick1line.set_visible(False)
    axis.margins(x=0.08)
    return figure
