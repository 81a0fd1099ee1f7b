"""Which comparisons of a race are undecided: the decisions of its page, from values by row and seed."""

from collections.abc import Mapping
from typing import cast

from msd_sweeps.report.cells import Value
from msd_sweeps.report.comparisons import UNDECIDED, difference_columns, distinct
from msd_sweeps.report.stats import Family
from msd_sweeps.space.designs import Sweep

REFERENCES = {"leave_one_out": "full", "one_at_a_time": "base"}
"""The row with which a design compares its other rows."""


def compared_rows(sweep: Sweep, labels: list[str]) -> list[tuple[str, str]]:
    """The rows that a page compares: each with the baseline, and where a design has a reference, its rows with that."""
    names = {label: [label, *label.split(" = ")] for label in labels}
    also = set(sweep.space.also)
    pairs = []
    for reference in (sweep.space.report.baseline, REFERENCES.get(sweep.space.design)):
        own = next((label for label in labels if reference in names[label]), None)
        others = labels if reference == sweep.space.report.baseline else [one for one in labels if one not in also]
        pairs += [(label, own) for label in others if own is not None and label != own]
    return list({frozenset(pair): pair for pair in pairs}.values())


def undecided(sweep: Sweep, values: Mapping[str, Mapping[int, float]]) -> set[str]:
    """The rows that need more seeds: both of every undecided comparison. values: by label and seed; rows may be empty.

    A comparison that has no interval, as its trials failed, gets no more seeds.
    """
    rows = compared_rows(sweep, list(values))
    pairs = [(values[one], values[other]) for one, other in rows]
    family = Family(distinct(pairs), sweep.space.looks)
    margin = sweep.space.race.until.settled if sweep.space.race else None
    decisions = cast(list[str], difference_columns(pairs, family, Value.of(sweep.space).sign, margin)["decision"])
    return {label for pair, decided in zip(rows, decisions, strict=True) if decided == UNDECIDED for label in pair}
