"""Which trials of a search are stopped early."""

import math

import pytest

from msd_sweeps.records.trial_record import EpochResult, TrialRecord
from msd_sweeps.space.schema import Scheduler
from msd_sweeps.sweep.rungs import losers, rungs
from tests.sweep.life import SEARCH, make


def trial(name: str, *scores: float | None, epochs: int = 9) -> TrialRecord:
    history = [
        EpochResult(name, "running", epoch, 1.0, {} if score is None else {"val_top1": score})
        for epoch, score in enumerate(scores, 1)
    ]
    return TrialRecord(name, "c", "", "search", 0, 0, {"recipe": {"epochs": epochs}}, epochs=history)


def stopped(arrived: list[TrialRecord], earlier: list[TrialRecord] = [], mode: str = "max") -> str:  # noqa: B006
    asha = {"type": "asha", "grace_period": 1, "reduction_factor": 3}
    space = make(SEARCH | {"scheduler": asha, "metric": {"name": "val_top1", "mode": mode}}).space
    return "".join(one.trial for one in losers(space, [*earlier, *arrived], arrived))


@pytest.mark.parametrize(
    ("grace", "factor", "epochs", "expected"),
    [(1, 3, 9, (1, 3)), (1, 3, 10, (1, 3, 9)), (6, 2, 24, (6, 12)), (6, 2, 6, ()), (7, 2, 6, ())],
)
def test_the_rungs_of_a_trial_follow_from_its_own_epochs(grace, factor, epochs, expected):
    assert rungs(Scheduler(type="asha", grace_period=grace, reduction_factor=factor), epochs) == expected
    assert rungs(Scheduler(grace_period=grace, reduction_factor=factor), epochs) == ()


@pytest.mark.parametrize(("mode", "expected"), [("max", "abcde"), ("min", "defgh")])
def test_the_best_third_of_eight_goes_on(mode, expected):
    assert stopped([trial(name, float(score)) for score, name in enumerate("abcdefgh")], mode=mode) == expected


def test_a_small_group_is_judged_beside_all_that_were_there_before():
    earlier = [trial(name, score, score + 1) for name, score in (("x", 50.0), ("y", 60.0), ("z", 70.0))]
    assert stopped([trial("a", 40.0)]) == ""  # alone, it is the best
    assert stopped([trial("a", 55.0)], earlier) == "a"
    assert stopped([trial("a", 65.0)], earlier) == ""
    assert stopped([trial("a", 65.0), trial("b", 80.0), trial("c", 90.0)], earlier) == "a"


def test_trials_are_compared_with_those_of_as_many_epochs():
    short = [trial("x", 90.0, epochs=6), trial("y", 95.0, epochs=6)]
    assert stopped([trial("a", 40.0, epochs=24)], short) == ""


@pytest.mark.parametrize("score", [None, math.nan])
def test_a_trial_without_a_score_is_the_worst(score):
    assert stopped([trial("a", score), trial("b", 1.0), trial("c", 2.0), trial("d", 3.0)]) == "ab"


def test_equal_trials_go_on_together_and_nothing_is_stopped_between_rungs():
    assert stopped([trial(name, 5.0) for name in "abc"]) == ""
    assert stopped([trial(name, 1.0, float(score)) for score, name in enumerate("abcd")]) == ""
