"""The figures of a report. Each module has a family of figures: their numbers, and the drawing of these numbers."""

import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace

from msd_sweeps.report.figures import cells, levels, trials
from msd_sweeps.report.figures.style import Plot, rendered, style
from msd_sweeps.report.formats import csv_bytes, rounded_frame
from msd_sweeps.report.results import Results

FIGURES: tuple[Callable[[Results], Iterator[Plot]], ...] = (
    cells.effects,
    cells.differences,
    cells.ranks,
    cells.seeds,
    cells.fronts,
    trials.confirmation,
    trials.importances,
    trials.history,
    levels.scales,
    levels.slices,
    levels.maps,
    levels.search_map,
    cells.costs,
    trials.cell_curves,
    trials.trial_curves,
)
"""The figures in the order of the page. A function yields nothing where a sweep has no numbers for its figure."""


def plots_of(results: Results) -> list[Plot]:
    """The figures that a sweep has numbers for, in the order of the page."""
    return [replace(plot, frame=rounded_frame(plot.frame)) for figures in FIGURES for plot in figures(results)]


def files_of(plot: Plot) -> dict[str, bytes]:
    """The files of a figure: `<slug>.csv`, `.svg` and `.pdf`."""
    with style(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a glyph that the font lacks is drawn as a box
        logging.getLogger("matplotlib").setLevel(logging.ERROR)
        figure = plot.draw(plot.frame)
        drawn = {f"{plot.slug}.{kind}": rendered(figure, kind) for kind in ("svg", "pdf")}
    return {f"{plot.slug}.csv": csv_bytes(plot.frame), **drawn}
