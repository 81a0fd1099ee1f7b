"""Every number of a report."""

from dataclasses import dataclass

import pandas as pd

from msd_sweeps.report.cells import Cell, Value, cells_of, value_of
from msd_sweeps.report.comparisons import baseline_of
from msd_sweeps.report.effects import Factor, effects, factors_of
from msd_sweeps.report.frames import Frames
from msd_sweeps.report.search import importances, winners_curse
from msd_sweeps.report.tables import ResultTable, result_table
from msd_sweeps.report.writing import rounded_frame


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
    """Search score against confirmed score; see `search.winners_curse`."""

    @property
    def design(self) -> str:
        """The design of the space."""
        return self.frames.sweep.space.design


def results_of(frames: Frames) -> Results:
    """Every number of a report."""
    value = value_of(frames)
    cells = cells_of(frames, value)
    baseline = baseline_of(frames, cells)
    table = result_table(frames, cells, baseline, value)
    factors = factors_of(frames.sweep, cells)
    measured = rounded_frame(effects(factors))
    return Results(
        frames, value, cells, baseline, table, factors, measured, importances(frames), winners_curse(table.frame)
    )
