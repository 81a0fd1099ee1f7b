"""The statistics keep their nominal error rates, and small samples are not oversold."""

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from msd_sweeps.report import stats


@pytest.mark.parametrize("n", [3, 5, 10])
def test_t_interval_covers_as_it_says(n):
    generator = np.random.default_rng(n)
    samples = generator.normal(70.0, 0.3, size=(2000, n))
    intervals = [stats.mean_interval(sample) for sample in samples]
    covered = np.mean([interval.low <= 70.0 <= interval.high for interval in intervals])
    assert 0.93 <= covered <= 0.97


def table_of(values):
    """Cells [m + 1, n] as the comparisons of a table: each with the first."""
    cells = [dict(enumerate(row)) for row in values.tolist()]
    return [(cell, cells[0]) for cell in cells[1:]]


def noise(law, draw, rows, n):
    """[rows, n] values of one law, with luck that the rows share at a seed."""
    values = draw.normal(size=(rows, n))
    if law == "unequal":
        values *= np.exp(draw.uniform(np.log(0.5), np.log(2), size=(rows, 1)))
    elif law == "one spreads most":
        values[1] *= 6
    elif law == "wide baseline":
        values[0] *= 2.5
    elif law == "skewed":
        values = -np.exp(0.6 * values)
    elif law == "collapsing":
        values -= 30 * (draw.random(size=(rows, n)) < 0.1)
    return values + 0.6 * draw.normal(size=n)


@pytest.mark.parametrize("law", ["equal", "unequal", "one spreads most", "wide baseline", "skewed", "collapsing"])
@pytest.mark.parametrize("m", [1, 4, 16])
def test_one_table_in_twenty_at_most_claims_what_is_not_so(law, m):
    """800 tables without any difference; the larger simulation is in reports/statistics."""
    draw, false, tables = np.random.default_rng(m), 0, 800
    for number in range(tables):
        family = stats.Family(m, ((3, 5, 10)[number % 3],))
        found = family.differences(stats.estimates(table_of(noise(law, draw, m + 1, family.looks[0]))))
        false += any(one.interval.excludes_zero for one in found)
    assert false / tables <= 0.065


def test_variances_are_shared_where_rows_spread_alike_and_hardly_where_they_do_not():
    """With 16 rows of 5 seeds the moderated interval is far shorter than Bonferroni's on single rows."""
    draw, shorter, own = np.random.default_rng(0), [], []
    bonferroni = scipy_stats.t.isf(0.025 / 16, 4)
    for _ in range(100):
        values = noise("equal", draw, 17, 5)
        differences = values[1:] - values[0]
        alone = bonferroni * differences.std(axis=1, ddof=1) / np.sqrt(5)
        found = stats.Family(16, (5,)).differences(stats.estimates(table_of(values)))
        shorter.append(np.mean([(one.interval.high - one.interval.low) / 2 for one in found]) / alone.mean())
        values[9] *= 100
        own.append(stats.estimates(table_of(values))[8].error / (values[9] - values[0]).std(ddof=1) * np.sqrt(5))
    assert np.mean(shorter) < 0.75
    assert np.mean(own) > 0.8  # its variance is a sixteenth of what the rows have in common, and its own besides


def paired_difference(ours, theirs) -> stats.Difference:
    """A comparison by itself of paired values."""
    samples = dict(enumerate(ours)), dict(enumerate(theirs))
    return stats.Family(1, (len(ours),)).differences(stats.estimates([samples]))[0]


def test_a_comparison_by_itself_is_the_paired_t_test():
    ours, theirs = np.random.default_rng(1).normal(size=(2, 6)) + np.array([[1.0], [0.0]])
    found = paired_difference(ours, theirs)
    expected = scipy_stats.ttest_rel(ours, theirs)
    # Of the 5 % error 4 are spent at the first look.
    low, high = expected.confidence_interval(1 - stats.AT_ONCE * stats.ALPHA)
    assert found.interval[1:3] == pytest.approx((low, high))
    assert found.p == pytest.approx(min(1, expected.pvalue / stats.AT_ONCE))


def test_intervals_cover_together_and_p_agrees_with_them():
    draw, covered = np.random.default_rng(2), 0
    for _ in range(400):
        values = noise("equal", draw, 5, 5) + 3 * np.arange(5)[:, None]
        found = stats.Family(4, (5,)).differences(stats.estimates(table_of(values)))
        covered += all(one.interval.low <= 3 * row <= one.interval.high for row, one in enumerate(found, 1))
        assert all((one.p <= 0.05) == one.interval.excludes_zero for one in found)
    assert covered / 400 >= 0.935


def test_levels_of_looks_spend_what_they_should():
    """Brownian paths cross first at each look as often as its share says."""
    counts, shares = (4, 6, 8, 12), (0.02, 0.01, 0.01, 0.01)
    levels = stats.nominal_levels(counts, shares)
    paths = np.random.default_rng(0).normal(size=(200_000, 12)).cumsum(axis=1)
    scores = np.abs(np.stack([paths[:, n - 1] / np.sqrt(n) for n in counts], axis=1))
    crossed = scores > scipy_stats.norm.isf(np.array(levels) / 2)
    first = np.where(crossed.any(axis=1), crossed.argmax(axis=1), 9)
    assert [np.mean(first == look) for look in range(4)] == pytest.approx(shares, abs=0.001)
    # Pocock's levels for five equal looks, which Jennison and Turnbull list: 0.0158 with equal bounds.
    assert 0.01 < min(levels) < max(levels) < 0.05


