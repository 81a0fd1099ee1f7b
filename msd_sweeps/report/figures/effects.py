"""The forest plot: what each change does, as differences with intervals around zero."""

from collections.abc import Iterator, Mapping
from functools import partial

import pandas as pd
from matplotlib.figure import Figure

from msd_sweeps.report.escaping import short
from msd_sweeps.report.figures.plot import Plot, cell_looks
from msd_sweeps.report.figures.style import MOST_ROWS, PLAIN, Look, few_ticks, mean_with_interval, rows_figure
from msd_sweeps.report.results import Results

_COLUMNS = ["factor", "level", "reference", "difference", "low", "high", "pairs", "paired"]


def differences(results: Results) -> Iterator[Plot]:
    """Effects of factors or of parts left out; where a design has neither, differences of cells to the baseline."""
    looks = cell_looks(results)
    if results.effects.empty:
        table = results.table.frame
        against = results.baseline.label if results.baseline else ""
        frame = table[table["pairs"] > 0].assign(factor="", level=table["label"], reference=against)
        title = f"Differences to {short(against, 40)}"
    elif results.design == "leave_one_out":
        frame = results.effects.assign(level="without " + results.effects["level"])
        title, against = "What leaving out each part does", "the full method"
    else:
        frame, looks = results.effects, {}
        title, against = "What each factor does", "the level named beside each factor"
    frame = frame.assign(low=frame["difference_low"], high=frame["difference_high"])
    frame = frame.loc[frame["difference"].notna(), _COLUMNS].reset_index(drop=True)
    if frame.empty:
        return
    fewest, most = frame["pairs"].min(), frame["pairs"].max()
    pairs = f"{fewest} to {most}" if fewest < most else str(fewest)
    how = "paired by seed" if frame["paired"].all() else "paired by seed where seeds are shared"
    caption = f"Difference to {short(against)}, {how} ({pairs} pairs), with 95 % t intervals, not corrected for their "
    caption += "number."
    if fewest == 1:
        caption += " One pair has no interval."
    if len(frame) > MOST_ROWS:
        caption += f" The first {MOST_ROWS} rows; {len(frame) - MOST_ROWS} more are in the CSV."
    yield Plot("effects", title, caption, frame, partial(_draw, title=results.value.difference_title, looks=looks))


def _draw(frame: pd.DataFrame, title: str, looks: Mapping[str, Look]) -> Figure:
    """A row a difference. Rows of cells have their cell's look; levels stand under their factor and its reference."""
    names, heads, places = [], [], []
    for row in frame.head(MOST_ROWS).itertuples(index=False):
        head = f"{row.factor}, against {row.reference}"
        if not looks and head not in names:
            heads.append(len(names))
            names.append(head)
        places.append(len(names))
        names.append(str(row.level))
    figure, axis = rows_figure(names)
    axis.axvline(0, color="black", linewidth=0.8)
    shown = frame.rename(columns={"difference": "value"}).itertuples(index=False)
    for place, row in zip(places, shown, strict=False):
        mean_with_interval(axis, "x", place, row, looks.get(str(row.level), PLAIN))
    for place in heads:
        axis.get_yticklabels()[place].set_fontweight("bold")
        axis.yaxis.get_major_ticks()[place].tick1line.set_visible(False)
    few_ticks(axis)
    axis.set_xlabel(title)
    axis.margins(x=0.08)
    return figure
