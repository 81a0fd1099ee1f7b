"""Cells against a named baseline: paired by seed where seeds allow, corrected over the table."""

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from msd_sweeps.report.cells import Cell, Value
from msd_sweeps.report.frames import Frames
from msd_sweeps.report.stats import (
    LARGEST_EXACT,
    Difference,
    Interval,
    holm,
    paired_difference,
    smallest_p,
    unpaired_difference,
)


def baseline_of(frames: Frames, cells: Sequence[Cell]) -> Cell | None:
    """The cell that the space names as its baseline, or None."""
    name = frames.sweep.space.report.baseline
    return cell_named(cells, name) if name else None


def cell_named(cells: Sequence[Cell], name: str) -> Cell | None:
    """The cell with this label, else the one whose label joins this name with others; else in other letters' case."""
    for fold in (str, str.casefold):
        for joined in (False, True):
            for cell in cells:
                if fold(name) in map(fold, cell.names if joined else [cell.label]):
                    return cell
    return None


def difference_of(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Difference | None:
    """The difference `ours - theirs` of values by seed; None where one of them has no value.

    Paired over the shared seeds, by Welch where fewer than two are shared.
    """
    shared = sorted(set(ours) & set(theirs))
    if len(shared) >= 2 or (shared and min(len(ours), len(theirs)) == 1):
        return paired_difference([ours[seed] for seed in shared], [theirs[seed] for seed in shared])
    if ours and theirs:
        return unpaired_difference(*([values[seed] for seed in sorted(values)] for values in (ours, theirs)))
    return None


def clearly_best(cells: Sequence[Cell], value: Value) -> int | None:
    """The place of the cell whose difference to every other has an interval on the good side of zero; None without."""
    sign = 1 if value.higher_is_better else -1
    known = [place for place, cell in enumerate(cells) if cell.values and cell.phase != "teacher"]
    if len(known) < 2:
        return None
    best = max(known, key=lambda place: sign * cells[place].interval.mean)
    others = (difference_of(cells[best].values, cells[place].values) for place in known if place != best)
    is_clear = all(other and other.interval.excludes_zero and sign * other.interval.mean > 0 for other in others)
    return best if is_clear else None


def difference_columns(difference: Difference | None) -> dict[str, object]:
    """The columns that describe a difference; NaN where there is none."""
    if difference is None:
        difference = Difference(Interval(math.nan, math.nan, math.nan, 0), False, math.nan, math.nan)
    mean, low, high, n = difference.interval
    return {
        "difference": mean,
        "difference_low": low,
        "difference_high": high,
        "pairs": n,
        "paired": difference.paired,
        "p_t": difference.p_t,
        "p_exact": difference.p_exact,
        "testable": difference.testable,
    }


def with_holm(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with `p_holm`: Holm's correction over the rows that can be tested, NaN elsewhere."""
    p = frame["p_exact"].where(frame["p_exact"].notna(), frame["p_t"]).where(frame["testable"].astype(bool))
    frame.insert(list(frame.columns).index("testable") + 1, "p_holm", holm(p.to_numpy(dtype=float)))
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
