"""What differences a plan can see, without scipy, which would take longer to load than the plan takes to appear."""

import math
from functools import cache
from statistics import NormalDist

from msd_sweeps.space.compared import comparisons_planned
from msd_sweeps.space.designs import Sweep

POWER = 0.8
ERROR = 0.04
"""What the page spends at the planned looks of its 5 %: `report.stats`."""
ASSUMED_SPREAD = 0.3
"""Points; of a trial around its row, beside what its seed has in common with other rows. An assumption."""


def what_is_seen(sweep: Sweep, spread: float | None) -> str:
    """Which differences of two rows the page will tell from zero, with 80 %.

    spread: standard deviation of a trial around its row and seed, as an earlier sweep had it; None: `ASSUMED_SPREAD`.
    """
    n, m = sweep.space.looks[-1], comparisons_planned(sweep)
    if not m:
        return "no difference: no row is compared with another"
    if n < 2:
        return f"no difference: one seed shows none, and {m} {'is' if m == 1 else 'are'} compared"
    unit = "nats" if "loss" in sweep.space.report.value else "points"
    seen = detectable(n, m) * (spread or ASSUMED_SPREAD)
    told = "as an earlier sweep had it" if spread else "which is assumed"
    most = "up to " * (len(sweep.space.looks) > 1)
    many = f"{m} comparisons" if m > 1 else "1 comparison"
    given = f"{many}, given a spread of {spread or ASSUMED_SPREAD:.2g}, {told}"
    return f"at n = {most}{n} differences of {seen:.2g} {unit} and more ({100 * POWER:.0f} %; {given})"


@cache
def detectable(n: int, m: int) -> float:
    """The difference of two rows, in standard deviations of a trial, that n ≥ 2 shared seeds show among m comparisons.

    The power of a t test by the normal approximation of its noncentral distribution (Abramowitz and Stegun, 26.7.10),
    with the degrees of freedom that the moderated t of `report.stats` has where rows spread alike. A race has more
    power, as settled comparisons leave to the others what they have not spent.
    """
    freedom = (n - 1) * max(1.0, min((m + 2) / 3, 4 * m / (m + 3)))
    level = ERROR / 0.05 * (1 - 0.95 ** (1 / m))
    bound = _quantile(level / 2, freedom)
    beyond = NormalDist().inv_cdf(POWER) * math.sqrt(1 + bound**2 / (2 * freedom))
    return (bound * (1 - 1 / (4 * freedom)) + beyond) * math.sqrt(2 / n)


def _quantile(above: float, freedom: float) -> float:
    """The value that a t variable exceeds with probability `above`, which is 0.5 or less.

    With x = sqrt(freedom) tan(angle) the density of the angle is in proportion to cos(angle)^(freedom - 1).
    """
    steps = 4000
    width = math.pi / 2 / steps
    parts = [math.cos((step + 0.5) * width) ** (freedom - 1) for step in range(steps)]
    left = 2 * above * math.fsum(parts)
    for step in range(steps - 1, -1, -1):
        if parts[step] >= left:
            return math.sqrt(freedom) * math.tan((step + 1 - left / parts[step]) * width)
        left -= parts[step]
    return 0.0
