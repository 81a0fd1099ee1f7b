"""What a report is made from, and what a figure is before it is drawn."""

from dataclasses import dataclass, field

import pandas as pd

from msd_sweeps.report.cells import Cell, Value
from msd_sweeps.report.effects import Factor
from msd_sweeps.report.frames import Frames
from msd_sweeps.report.tables import ResultTable


@dataclass(frozen=True)
class FigureNumbers:
    """One figure before it is drawn."""

    slug: str
    """Name of its files."""
    kind: str
    """Which drawing it gets: a key of `figures.DRAWINGS`."""
    title: str
    caption: str
    frame: pd.DataFrame
    axes: dict[str, str] = field(default_factory=dict)
    """Texts and choices of the drawing: labels of the axes with units, scales."""


@dataclass(frozen=True)
class Results:
    """Everything that a report is made from."""

    frames: Frames
    value: Value
    cells: list[Cell]
    baseline: Cell | None
    table: ResultTable
    factors: list[Factor]
    effects: pd.DataFrame
    importances: pd.DataFrame
    confirmation: pd.DataFrame
    """Search score against confirmed score; see `searching.winners_curse`."""

    @property
    def design(self) -> str:
        """The design of the space; empty where the ledger does not say."""
        return str(self.frames.header.space.get("design", ""))
