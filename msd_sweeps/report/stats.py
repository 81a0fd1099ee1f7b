"""Statistics of replicated trials: arrays in, small named results out.

scipy and statsmodels do the mathematics. Intervals are two-sided Student t intervals at 95 %: with so few
seeds a percentile bootstrap is too narrow (it covers 84 % at n = 5). Every function takes plain arrays,
so that simulation can check it.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats as scipy_stats
from statsmodels.stats.multitest import multipletests

LEVEL = 0.95
ALPHA = 0.05
LARGEST_EXACT = 12
"""Up to so many pairs the p-value is the exact sign-flip test's (4,096 patterns), beyond the t-test's."""


class Interval(NamedTuple):
    """A mean with its 95 % interval; `low` and `high` are NaN where one value gives none."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def half_width(self) -> float:
        """Half the length of the interval; NaN for a single value."""
        return (self.high - self.low) / 2

    @property
    def excludes_zero(self) -> bool:
        """Whether zero lies outside; never for an interval without width, whose spread is unknown."""
        return self.high > self.low and not self.low <= 0 <= self.high


class Difference(NamedTuple):
    """A difference with its interval and its p-values; NaN where a figure cannot be had."""

    interval: Interval
    paired: bool
    p_t: float
    p_exact: float

    @property
    def p(self) -> float:
        """The p-value to report: exact for few pairs, of the t-test for many."""
        return self.p_t if math.isnan(self.p_exact) else self.p_exact

    @property
    def testable(self) -> bool:
        """Whether any data of this size could give a p-value of 0.05 or less."""
        return not math.isnan(self.p) and smallest_p(self.interval.n) <= ALPHA


class Aggregate(NamedTuple):
    """One method over several tasks: mean score and mean rank, each with a bootstrap interval."""

    score: Interval
    rank: Interval


