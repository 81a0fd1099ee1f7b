"""Error and power of `report.stats` beside Bonferroni's rule: `python -m tests.report.bench_statistics [TABLES]`.

Prints Markdown for reports/statistics: of tables in which m rows have one law with their baseline, how many claim a
difference (%), and how many of the differing rows are found where a row (of 16, four) differs by 4, 2.5 or 1.5 standard
deviations at n = 3, 5 or 10.
"""

import sys

import numpy as np
from scipy import stats as scipy_stats

from msd_sweeps.report.stats import ALPHA, Family, Floats, estimates
from tests.report.test_stats import noise, table_of

LAWS = ("equal", "unequal", "one spreads most", "wide baseline", "skewed", "collapsing")
SHIFT = {3: 4.0, 5: 2.5, 10: 1.5}


def found(values: Floats) -> tuple[list[bool], list[bool]]:
    """Which rows are told from the first: by our rule, and by paired t tests with Bonferroni's correction at 5 %."""
    m, n = len(values) - 1, values.shape[1]
    ours = Family(m, (n,)).differences(estimates(table_of(values)))
    p = scipy_stats.ttest_1samp(values[1:] - values[0], 0, axis=1).pvalue
    return [one.interval.excludes_zero for one in ours], (p <= ALPHA / m).tolist()


def main() -> None:
    """Print the table."""
    tables = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    print("| law | n | m | false, ours | false, Bonferroni | found, ours | found, Bonferroni |")
    print("|---" * 7 + "|")
    for law in LAWS:
        for n in (3, 5, 10):
            for m in (1, 4, 16):
                draw, differ = np.random.default_rng(m), 4 if m == 16 else 1
                false, power = np.zeros(2), np.zeros(2)
                for _ in range(tables):
                    values = noise(law, draw, m + 1, n)
                    false += [any(rows) for rows in found(values)]
                    values = noise(law, draw, m + 1, n)
                    values[-differ:] += SHIFT[n]
                    power += [np.mean(rows[-differ:]) for rows in found(values)]
                numbers = " | ".join(f"{100 * share / tables:.1f}" for share in (*false, *power))
                print(f"| {law} | {n} | {m} | {numbers} |", flush=True)


if __name__ == "__main__":
    main()
