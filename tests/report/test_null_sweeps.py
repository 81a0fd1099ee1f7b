"""Of twenty pages at most one says something false: sweeps without any effect, through the whole compile path."""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from tests.report.bench_races import EFFECTS, RACE, summary
from tests.report.null_sweeps import claims, counted, found_better, pages, peeked

SWEEPS = 300


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(2, get_context("spawn")) as executor:
        yield executor


@pytest.fixture(scope="module")
def count(pool) -> Callable[..., Counter[str]]:
    """Counts the claims of so many sweeps of a kind, in two processes."""

    def of_sweeps(kind: str, sweeps: int, *more) -> Counter[str]:
        halves = [pool.submit(counted, kind, range(first, sweeps, 2), *more) for first in (0, 1)]
        return sum((half.result() for half in halves), Counter())

    return of_sweeps


@pytest.mark.parametrize(("kind", "seeds"), [("methods", 5), ("one_at_a_time", 5), ("ablation", 5), ("search", 3)])
def test_pages_without_an_effect_claim_one_in_twenty_times_at_most(kind, seeds, count):
    counts = count(kind, SWEEPS, seeds)
    assert counts["any"] <= 0.065 * SWEEPS
    # Bold, interval, p and decision claim the same; the sentence names fewer rows than the table has.
    assert len({counts[place] for place in ("bold", "interval", "p", "decision")}) == 1
    assert counts["sentence"] <= counts["any"]


@pytest.mark.slow
def test_looking_again_after_added_seeds_costs_no_more():
    sweeps = SWEEPS // 3
    assert sum(any(any(claims(page).values()) for page in looks) for looks in peeked(sweeps)) <= 0.08 * sweeps


def test_two_points_are_found_at_a_spread_of_one():
    assert found_better(pages("methods", range(20), 10, "differing")) > 0.5


def test_skewed_scores_claim_no_more_than_others(count):
    assert count("methods", 100, 5, "skewed")["any"] <= 8


def test_a_race_costs_six_tenths_of_a_fixed_n_that_is_right_as_often_and_keeps_the_error(pool):
    """16 rows, of which 4 differ. The larger simulation is in reports/statistics."""
    races = 200
    raced, fixed = [pool.submit(summary, races, "equal", 0.22, looks, EFFECTS) for looks in (RACE, (15,))]
    (trials, right, false), (of_fixed, right_of_fixed, _) = raced.result(), fixed.result()
    assert trials <= 0.6 * of_fixed
    assert right >= right_of_fixed - 0.02
    assert false <= 0.065 * races
