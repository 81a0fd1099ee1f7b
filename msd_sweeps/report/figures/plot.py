"""What a figure is before it is drawn, and how each cell looks in all figures of a page."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from msd_sweeps.report.cells import Cell
from msd_sweeps.report.figures.style import COLORS, MARKERS, Look
from msd_sweeps.report.results import Results


@dataclass(frozen=True)
class Plot:
    """One figure: its numbers, its texts, and the function that draws the numbers."""

    slug: str
    """Name of its files."""
    title: str
    caption: str
    frame: pd.DataFrame
    """The numbers, which are written as CSV beside the drawing."""
    draw: Callable[[pd.DataFrame], Figure]


def cell_looks(results: Results) -> dict[str, Look]:
    """Colour and marker of cells by label: of the baseline and the best others, in the table's order."""
    sign = 1 if results.value.higher_is_better else -1

    def rank(cell: Cell) -> tuple[bool, float]:
        return cell is not results.baseline, -sign * cell.interval.mean if cell.values else math.inf

    finished = [cell for cell in results.cells if cell.states["finished"]]
    chosen = [cell.label for cell in sorted(finished, key=rank)[: len(COLORS)]]
    named = [cell.label for cell in finished if cell.label in chosen]
    return dict(zip(named, map(Look, COLORS, MARKERS), strict=False))
