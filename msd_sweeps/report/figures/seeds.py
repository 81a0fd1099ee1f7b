"""Every seed behind every mean: a row a cell."""

from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from msd_sweeps.report.figures.plot import Plot, cell_looks
from msd_sweeps.report.figures.style import MOST_ROWS, OTHER, Look, mean_with_interval, rows_figure, seeds_beside
from msd_sweeps.report.results import Results
from msd_sweeps.report.stats import mean_interval


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
    return f"Dots are seeds, bars 95 % t intervals of the mean, {counts}.{single}"


def cell_seeds(results: Results) -> Iterator[Plot]:
    """The seeds of each cell of the result table."""
    frame = seed_frame({cell.label: cell.values for cell in results.cells}, "cell")
    if not frame.empty:
        caption = f"{seeds_note(frame)} Last epoch."
        if (hidden := frame["cell"].nunique() - MOST_ROWS) > 0:
            caption += f" The first {MOST_ROWS} cells; {hidden} more are in the CSV."
        draw = partial(_draw, x=results.value.title, looks=cell_looks(results))
        yield Plot("seeds", "Every seed behind its mean", caption, frame, draw)


def _draw(frame: pd.DataFrame, x: str, looks: Mapping[str, Look]) -> Figure:
    names = list(dict.fromkeys(frame["cell"]))[:MOST_ROWS]
    figure, axis = rows_figure(names, x)
    for place, name in enumerate(names):
        *seeds, mean = frame[frame["cell"] == name].itertuples(index=False)
        seeds_beside(axis, "x", [place] * len(seeds), [seed.value for seed in seeds])
        mean_with_interval(axis, "x", place, mean, looks.get(name, OTHER))
    axis.autoscale_view()
    return figure
