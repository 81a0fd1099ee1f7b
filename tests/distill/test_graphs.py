"""Steps through static buffers and captures give what plain steps give; the capture itself has a stand-in here."""

import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch

from msd_sweeps.distill.cohort import Cohort
from msd_sweeps.distill.stepping import WARM_UP_STEPS, Graphs
from tests.distill.conftest import make_trial

RECIPE = {"epochs": 3, "batch_size": 8, "lr": 0.05, "schedule": "cosine", "precision": "float32"}
TRIALS = {
    "none": make_trial(method={"name": "none"}, seed=1, recipe=RECIPE),
    "msd": make_trial(seed=2, recipe=RECIPE),
    "memory bank": make_trial(method={"name": "crd", "num_negatives": 16, "width": 8}, seed=3, recipe=RECIPE),
    "warm-up": make_trial(method={"name": "dkd", "warmup_epochs": 3}, seed=4, recipe=RECIPE),
}


class StandIn:
    """Records what it is asked for. A replay runs the recorded work again, with the tensors that it knew then."""

    def __init__(self) -> None:
        self.captures = 0
        self.replays = 0
        self.streams = 0
        self.refuses: type[Exception] | None = None

    def capture(self, work: Callable[[], Any]) -> Callable[[], None]:
        if self.refuses is not None:
            raise self.refuses("cannot be captured")
        self.captures += 1

        def replay() -> None:
            self.replays += 1
            work()

        return replay

    def new_stream(self) -> str:
        self.streams += 1
        return "stream"

    def run_on(self, stream: Any, work: Callable[[], None]) -> None:
        work()

    def wait_for(self, stream: Any) -> None:
        assert stream == "stream"


def train(cohort: Cohort, names: list[str]) -> list[list[tuple[str, dict[str, float]]]]:
    for name in names:
        cohort.admit(TRIALS[name])
    return [
        [(r.state, {k: v for k, v in r.metrics.items() if k != "step_seconds"}) for r in results]
        for results in cohort.epochs()
    ]


@pytest.fixture
def recorder() -> StandIn:
    return StandIn()


@pytest.fixture
def cohort(new_cohort: Callable[..., Cohort], recorder: StandIn) -> Cohort:
    return new_cohort(TRIALS["msd"], stepping=Graphs(recorder))


def test_replayed_steps_give_the_bits_of_plain_steps(new_cohort, cohort, recorder):
    assert train(cohort, list(TRIALS)) == train(new_cohort(TRIALS["msd"]), list(TRIALS))
    steps = 3 * 6
    # The teacher and three students after their warm-up; dkd once its loss has stopped to change, in the last epoch.
    assert recorder.captures == 5
    assert recorder.replays == 4 * (steps - WARM_UP_STEPS) + 6


def test_what_cannot_be_captured_steps_plainly(new_cohort, cohort, recorder, caplog):
    cohort.admit(TRIALS["none"])
    recorder.refuses = RuntimeError
    found = train(cohort, [])
    assert found == train(new_cohort(TRIALS["none"]), ["none"])
    assert recorder.replays == 0
    assert caplog.text.count("cannot be captured and steps plainly") == 1


def test_memory_that_ends_in_a_capture_ends_that_student(cohort, recorder):
    recorder.refuses = torch.OutOfMemoryError
    (first, *_) = train(cohort, ["none"])
    assert [state for state, _ in first] == ["out_of_memory"]


def test_a_teacher_that_is_needed_only_later(new_cohort, cohort):
    cohort.admit(TRIALS["none"])
    cohort.run_epoch()
    cohort.admit(TRIALS["msd"])
    late = cohort.run_epoch()[0].metrics
    alone = new_cohort(TRIALS["msd"])
    alone.admit(TRIALS["msd"])
    expected = alone.run_epoch()[0].metrics
    assert {k: v for k, v in late.items() if k != "step_seconds"} == {
        k: v for k, v in expected.items() if k != "step_seconds"
    }


def test_a_student_that_has_left_keeps_no_graph(cohort, recorder):
    """The stand-in's replays hold students, which captured graphs do not, so none is made."""
    recorder.refuses = RuntimeError
    cohort.admit(TRIALS["none"])
    cohort.run_epoch()
    student = weakref.ref(cohort.students[TRIALS["none"].id])
    streams = recorder.streams
    cohort.drop(TRIALS["none"].id)
    assert student() is None
    cohort.admit(TRIALS["none"])
    cohort.run_epoch()
    assert recorder.streams == streams + 1
