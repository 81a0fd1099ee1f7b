"""Cells against a named baseline: paired by seed where seeds allow, corrected over the table."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from msd_sweeps.report.cells import Cell, Value, replicate_order
from msd_sweeps.report.frames import Frames
from msd_sweeps.report.stats import LARGEST_EXACT, Difference, holm, paired_difference, smallest_p, unpaired_difference

_CELL_COLUMNS = ("label", "cell", "configuration", "metric", "n", "planned", "mean", "low", "high")


def baseline_of(frames: Frames, cells: Sequence[Cell]) -> Cell | None:
    """The cell that the space names as its baseline, or None."""
    wanted = (frames.header.space.get("report") or {}).get("baseline")
    return cell_named(cells, wanted) if wanted else None


def cell_named(cells: Sequence[Cell], label: str) -> Cell | None:
    """The cell with this label, else with this label in other letters' case."""
    for same in (lambda text: text == label, lambda text: text.casefold() == label.casefold()):
        for cell in cells:
            if same(cell.label):
                return cell
    return None


def difference_of(ours: Cell, theirs: Cell) -> Difference | None:
    """The difference `ours - theirs`: paired over the shared seeds, by Welch where fewer than two are shared.

    None where one of them has no value.
    """
    shared = sorted(set(ours.values) & set(theirs.values), key=replicate_order)
    if len(shared) >= 2 or (shared and min(len(ours.values), len(theirs.values)) == 1):
        return paired_difference([ours.values[key] for key in shared], [theirs.values[key] for key in shared])
    if ours.values and theirs.values:
        first, second = (
            [cell.values[key] for key in sorted(cell.values, key=replicate_order)] for cell in (ours, theirs)
        )
        return unpaired_difference(first, second)
    return None


def compare(cells: Sequence[Cell], baseline: Cell | None, value: Value) -> pd.DataFrame:
    """A row a cell, in order: its mean, and its difference to the baseline with Holm's correction over rows.

    Units are those of the compared metric. `p_holm` is empty where no p at this n could reach 0.05.
    """
    rows = []
    for cell in cells:
        interval = cell.interval
        told = (cell.label, cell.cell, cell.summary, value.name, interval.n, cell.planned)
        row: dict[str, object] = dict(zip(_CELL_COLUMNS, (*told, *interval[:3]), strict=True))
        difference = None
        if baseline is not None and cell is not baseline and cell.phase != "teacher":
            difference = difference_of(cell, baseline)
        row |= difference_columns(difference, baseline.label if baseline is not None and difference else "")
        rows.append(row | {"note": "; ".join(cell.faults)})
    return with_holm(pd.DataFrame(rows, columns=[*_CELL_COLUMNS, *difference_columns(None, ""), "note"]))


def difference_columns(difference: Difference | None, baseline: str) -> dict[str, object]:
    """The columns that describe a difference; NaN where there is none."""
    if difference is None:
        interval, p_t, p_exact, paired, testable = None, math.nan, math.nan, False, False
    else:
        interval, paired, testable = difference.interval, difference.paired, difference.testable
        p_t, p_exact = difference.p_t, difference.p_exact
    return {
        "baseline": baseline,
        "difference": interval.mean if interval else math.nan,
        "difference_low": interval.low if interval else math.nan,
        "difference_high": interval.high if interval else math.nan,
        "pairs": interval.n if interval else 0,
        "paired": paired,
        "p_t": p_t,
        "p_exact": p_exact,
        "testable": testable,
    }


def with_holm(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with `p_holm`: Holm's correction over the rows that can be tested, NaN elsewhere."""
    p = frame["p_exact"].where(frame["p_exact"].notna(), frame["p_t"]).where(frame["testable"].astype(bool))
    place = int(np.flatnonzero(frame.columns == "testable")[0]) + 1
    frame.insert(place, "p_holm", holm(p.to_numpy(dtype=float)))
    return frame


def test_notes(frame: pd.DataFrame) -> list[str]:
    """What the p-values of a table of differences are, and why some or all are missing."""
    compared = frame[frame["pairs"] > 0]
    tested = int(compared["testable"].sum())
    notes = []
    if tested < len(compared):
        few = int(compared.loc[~compared["testable"].astype(bool), "pairs"].max())
        notes.append(f"Not testable: with {few} pairs the smallest exact p is {smallest_p(few):.4g}, above 0.05.")
    if tested:
        what = f"p: exact sign-flip test up to {LARGEST_EXACT} pairs, paired t-test beyond"
        notes.append(f"{what}; Holm over {tested} tests.")
    return notes
