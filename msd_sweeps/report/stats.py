"""Statistics of replicated trials: arrays in, small named results out.

All comparisons of a page hold together at 95 %: their intervals are simultaneous over the page's family and over the
looks at its data, and `p`, sentence and bold type say what the interval says. scipy does the mathematics; every
function takes plain arrays, so that simulation can check it (`tests/report/bench_statistics.py`, reports/statistics).
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special
from scipy import stats as scipy_stats

LEVEL = 0.95
ALPHA = 0.05
AT_ONCE = 0.8
"""Share of ALPHA that the planned looks spend; each further look, such as --add-seeds, spends half of what is left."""
BEST = 0.1
"""Share of ALPHA that is kept for saying which row is the best."""

Floats = NDArray[np.float64]


class Interval(NamedTuple):
    """A mean with its 95 % interval; `low` and `high` are NaN where one value gives none."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def excludes_zero(self) -> bool:
        """Whether zero lies outside; never for an interval without width, whose spread is unknown."""
        return self.high > self.low and not self.low <= 0 <= self.high


class Estimate(NamedTuple):
    """A difference with its standard error and the error's degrees of freedom; NaN where a figure cannot be had."""

    mean: float
    error: float
    freedom: float
    n: int
    """Pairs; without shared seeds the smaller of the two samples."""
    paired: bool


class Difference(NamedTuple):
    """A difference with its simultaneous interval and adjusted p."""

    interval: Interval
    p: float
    """0.05 or less exactly where the interval excludes zero."""
    reach: float
    """How far from zero it may be, by two one-sided tests at the level of the interval (Schuirmann 1987)."""
    paired: bool