def _values(values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=float)
    if array.ndim != 1:
        raise ValueError(f"expected one list of values, got an array of shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError("values must be finite; leave failed trials out before")
    return array


def mean_interval(values: ArrayLike) -> Interval:
    """The mean of [n] values and its 95 % t interval, in the unit of the values.

    No value gives NaN and n = 0; one value gives a mean without interval. Raises ValueError for values that
    are not finite.
    """
    array = _values(values)
    n = len(array)
    mean = float(array.mean()) if n else math.nan
    spread = array.std(ddof=1) if n > 1 and np.ptp(array) else 0.0
    half = float(half_widths(spread, n))
    return Interval(mean, mean - half, mean + half, n)


def half_widths(spread: ArrayLike, n: ArrayLike) -> NDArray[np.float64]:
    """Half of the 95 % t interval of means, from [m] sample standard deviations and counts; NaN where n < 2."""
    many = np.where(np.asarray(n) >= 2, n, np.nan)
    return np.asarray(scipy_stats.t.ppf((1 + LEVEL) / 2, many - 1) * np.asarray(spread, dtype=float) / np.sqrt(many))


def paired_difference(ours: ArrayLike, theirs: ArrayLike) -> Difference:
    """The mean of [n] paired differences `ours - theirs`, its t interval, and its two p-values.

    Raises ValueError where the two differ in length.
    """
    first, second = _values(ours), _values(theirs)
    if len(first) != len(second):
        raise ValueError(f"pairs need equal lengths, got {len(first)} and {len(second)}")
    differences = first - second
    p_t = math.nan  # equal differences leave the t statistic no spread to divide by
    if len(differences) > 1 and not differences.any():
        p_t = 1.0
    elif len(differences) > 1 and np.ptp(differences):
        p_t = float(scipy_stats.ttest_1samp(differences, 0.0).pvalue)
    return Difference(mean_interval(differences), True, p_t, sign_flip_p(differences))


def sign_flip_p(differences: ArrayLike) -> float:
    """The exact two-sided p of [n] differences.

    It is the share of sign patterns whose mean is at least as far from zero. NaN for fewer than 2 or more
    than `LARGEST_EXACT` values (Fisher 1935; `scipy.stats.permutation_test`).
    """
    array = _values(differences)
    if not 2 <= len(array) <= LARGEST_EXACT:
        return math.nan
    if not array.any():
        return 1.0
    # Scaled to unit size, so that ties among sign patterns are found whatever the unit.
    scaled, every = array / np.abs(array).max(), 2**LARGEST_EXACT + 1
    result = scipy_stats.permutation_test((scaled,), np.mean, permutation_type="samples", n_resamples=every)
    return min(1.0, float(result.pvalue))


def unpaired_difference(ours: ArrayLike, theirs: ArrayLike) -> Difference:
    """The difference of the means of [n] and [m] independent values with Welch's interval and p.

    `n` of the result is the smaller of the two; fewer than two values on a side give no interval.
    """
    first, second = _values(ours), _values(theirs)
    n = min(len(first), len(second))
    mean = float(first.mean() - second.mean()) if n else math.nan
    low = high = p = math.nan
    if n > 1 and np.ptp(first) == 0 and np.ptp(second) == 0:
        low = high = mean  # without a spread there is no test
    elif n > 1:
        test = scipy_stats.ttest_ind(first, second, equal_var=False)
        (low, high), p = map(float, test.confidence_interval(LEVEL)), float(test.pvalue)
    return Difference(Interval(mean, low, high, n), False, p, math.nan)


def smallest_p(n: int) -> float:
    """The smallest two-sided p that `n` pairs can give: 2 / 2^n exactly for few pairs, 0 beyond."""
    return min(1.0, 2.0 ** (1 - n)) if n <= LARGEST_EXACT else 0.0


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Holm's step-down correction of [m] p-values; NaN stands for no test, stays NaN and is not counted."""
    p = np.asarray(p_values, dtype=float)
    corrected = np.full(p.shape, math.nan)
    tested = ~np.isnan(p)
    if tested.any():
        corrected[tested] = multipletests(p[tested], method="holm")[1]
    return corrected


def aggregate(
    runs: Mapping[str, Sequence[ArrayLike]], higher_is_better: bool = True, resamples: int = 2000, seed: int = 0
) -> dict[str, Aggregate]:
    """Mean score and mean rank of each method over tasks, with 95 % stratified bootstrap intervals.

    `runs` gives for each method one list of scores per task, tasks in the same order; seeds are resampled
    within each task and method, so that tasks stay as they are (as in rliable, Agarwal et al., NeurIPS 2021).
    Meant for the aggregate over several tasks; a single cell gets `mean_interval`. Raises ValueError where
    methods differ in their tasks or a task has no run.
    """
    names = list(runs)
    lists = [[_values(scores) for scores in runs[name]] for name in names]
    if len({len(tasks) for tasks in lists}) > 1 or any(len(scores) == 0 for tasks in lists for scores in tasks):
        raise ValueError("every method needs at least one run on every task")
    generator = np.random.default_rng(seed)

    def resampled(scores: NDArray[np.float64]) -> NDArray[np.float64]:
        return scores[generator.integers(len(scores), size=(resamples, len(scores)))].mean(axis=1)

    point = np.array([[scores.mean() for scores in tasks] for tasks in lists])  # [methods, tasks]
    drawn = np.array([[resampled(scores) for scores in tasks] for tasks in lists])  # [methods, tasks, resamples]
    sign = -1.0 if higher_is_better else 1.0
    ranks = scipy_stats.rankdata(sign * point, axis=0).mean(axis=1)
    drawn_ranks = scipy_stats.rankdata(sign * drawn, axis=0).mean(axis=1)
    fewest = [min(map(len, tasks)) for tasks in lists]
    return {
        name: Aggregate(_percentiles(score, drawn_score, n), _percentiles(rank, drawn_rank, n))
        for name, score, drawn_score, rank, drawn_rank, n in zip(
            names, point.mean(axis=1), drawn.mean(axis=1), ranks, drawn_ranks, fewest, strict=True
        )
    }


def _percentiles(mean: float, drawn: NDArray[np.float64], n: int) -> Interval:
    low = high = math.nan  # a single run resampled is itself: its interval would be a lie
    if n > 1:
        low, high = map(float, np.percentile(drawn, [50 * (1 - LEVEL), 50 * (1 + LEVEL)]))
    return Interval(float(mean), low, high, n)
