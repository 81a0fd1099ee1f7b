"""The figures of a report. Each module has a family of figures: their numbers, and the drawing of these numbers."""

import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from msd_sweeps.report.figures import cost, curves, effects, interactions, search, seeds, slices
from msd_sweeps.report.figures.plot import Plot
from msd_sweeps.report.figures.style import rendered, style
from msd_sweeps.report.results import Results
from msd_sweeps.report.writing import rounded_frame, write_bytes, write_csv

FIGURES: tuple[Callable[[Results], Iterator[Plot]], ...] = (
    effects.differences,
    seeds.cell_seeds,
    cost.fronts,
    search.confirmation,
    search.importances,
    search.history,
    slices.scales,
    slices.slices,
    interactions.interactions,
    cost.costs,
    curves.cell_curves,
    curves.trial_curves,
)
"""The figures in the order of the page. A function yields nothing where a sweep has no numbers for its figure."""


def plots_of(results: Results) -> list[Plot]:
    """The figures that a sweep has numbers for, in the order of the page."""
    plots = [plot for figures in FIGURES for plot in figures(results)]
    return [replace(plot, frame=rounded_frame(plot.frame)) for plot in plots]


def write(plot: Plot, folder: Path) -> tuple[list[Path], str]:
    """Write `<slug>.csv`, `.svg` and `.pdf` into a folder. Returns their paths, and the SVG's text."""
    with style(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a glyph that the font lacks is drawn as a box
        logging.getLogger("matplotlib").setLevel(logging.ERROR)
        figure = plot.draw(plot.frame)
        vector, print_form = rendered(figure, "svg"), rendered(figure, "pdf")
    paths = [
        write_csv(folder / f"{plot.slug}.csv", plot.frame),
        write_bytes(folder / f"{plot.slug}.svg", vector),
        write_bytes(folder / f"{plot.slug}.pdf", print_form),
    ]
    return paths, vector.decode()
