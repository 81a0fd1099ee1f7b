"""Every number of a report."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from msd_sweeps.report import comparisons
from msd_sweeps.report.cells import Cell, Value, cells_of, teacher_cells, value_of
from msd_sweeps.report.frames import Frames
from msd_sweeps.report.search import importances, winners_curse
from msd_sweeps.report.stats import mean_interval
from msd_sweeps.report.writing import rounded_frame


@dataclass(frozen=True)
class Results:
    """Everything that a report is made from."""

    frames: Frames
    value: Value
    cells: list[Cell]
    baseline: Cell | None
    rows: list[Cell]
    """The rows of the result table: the teachers before the cells."""
    table: pd.DataFrame
    """The numbers of each row: its mean, its difference to the baseline, validation, cost and device."""
    factors: list[comparisons.Factor]
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
    name = frames.sweep.space.report.baseline
    baseline = comparisons.cell_named(cells, name) if name else None
    rows = [*teacher_cells(frames, value), *cells]
    measured = [_row(cell, baseline if cell in cells and cell is not baseline else None, value) for cell in rows]
    frame = comparisons.with_holm(pd.DataFrame(measured, columns=list(_row(Cell(""), None, value))))
    table = rounded_frame(frame).astype({"planned": "Int64"}).assign(device=frames.device)
    factors = comparisons.factors_of(frames.sweep, cells)
    differences = rounded_frame(comparisons.effects(factors))
    return Results(
        frames, value, cells, baseline, rows, table, factors, differences, importances(frames), winners_curse(table)
    )


def _row(cell: Cell, baseline: Cell | None, value: Value) -> dict[str, object]:
    """A cell's mean, its difference to the baseline, and what else is known of it."""
    difference = comparisons.difference_of(cell.values, baseline.values if baseline else {})
    interval, validation = cell.interval, mean_interval(list(cell.validation.values()))
    return {
        "label": cell.label,
        "cell": cell.cell,
        "configuration": cell.summary,
        "metric": value.name,
        "n": interval.n,
        "planned": cell.planned,
        "mean": interval.mean,
        "low": interval.low,
        "high": interval.high,
        "baseline": baseline.label if baseline and difference.interval.n else "",
        **comparisons.difference_columns(difference),
        "note": "; ".join(cell.faults),
        "validation": validation.mean,
        "validation_low": validation.low,
        "validation_high": validation.high,
        "search_score": cell.search_score,
        "seconds": float(np.mean(cell.seconds)) if cell.seconds else math.nan,
    }
