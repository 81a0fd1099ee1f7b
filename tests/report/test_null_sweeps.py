"""Of twenty pages at most one says something false: sweeps without any effect, through the whole compile path."""

import numpy as np
import pytest

from tests.report.null_sweeps import claims, count_claims, found_better, pages, peeked

SWEEPS = 300


@pytest.mark.parametrize(("kind", "seeds"), [("methods", 5), ("one_at_a_time", 5), ("ablation", 5), ("search", 3)])
def test_pages_without_an_effect_claim_one_in_twenty_times_at_most(kind, seeds):
    counts = count_claims(pages(kind, SWEEPS, seeds))
    assert counts["any"] <= 0.065 * SWEEPS
    # Bold, interval, p and decision claim the same; the sentence names fewer rows than the table has.
    assert {counts[place] for place in ("bold", "interval", "p", "decision")} == {counts["any"]}
    assert counts["sentence"] <= counts["any"]


def test_looking_again_after_added_seeds_costs_no_more():
    sweeps = SWEEPS // 3
    assert sum(any(any(claims(page).values()) for page in looks) for looks in peeked(sweeps)) <= 0.08 * sweeps


def test_two_points_are_found_at_a_spread_of_one():
    assert found_better(pages("methods", 20, 10, "differing")) > 0.5


def test_skewed_scores_claim_no_more_than_others():
    assert np.less_equal(count_claims(pages("methods", 100, 5, "skewed"))["any"], 8)
