"""The statistics keep their nominal error rates, and small samples are not oversold."""

import itertools
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


@pytest.mark.parametrize("n", [3, 5, 10])
def test_paired_interval_covers_where_seeds_share_their_luck(n):
    generator = np.random.default_rng(10 + n)
    covered, narrower = 0, 0
    for _ in range(600):
        luck = generator.normal(0, 1.0, size=n)
        ours, theirs = 70.6 + luck + generator.normal(0, 0.3, n), 70.0 + luck + generator.normal(0, 0.3, n)
        paired = stats.paired_difference(ours, theirs).interval
        covered += paired.low <= 0.6 <= paired.high
        narrower += paired.half_width < stats.unpaired_difference(ours, theirs).interval.half_width
    assert 0.93 <= covered / 600 <= 0.97
    assert narrower > 300  # else pairing would gain nothing


@pytest.mark.parametrize("n", [3, 5, 10])
def test_welch_interval_covers(n):
    generator = np.random.default_rng(20 + n)
    covered = 0
    for _ in range(1000):
        interval = stats.unpaired_difference(generator.normal(1, 0.3, n), generator.normal(0, 0.6, n)).interval
        covered += interval.low <= 1 <= interval.high
    assert 0.93 <= covered / 1000 <= 0.98  # Welch is known to be a little wide at n = 3


def test_sign_flip_p_never_says_too_much():
    generator = np.random.default_rng(0)
    p_values = [stats.sign_flip_p(generator.normal(size=8)) for _ in range(300)]
    assert np.mean(np.array(p_values) <= 0.05) <= 0.07


@pytest.mark.parametrize("n", [2, 3, 5, 6, 8])
def test_sign_flip_p_is_the_share_of_all_sign_patterns(n):
    differences = np.random.default_rng(n).normal(0.5, 1.0, size=n)
    means = [np.mean(np.abs(differences) * signs) for signs in itertools.product([-1, 1], repeat=n)]
    share = np.mean(np.abs(means) >= abs(differences.mean()) - 1e-12)
    assert stats.sign_flip_p(differences) == pytest.approx(share)
    assert stats.sign_flip_p(differences * 1e-6) == pytest.approx(share)


def test_smallest_p_is_reached_and_not_passed():
    assert [stats.smallest_p(n) for n in (1, 3, 5, 6)] == [1.0, 0.25, 0.0625, 0.03125]
    for n in range(2, 9):
        assert stats.sign_flip_p(np.arange(1.0, n + 1)) == pytest.approx(stats.smallest_p(n))


def test_too_few_pairs_are_not_testable():
    for n, testable in [(1, False), (3, False), (5, False), (6, True), (13, True)]:
        difference = stats.paired_difference(np.arange(n) + 5.0, np.zeros(n))
        assert difference.testable is testable, n
    assert not stats.unpaired_difference([1.0], [2.0]).testable


def test_one_value_has_no_interval_and_no_value_no_mean():
    one = stats.mean_interval([71.5])
    assert one.mean == 71.5
    assert math.isnan(one.low)
    assert math.isnan(one.high)
    assert not one.excludes_zero
    assert stats.mean_interval([]).n == 0
    assert math.isnan(stats.mean_interval([]).mean)


def test_ties_are_no_evidence():
    same = stats.paired_difference([70.0, 71.0, 72.0], [70.0, 71.0, 72.0])
    assert same.p == 1.0
    assert same.interval == stats.Interval(0.0, 0.0, 0.0, 3)
    shifted = stats.paired_difference([71.0] * 4, [70.0] * 4)
    assert shifted.interval.mean == 1.0
    assert not shifted.interval.excludes_zero
    assert math.isnan(shifted.p_t)


def test_holm_counts_only_what_was_tested():
    corrected = stats.holm([0.01, math.nan, 0.04, 0.03])
    assert corrected[[0, 2, 3]] == pytest.approx([0.03, 0.06, 0.06])
    assert math.isnan(corrected[1])
    assert np.isnan(stats.holm([math.nan, math.nan])).all()
    assert len(stats.holm([])) == 0


def test_values_that_are_no_numbers_are_refused():
    with pytest.raises(ValueError, match="finite"):
        stats.mean_interval([1.0, math.nan])
    with pytest.raises(ValueError, match="equal lengths"):
        stats.paired_difference([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="every method"):
        stats.aggregate({"a": [[1.0]], "b": [[1.0], [2.0]]})


def test_aggregate_is_the_mean_over_tasks_and_its_seed_counts():
    generator = np.random.default_rng(0)
    runs = {name: [generator.normal(mean, 0.3, 5) for mean in (70, 80)] for name in ("a", "b")}
    runs["c"] = [scores + 2 for scores in runs["a"]]
    result = stats.aggregate(runs)
    assert result["a"].score.mean == pytest.approx(np.mean([scores.mean() for scores in runs["a"]]))
    assert result["c"].rank.mean == 1.0
    assert sum(item.rank.mean for item in result.values()) == pytest.approx(1 + 2 + 3)
    assert result["a"].score.low < result["a"].score.mean < result["a"].score.high
    assert stats.aggregate(runs) == result
    assert stats.aggregate(runs, seed=1)["a"].score != result["a"].score
    assert stats.aggregate({"x": [[1.0], [2.0]]})["x"].score.n == 1
    assert math.isnan(stats.aggregate({"x": [[1.0], [2.0]]})["x"].score.low)


def test_aggregate_interval_covers_over_many_tasks():
    generator = np.random.default_rng(3)
    covered = 0
    for _ in range(300):
        runs = {"a": [generator.normal(task, 1.0, 10) for task in range(6)]}
        interval = stats.aggregate(runs, resamples=400)["a"].score
        covered += interval.low <= 2.5 <= interval.high
    assert 0.88 <= covered / 300 <= 0.98


@pytest.mark.parametrize("higher_is_better", [True, False])
def test_ranks_agree_with_scipy_and_follow_the_direction(higher_is_better):
    scores = np.array([[1.0, 5.0], [2.0, 5.0], [3.0, 1.0]])
    runs = {str(index): [[score] for score in row] for index, row in enumerate(scores)}
    ranks = [found.rank.mean for found in stats.aggregate(runs, higher_is_better).values()]
    expected = scipy_stats.rankdata(-scores if higher_is_better else scores, axis=0).mean(axis=1)
    assert ranks == pytest.approx(expected)