def test_later_looks_cost_and_never_more_than_is_kept():
    once, again = stats.Family(16, (5,)), stats.Family(16, (5,), (8, 11))
    assert once.level(5) == again.level(5) == pytest.approx(stats.AT_ONCE * once.alone)
    assert again.level(4) == again.level(5)  # a failed seed
    assert again.level(8) < again.level(5)
    assert again.level(11) < again.level(8)


@pytest.mark.parametrize("n", [3, 5, 10])
def test_welch_serves_where_no_seed_is_shared(n):
    generator, covered = np.random.default_rng(20 + n), 0
    for _ in range(1000):
        ours, theirs = generator.normal(1, 0.3, n), generator.normal(0, 0.6, n)
        pair = dict(enumerate(ours)), dict(enumerate(theirs, 100))
        (found,) = stats.Family(1, (n,)).differences(stats.estimates([pair]))
        covered += found.interval.low <= 1 <= found.interval.high
    assert 0.94 <= covered / 1000 <= 0.985  # Welch is known to be a little wide at n = 3
    low, high = scipy_stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval(0.96)
    assert found.interval[1:3] == pytest.approx((low, high))
    assert not found.paired


def test_one_value_has_no_interval_and_no_value_no_mean():
    one = stats.mean_interval([71.5])
    assert one.mean == 71.5
    assert math.isnan(one.low)
    assert math.isnan(one.high)
    assert not one.excludes_zero
    assert stats.mean_interval([]).n == 0
    assert math.isnan(stats.mean_interval([]).mean)


def test_ties_are_no_evidence():
    same = paired_difference([70.0, 71.0, 72.0], [70.0, 71.0, 72.0])
    assert same.p == 1.0
    assert same.interval == stats.Interval(0.0, 0.0, 0.0, 3)
    shifted = paired_difference([71.0] * 4, [70.0] * 4)
    assert shifted.interval.mean == 1.0
    assert not shifted.interval.excludes_zero
    assert math.isnan(shifted.p)


def test_values_that_are_no_numbers_are_refused():
    with pytest.raises(ValueError, match="finite"):
        stats.mean_interval([1.0, math.nan])
    with pytest.raises(ValueError, match="every task"):
        stats.stratified_mean([[1.0], []])


@pytest.mark.parametrize(("tasks", "n"), [(2, 3), (13, 3), (5, 5)])
@pytest.mark.parametrize("widest", [1.0, 3.0])
def test_a_mean_over_tasks_is_covered(tasks, n, widest):
    draw, covered = np.random.default_rng(tasks), 0
    spreads, means = np.linspace(1, widest, tasks), np.arange(tasks) * 10.0
    for _ in range(3000):
        interval = stats.stratified_mean([draw.normal(mean, sd, n) for mean, sd in zip(means, spreads, strict=True)])
        covered += interval.low <= means.mean() <= interval.high
    assert 0.93 <= covered / 3000 <= 0.97
    assert interval.n == n
    assert math.isnan(stats.stratified_mean([[1.0], [2.0, 3.0]]).low)


@pytest.mark.parametrize("higher_is_better", [True, False])
def test_ranks_follow_the_direction_and_the_critical_difference_is_nemenyis(higher_is_better):
    scores = np.array([[1.0, 5.0], [2.0, 5.0], [3.0, 1.0]])
    ranks, _ = stats.mean_ranks(scores, higher_is_better)
    assert ranks.tolist() == ([2.25, 1.75, 2.0] if higher_is_better else [1.75, 2.25, 2.0])
    # Demšar (2006), section 3.2.4: four classifiers on 14 data sets, CD = 2.569 sqrt(4 · 5 / (6 · 14)) = 1.25.
    _, critical = stats.mean_ranks(np.random.default_rng(0).normal(size=(4, 14)))
    assert critical == pytest.approx(1.25, abs=0.005)


def test_rows_that_are_settled_early_leave_what_they_have_not_spent_to_open_ones():
    looks = (4, 6, 8)
    alike, race = stats.Family(16, looks), stats.Family(16, looks, still_open=(16, 4, 2))
    assert stats.Family(16, looks, still_open=(16, 16, 16)).level(8) == alike.level(8)
    assert race.level(4) == alike.level(4)
    assert alike.level(6) < race.level(6) < 4 * alike.level(6)
    # All looks and open rows together spend the planned share of the error, and no more.
    spent = [stats.AT_ONCE * race.alone * 16 * step / 8 for step in (4, 2, 2)]
    expected = stats.nominal_levels(looks, tuple(part / rows for part, rows in zip(spent, (16, 4, 2), strict=True)))
    assert [race.level(n) for n in looks] == pytest.approx(list(expected))
