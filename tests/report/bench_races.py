"""Trials and decisions of races beside fixed seeds: `python -m tests.report.bench_races [RACES] [SPREAD]`.

16 rows beside a baseline, of which 12 equal it and 4 differ by a point, settled at half a point. SPREAD is the standard
deviation of a trial around its row (0.22 points) beside luck that rows share at a seed. "All right": all 16 decisions
are. The last rows are races in which no row differs, under other laws of the noise. Prints Markdown.
"""

import sys
from collections.abc import Sequence

import numpy as np

from msd_sweeps.report.comparisons import UNDECIDED, decision, family_of
from msd_sweeps.report.stats import Floats, estimates
from tests.report.null_sweeps import upper_end
from tests.report.test_stats import noise

MARGIN = 0.5
EFFECTS = np.array([0.0] * 13 + [1.0, 1.0, -1.0, 1.0])
RACE = (*range(4, 21, 2),)


def raced(values: Floats, looks: Sequence[int]) -> tuple[int, list[str]]:
    """Trials and decisions of a race over values [rows, seeds], the baseline first."""
    counts, decided = np.full(len(values), looks[0]), np.array([UNDECIDED] * (len(values) - 1), dtype=object)
    for seeds in looks:
        counts[1:][decided == UNDECIDED] = counts[0] = seeds
        cells = [dict(enumerate(row[:count])) for row, count in zip(values.tolist(), counts, strict=True)]
        pairs = [(cell, cells[0]) for cell in cells[1:]]
        found = family_of(pairs, tuple(looks)).differences(estimates(pairs))
        decided = np.array([decision(one, 1, MARGIN) for one in found], dtype=object)
        if UNDECIDED not in decided:
            break
    return int(counts.sum()), decided.tolist()


def summary(races: int, law: str, spread: float, looks: Sequence[int], effects: Floats) -> tuple[float, float, int]:
    """Mean trials of a race, share of the races that decide all rows rightly, and races with a false decision."""
    draw, trials, right, false = np.random.default_rng(0), 0, 0, 0
    truth = ["better" if effect > 0 else "worse" if effect else f"equal within {MARGIN}" for effect in effects[1:]]
    for _ in range(races):
        values = noise(law, draw, len(effects), looks[-1]) * spread + effects[:, None]
        count, decided = raced(values, looks)
        trials += count
        right += decided == truth
        false += any(one not in (UNDECIDED, true) for one, true in zip(decided, truth, strict=True))
    return trials / races, right / races, false


def main() -> None:
    """Print the table."""
    races = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    spread = float(sys.argv[2]) if len(sys.argv) > 2 else 0.22
    print("| noise | rows that differ | seeds | trials | all right (%) | a false decision (%) |\n" + "|---" * 6 + "|")

    def line(law: str, looks: Sequence[int], effects: Floats) -> tuple[float, float]:
        trials, right, false = summary(races, law, spread, looks, effects)
        seeds = f"race {looks[0]} to {looks[-1]}" if len(looks) > 1 else f"fixed {looks[0]}"
        error = f"{100 * false / races:.1f} (at most {100 * upper_end(false, races):.1f})"
        print(
            f"| {law} | {np.count_nonzero(effects)} | {seeds} | {trials:.0f} | {100 * right:.1f} | {error} |",
            flush=True,
        )
        return trials, right

    cost, power = line("equal", RACE, EFFECTS)
    fixed = [line("equal", (n,), EFFECTS) for n in range(8, 21, 2)]
    for law in ("equal", "unequal", "skewed", "collapsing"):
        line(law, RACE, np.zeros(len(EFFECTS)))
    trials, right = zip(*fixed, strict=True)
    same = float(np.interp(power, np.maximum.accumulate(right), trials))
    print(f"\nA fixed n that is all right as often takes {same:.0f} trials; the race takes {100 * cost / same:.0f} %.")


if __name__ == "__main__":
    main()