def _values(values: ArrayLike) -> Floats:
    array = np.asarray(values, dtype=float)
    if array.ndim != 1:
        raise ValueError(f"expected one list of values, got an array of shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError("values must be finite; leave failed trials out before")
    return array


def mean_interval(values: ArrayLike) -> Interval:
    """The mean of [n] values and its own 95 % t interval, in the unit of the values; no claim about other means.

    No value gives NaN and n = 0; one value gives a mean without interval. Raises ValueError for values that
    are not finite.
    """
    array = _values(values)
    n = len(array)
    mean = float(array.mean()) if n else math.nan
    spread = array.std(ddof=1) if n > 1 and np.ptp(array) else 0.0
    half = float(half_widths(spread, n))
    return Interval(mean, mean - half, mean + half, n)


def half_widths(spread: ArrayLike, n: ArrayLike) -> Floats:
    """Half of the 95 % t interval of means, from [m] sample standard deviations and counts; NaN where n < 2."""
    many = np.where(np.asarray(n) >= 2, n, np.nan)
    return np.asarray(scipy_stats.t.ppf((1 + LEVEL) / 2, many - 1) * np.asarray(spread, dtype=float) / np.sqrt(many))


def estimates(pairs: Sequence[tuple[Mapping[int, float], Mapping[int, float]]]) -> list[Estimate]:
    """The differences of a table: of each two samples {seed: value}, ours less theirs.

    Paired over the shared seeds, with variances that are moderated over the table; where fewer than two seeds are
    shared, Welch's. NaN with n = 0 where one of the two is empty. Raises ValueError for values that are not finite.
    """
    shared = [sorted(set(ours) & set(theirs)) for ours, theirs in pairs]
    rows = [
        _values([ours[seed] - theirs[seed] for seed in seeds])
        for seeds, (ours, theirs) in zip(shared, pairs, strict=True)
    ]
    moderated = iter(_moderated([row for row in rows if len(row) > 1]))
    found = []
    for row, (ours, theirs) in zip(rows, pairs, strict=True):
        if len(row) > 1:
            found.append(Estimate(float(row.mean()), *next(moderated), len(row), True))
        elif len(row) == 1 and 1 in (len(ours), len(theirs)):
            found.append(Estimate(float(row[0]), math.nan, math.nan, 1, True))
        else:
            found.append(_welch(_values([*ours.values()]), _values([*theirs.values()])))
    return found


def paired_difference(ours: ArrayLike, theirs: ArrayLike) -> Difference:
    """The mean of [n] paired differences `ours - theirs` with its interval and p, a comparison by itself.

    Raises ValueError where the two differ in length, and for values that are not finite.
    """
    first, second = _values(ours), _values(theirs)
    if len(first) != len(second):
        raise ValueError(f"pairs need equal lengths, got {len(first)} and {len(second)}")
    samples = dict(enumerate(first)), dict(enumerate(second))
    return Family(1, (max(1, len(first)),)).differences(estimates([samples]))[0]


def _welch(ours: Floats, theirs: Floats) -> Estimate:
    n = min(len(ours), len(theirs))
    mean = float(ours.mean() - theirs.mean()) if n else math.nan
    if n < 2:
        return Estimate(mean, math.nan, math.nan, n, False)
    parts = np.array([one.var(ddof=1) / len(one) if np.ptp(one) else 0.0 for one in (ours, theirs)])
    below = float((parts**2 / [len(ours) - 1, len(theirs) - 1]).sum())
    freedom = float(parts.sum()) ** 2 / below if below else math.nan
    return Estimate(mean, math.sqrt(parts.sum()), freedom, n, False)


def _moderated(rows: Sequence[Floats]) -> Iterator[tuple[float, float]]:
    """Standard error and degrees of freedom of the mean of each row of paired differences [n ≥ 2].

    A moderated t (Smyth 2004, doi:10.2202/1544-6115.1027): each variance is drawn towards what the rows have in
    common, which counts as `prior` degrees of freedom. Three guards keep the error where a few rows spread far more
    than the others (simulated in reports/statistics). The common variance is the rows' mean, which is larger than
    Smyth's. The prior counts as much as the rows' spread of log variances allows when that is raised by one standard
    error, and at most (m - 1) / 3 times a row's own freedom. Differences to one reference correlate by 1/2, their
    variances by 1/4, so m rows together have 4 m / (m + 3) times the freedom of one.
    """
    own = np.array([len(row) - 1.0 for row in rows])
    variances = np.array([row.var(ddof=1) if np.ptp(row) else 0.0 for row in rows])
    m, common = len(rows), float(own @ variances / own.sum()) if rows else 0.0
    prior = 0.0
    if m > 1 and common:
        logs = np.log(np.maximum(variances, common / 1000)) - special.digamma(own / 2) + np.log(own / 2)
        noise = 0.75 * float(special.polygamma(1, own / 2).mean())
        spread = float(logs.var(ddof=1)) - noise * (1 - math.sqrt(2 / (m - 1)))
        prior = min(_freedom_of(spread), (m - 1) / 3 * float(own.mean()))
    most = float(own.mean()) * 4 * m / (m + 3) if rows else 0.0
    for row, freedom, variance in zip(rows, own, variances, strict=True):
        drawn = (prior * common + freedom * variance) / (prior + freedom)
        yield math.sqrt(drawn / len(row)), max(float(freedom), min(prior + float(freedom), most))


def _freedom_of(spread: float) -> float:
    """The degrees of freedom whose log chi-square has this variance: the solution of trigamma(freedom / 2) = spread."""
    if spread <= 1e-4:
        return math.inf
    return 2 * float(optimize.brentq(lambda half: special.polygamma(1, half) - spread, 1e-4, 2e4))


class Family(NamedTuple):
    """What the claims of a page hold over: the comparisons, and the looks at their data."""

    size: int
    """Distinct comparisons."""
    looks: tuple[int, ...]
    """Seeds at every planned look, ascending."""
    further: tuple[int, ...] = ()
    """Seeds at every look that came after the planned ones, as by --add-seeds, ascending."""
    still_open: tuple[int, ...] = ()
    """Comparisons that got seeds for each planned look, in a race those undecided before it; empty where all did."""

    @property
    def alone(self) -> float:
        """The error of one comparison over all looks (Šidák 1967)."""
        return 1 - (1 - ALPHA) ** (1 / max(1, self.size))

    def level(self, n: int) -> float:
        """The two-sided level of a comparison of n pairs: that of the first look at n or more.

        The planned looks spend AT_ONCE of the family's error in proportion to their seeds (Lan and DeMets 1983). What a
        look spends is divided among the comparisons that are still open at it (Bonferroni), so a comparison that is
        settled early leaves to the others what it has not spent.
        """
        still_open = self.still_open or (self.size,) * len(self.looks)
        shares = [AT_ONCE * (b - a) / self.looks[-1] for a, b in itertools.pairwise((0, *self.looks))]
        shares = [share * max(1, self.size) / max(1, count) for share, count in zip(shares, still_open, strict=True)]
        shares += [(1 - AT_ONCE - BEST) / 2 ** (place + 1) for place in range(len(self.further))]
        counts = (*self.looks, *self.further)
        # Failed seeds leave fewer pairs than the look asked for.
        look = next((place for place, count in enumerate(counts) if count >= n), len(counts) - 1)
        return nominal_levels(counts, tuple(self.alone * share for share in shares))[look]

    def for_the_best(self, rows: int) -> "Family":
        """The family of one row's comparisons with `rows` others, whose upper tails together spend BEST of ALPHA."""
        return self._replace(size=max(1, math.ceil(rows / (2 * BEST))), still_open=())

    def differences(self, found: Sequence[Estimate]) -> list[Difference]:
        """Estimates with the intervals and p that hold together over this family."""
        result = []
        for mean, error, freedom, n, paired in found:
            low = high = p = reach = math.nan
            if error == 0:  # equal differences show no spread to judge by
                low = high = mean
                p = math.nan if mean else 1.0
            elif error > 0:
                level = self.level(n)
                half = error * float(scipy_stats.t.isf(level / 2, freedom))
                low, high = mean - half, mean + half
                reach = abs(mean) + error * float(scipy_stats.t.isf(level, freedom))
                scaled = 2 * float(scipy_stats.t.sf(abs(mean) / error, freedom)) * self.alone / level
                p = 1 - (1 - min(1.0, scaled)) ** max(1, self.size)
            result.append(Difference(Interval(mean, low, high, n), p, reach, paired))
        return result


@cache
def nominal_levels(counts: tuple[int, ...], shares: tuple[float, ...]) -> tuple[float, ...]:
    """The two-sided level of a test at each look at growing data of counts[k] pairs, of which look k spends shares[k].

    Group-sequential levels of Brownian motion by recursive integration (Armitage, McPherson and Rowe 1969; spending:
    Lan and DeMets 1983), which serve a t statistic as its p-values' levels (Jennison and Turnbull 2000, section 4.4).
    """
    nodes, weights = np.polynomial.legendre.leggauss(400)
    levels: list[float] = []
    places, density, before = np.zeros(1), np.ones(1), 0  # of the score, where no look has crossed its bound yet

    def crossing(bound: float, share: float, scale: float) -> float:
        beyond = special.ndtr((-bound - places) / scale) + special.ndtr((places - bound) / scale)
        return float(density @ beyond) - share

    for count, share in zip(counts, shares, strict=True):
        scale, farthest = math.sqrt(count - before), 40 * math.sqrt(count)
        bound = float(optimize.brentq(crossing, 0, farthest, (share, scale), xtol=1e-10))
        levels.append(2 * float(special.ndtr(-bound / math.sqrt(count))))
        steps = (bound * nodes[:, None] - places) / scale
        kernel = np.exp(-0.5 * steps**2) / (scale * math.sqrt(2 * math.pi))
        places, density, before = bound * nodes, bound * weights * (kernel @ density), count
    return tuple(levels)


def stratified_mean(tasks: Sequence[ArrayLike]) -> Interval:
    """The mean over tasks of their means, each task a list of scores, with its 95 % interval; `n` is the fewest scores.

    A stratified mean (Cochran 1977, section 5.4): the errors of the tasks add up, with Satterthwaite's degrees of
    freedom (1946, doi:10.2307/3002019). It says nothing about other tasks. Raises ValueError where a task has no score.
    """
    lists = [_values(scores) for scores in tasks]
    if not lists or not all(map(len, lists)):
        raise ValueError("every task needs at least one score")
    mean, n = float(np.mean([scores.mean() for scores in lists])), min(map(len, lists))
    if n < 2:
        return Interval(mean, math.nan, math.nan, n)
    parts = np.array([scores.var(ddof=1) / len(scores) for scores in lists]) / len(lists) ** 2
    freedom = parts.sum() ** 2 / float((parts**2 / [len(scores) - 1 for scores in lists]).sum() or 1)
    half = float(scipy_stats.t.ppf((1 + LEVEL) / 2, max(1.0, freedom)) * math.sqrt(parts.sum()))
    return Interval(mean, mean - half, mean + half, n)


def mean_ranks(scores: ArrayLike, higher_is_better: bool = True) -> tuple[Floats, float]:
    """Mean ranks [methods] over tasks, 1 is best, of mean scores [methods, tasks]; and their critical difference.

    Mean ranks that differ by less cannot be told apart at 5 % by the Nemenyi test (Demšar 2006, JMLR 7, section 3.2.2).
    """
    table = np.asarray(scores, dtype=float)
    ranks = scipy_stats.rankdata(-table if higher_is_better else table, axis=0).mean(axis=1)
    k, tasks = table.shape
    quantile = float(scipy_stats.studentized_range.ppf(LEVEL, k, np.inf))
    return ranks, quantile * math.sqrt(k * (k + 1) / (12 * tasks))
