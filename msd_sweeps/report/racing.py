"""Which comparisons of a race are undecided: the decisions of its page, from values by row and seed."""

from collections.abc import Mapping
from typing import cast

from msd_sweeps.report.cells import Value
from msd_sweeps.report.comparisons import UNDECIDED, difference_columns, family_of
from msd_sweeps.space.compared import compared_rows
from msd_sweeps.space.designs import Sweep


def undecided(sweep: Sweep, values: Mapping[str, Mapping[int, float]]) -> set[str]:
    """The rows that need more seeds: both of every undecided comparison. values: by label and seed; rows may be empty.

    A comparison that has no interval, as its trials failed, gets no more seeds.
    """
    rows = compared_rows(sweep, list(values))
    pairs = [(values[one], values[other]) for one, other in rows]
    family = family_of(pairs, sweep.space.looks)
    margin = sweep.space.race.until.settled if sweep.space.race else None
    decisions = cast(list[str], difference_columns(pairs, family, Value.of(sweep.space).sign, margin)["decision"])
    return {label for pair, decided in zip(rows, decisions, strict=True) if decided == UNDECIDED for label in pair}
