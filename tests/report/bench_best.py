"""How often a page that says which row is the best is wrong: `python -m tests.report.bench_best`, two minutes."""

import numpy as np

from tests.report.test_comparisons import drawn, page_of

APART = 10.0


def line(law: str, m: int, tables: int) -> str:
    """A line of Markdown for reports/statistics: m equally good rows beside a worse baseline."""
    draw, found = np.random.default_rng(5), []
    means = [0.0, *[APART] * m]
    for _ in range(tables):
        rows = drawn(means, draw)
        if law == "unequal":
            spreads = np.exp(draw.uniform(np.log(0.5), np.log(2), m + 1))
            scores = [mean + spread * draw.normal(size=5) for mean, spread in zip(means, spreads, strict=True)]
            rows = [dict(enumerate(row.tolist())) for row in scores]
        best, table = page_of(rows)
        missed = bool(((table["difference_low"] > APART) | (table["difference_high"] < APART)).any())
        found.append((missed, 1 not in best, missed or 1 not in best, not set(range(1, m + 1)) <= set(best)))
    return f"| {law} | {m} | " + " | ".join(f"{100 * share:.1f}" for share in np.mean(found, axis=0)) + " |"


if __name__ == "__main__":
    for m, tables in ((2, 600), (6, 600), (16, 150)):
        for law in ("equal", "unequal"):
            print(line(law, m, tables), flush=True)
