"""What a figure is before it is drawn, and how each cell looks in all figures of a page."""

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from msd_sweeps.report.figures.style import COLORS, GREY, MARKERS, Look
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


def named_cells(results: Results) -> list[str]:
    """Labels of the cells with a colour of their own: the baseline and the best others, in the table's order."""
    sign = 1 if results.value.higher_is_better else -1

    def rank(place: int) -> tuple[bool, bool, float, int]:
        cell = results.cells[place]
        mean = sign * cell.interval.mean if cell.values else 0.0
        return cell is not results.baseline, not cell.values, -mean, place

    finished = [place for place, cell in enumerate(results.cells) if cell.states["finished"]]
    chosen = sorted(sorted(finished, key=rank)[: len(COLORS)])
    return [results.cells[place].label for place in chosen]


def cell_looks(results: Results) -> dict[str, Look]:
    """Colour and marker of each cell by its label, the same in every figure; cells without a name of their own are grey."""
    named = map(Look, COLORS, MARKERS)
    return {cell.label: Look(GREY, "o") for cell in results.cells} | dict(zip(named_cells(results), named))
