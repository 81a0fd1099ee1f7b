"""Trials and decisions of races beside fixed seeds: `python -m tests.report.bench_races [RACES] [SPREAD]`.

16 rows beside a baseline, of which 12 equal it and 4 differ by a point; settled at half a point; luck of 0.3 that rows
share at a seed, and SPREAD of each trial (0.22 points). "Right": all 16 decisions are right. Prints Markdown.
"""

import sys
from collections.abc import Sequence

import numpy as np

from msd_sweeps.report.comparisons import UNDECIDED, decision
from msd_sweeps.report.stats import Family, Floats, estimates

MARGIN = 0.5
TRUTH = np.array(["equal within 0.5"] * 12 + ["better", "better", "worse", "better"])
EFFECTS = np.array([0.0] * 13 + [1.0, 1.0, -1.0, 1.0])


def raced(values: Floats, looks: Sequence[int]) -> tuple[int, Floats]:
    """Trials and decisions of a race over values [rows, seeds], the baseline first."""
    family, counts = Family(len(values) - 1, tuple(looks)), np.full(len(values), looks[0])
    decided = np.array([UNDECIDED] * (len(values) - 1), dtype=object)
    for seeds in looks:
        counts[1:][decided == UNDECIDED] = counts[0] = seeds
        cells = [dict(enumerate(row[:count])) for row, count in zip(values.tolist(), counts, strict=True)]
        found = family.differences(estimates([(cell, cells[0]) for cell in cells[1:]]))
        decided = np.array([decision(one, 1, MARGIN) for one in found], dtype=object)
        if UNDECIDED not in decided:
            break
    return int(counts.sum()), decided


def main() -> None:
    """Print the table."""
    races = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    spread = float(sys.argv[2]) if len(sys.argv) > 2 else 0.22
    draw = np.random.default_rng(0)
    print("| seeds | trials | right (%) | a false decision (%) | decided rightly (% of rows) |")
    print("|---|---|---|---|---|")
    for looks in ((*range(4, 21, 2),), *((n,) for n in range(8, 21, 2))):
        trials, right, false, share = [], 0, 0, []
        for _ in range(races):
            values = draw.normal(size=(17, looks[-1])) * spread + EFFECTS[:, None]
            count, decided = raced(values + 0.3 * draw.normal(size=looks[-1]), looks)
            trials.append(count)
            right += bool((decided == TRUTH).all())
            false += bool(((decided != TRUTH) & (decided != UNDECIDED)).any())
            share.append(np.mean(decided == TRUTH))
        name = f"race {looks[0]} to {looks[-1]}" if len(looks) > 1 else f"fixed {looks[0]}"
        numbers = f"{100 * right / races:.1f} | {100 * false / races:.1f} | {100 * np.mean(share):.1f}"
        print(f"| {name} | {np.mean(trials):.0f} | {numbers} |", flush=True)


if __name__ == "__main__":
    main()
