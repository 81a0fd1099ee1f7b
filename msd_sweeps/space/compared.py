"""Which rows a page compares, known before anything has run."""

import math

from msd_sweeps.space.designs import Sweep
from msd_sweeps.space.levels import levels_of

REFERENCES = {"leave_one_out": "full", "one_at_a_time": "base"}
"""The row with which a design compares its other rows."""
MOST_INTERACTIONS = 16
"""Interactions of two factors beyond which a page does not test them: each would widen every interval."""


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


def comparisons_planned(sweep: Sweep) -> int:
    """How many comparisons the page will make: of rows, and of the levels of several factors with each other."""
    space = sweep.space
    labels = list(dict.fromkeys(planned.label for planned in sweep.fixed_trials))
    if space.design == "search":
        return len(compared_rows(sweep, [*labels, *sweep.winner_labels]))
    count = len(compared_rows(sweep, labels))
    if space.design == "screening":
        return count + sweep.layout.effects
    more = [len(levels_of(parameter)) - 1 for parameter in space.parameters.values()]
    if space.design == "grid" and (len(more) > 1 or not count):
        count += sum(more)
        count += math.prod(more) if len(more) == 2 and math.prod(more) <= MOST_INTERACTIONS else 0
    return count
