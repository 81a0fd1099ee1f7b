"""Error and power of the rules that a page could have: `python -m tests.report.bench_statistics [TABLES [LAW N M]]`.

Prints Markdown for reports/statistics: of tables in which m rows have one law with their baseline, how many claim a
difference (%), and how many of the differing rows are found where a row (of 16, four) differs by 4, 2.5 or 1.5 standard
deviations at n = 3, 5 or 10. The rules: paired t tests with Holm's correction (1979); max-t with its quantile from a
bootstrap of the seeds (Westfall and Young 1993); the moderated t of `report.stats`, which spends 4 of the 5 %.
"""

import sys

import numpy as np
from scipy import stats as scipy_stats

from msd_sweeps.report.stats import ALPHA, Family, Floats, estimates
from tests.report.test_stats import noise, table_of

LAWS = ("equal", "unequal", "one spreads most", "wide baseline", "skewed", "collapsing")
SHIFT = {3: 4.0, 5: 2.5, 10: 1.5}
DRAWS = 400
RULES = ("Holm", "max-t", "moderated t")


def _t(differences: Floats) -> Floats:
    """t statistics over the last axis; infinite where nothing spreads."""
    with np.errstate(divide="ignore", invalid="ignore"):
        n = differences.shape[-1]
        return np.nan_to_num(np.abs(differences.mean(-1)) / (differences.std(-1, ddof=1) / np.sqrt(n)), nan=np.inf)


def found(values: Floats, draw: np.random.Generator) -> Floats:
    """Which rows each rule tells from the first: [rules, rows] of 0 and 1. values: [rows, seeds]."""
    differences = values[1:] - values[0]
    m, n = differences.shape
    p = 2 * scipy_stats.t.sf(_t(differences), n - 1)
    order = np.argsort(p)
    passed = np.cumprod(p[order] <= ALPHA / (m - np.arange(m)))
    holm = np.zeros(m)
    holm[order] = passed
    centred = differences - differences.mean(axis=1, keepdims=True)
    resampled = centred[:, draw.integers(n, size=(DRAWS, n))]
    max_t = _t(differences) > np.quantile(_t(resampled).max(axis=0), 1 - ALPHA, method="higher")
    ours = Family(m, (n,)).differences(estimates(table_of(values)))
    return np.array([holm, max_t, [one.interval.excludes_zero for one in ours]], dtype=float)


def main() -> None:
    """Print the table."""
    tables = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    print(
        "| law | n | m |"
        + "".join(f" false, {rule} |" for rule in RULES)
        + "".join(f" found, {rule} |" for rule in RULES)
    )
    print("|---" * 9 + "|")
    for law in LAWS:
        for n in (3, 5, 10):
            for m in (1, 4, 16):
                if sys.argv[2:] not in ([], [law, str(n), str(m)]):
                    continue
                draw, differ = np.random.default_rng(m), 4 if m == 16 else 1
                false, power = np.zeros(len(RULES)), np.zeros(len(RULES))
                for _ in range(tables):
                    false += found(noise(law, draw, m + 1, n), draw).max(axis=1)
                    values = noise(law, draw, m + 1, n)
                    values[-differ:] += SHIFT[n]
                    power += found(values, draw)[:, -differ:].mean(axis=1)
                numbers = " | ".join(f"{100 * share / tables:.1f}" for share in (*false, *power))
                print(f"| {law} | {n} | {m} | {numbers} |", flush=True)


if __name__ == "__main__":
    main()
