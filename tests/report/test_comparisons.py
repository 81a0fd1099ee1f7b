"""Which row is the best: said rarely where none is, and found where one is."""

import numpy as np
import pandas as pd
import pytest

from msd_sweeps.report.comparisons import difference_columns, family_of, may_be_best

ROWS = 7


def page_of(rows, sign=1):
    """The rows that may be the best, of a table whose first row is the baseline; and the differences to that."""
    pairs = [(row, rows[0]) for row in rows[1:]]
    family = family_of(pairs, (max(map(len, rows)),))
    table = pd.DataFrame({"label": range(1, len(rows)), **difference_columns(pairs, family, sign)})
    return may_be_best(dict(enumerate(rows)), table, family, sign), table


def drawn(means, draw, n=5):
    """Scores by seed of each row; the rows share each seed's luck."""
    values = np.asarray(means)[:, None] + draw.normal(size=(len(means), n)) + draw.normal(size=n)
    return [dict(enumerate(row)) for row in values.tolist()]


@pytest.mark.parametrize("rows", [2, 6])
def test_intervals_and_the_best_row_hold_together(rows):
    """Equally good rows beside a worse baseline: an interval misses, or the first row, which is best, is left out."""
    draw, tables, wrong = np.random.default_rng(rows), 1800 // rows, 0
    for _ in range(tables):
        best, table = page_of(drawn([0.0, *[10.0] * rows], draw))
        missed = (table["difference_low"] > 10) | (table["difference_high"] < 10)
        wrong += bool(missed.any()) or 1 not in best
    assert wrong <= 0.065 * tables


def test_of_equally_good_rows_one_is_rarely_called_worse():
    """All six are the best; reports/statistics has how often one of them is left out."""
    draw, tables, equal = np.random.default_rng(0), 300, set(range(1, ROWS))
    left_out = sum(not equal <= set(page_of(drawn([0.0, *[10.0] * (ROWS - 1)], draw))[0]) for _ in range(tables))
    assert left_out <= 0.03 * tables


@pytest.mark.parametrize("sign", [1, -1])
def test_the_best_is_found_and_the_best_two_stay_together(sign):
    draw, steps = np.random.default_rng(1), sign * np.array([0.0, 5.0, 10.0, 15.0, 20.0, 25.0, 32.0])
    assert page_of(drawn(steps, draw), sign)[0] == [6]
    assert page_of(drawn([*steps[:5], steps[6], steps[6]], draw), sign)[0] == [5, 6]
    assert page_of(drawn(-steps, draw), sign)[0] == [0]
    like_the_baseline = page_of(drawn([0.0, 0.0, 0.0, 0.0, steps[6]], draw), sign)
    assert [*like_the_baseline[1]["decision"]] == ["undecided"] * 3 + ["better"]
    assert like_the_baseline[0] == [4]


def test_where_nothing_is_shown_every_row_may_be_the_best():
    draw = np.random.default_rng(2)
    assert page_of(drawn([0.0] * ROWS, draw))[0] == [*range(ROWS)]
    assert page_of(drawn([0.0, 50.0], draw, n=1))[0] == [0, 1]
    one_seed = [*drawn([0.0, 9.0], draw), {0: 99.0}]
    assert page_of(one_seed)[0] == [1, 2]
