"""Steps through static buffers and captures give what plain steps give; the capture itself has a stand-in here."""

import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch

from msd_sweeps.distill.cohort import Cohort
from msd_sweeps.distill.graphs import MOST_STREAMS, WARM_UP_STEPS, DeviceFault, Graphs, Recorder
from msd_sweeps.distill.stepping import InTurn, Threads
from tests.distill.conftest import make_trial

RECIPE = {"epochs": 3, "batch_size": 8, "lr": 0.05, "schedule": "cosine", "precision": "float32"}
TRIALS = {
    "none": make_trial(method={"name": "none"}, seed=1, recipe=RECIPE),
    "msd": make_trial(seed=2, recipe=RECIPE),
    "memory bank": make_trial(method={"name": "crd", "num_negatives": 16, "width": 8}, seed=3, recipe=RECIPE),
    "warm-up": make_trial(method={"name": "dkd", "warmup_epochs": 3}, seed=4, recipe=RECIPE),
}


class HiddenOutOfMemory(RuntimeError):
    """Made while an exception that says that memory ran out is handled, as `torch.cuda.graph` does."""

    def __init__(self, message: str):
        super().__init__(message)
        self.__context__ = torch.OutOfMemoryError("out of memory")


class StandIn:
    """Records what it is asked for. A replay runs the recorded work again, with the tensors that it knew then."""

    def __init__(self) -> None:
        self.captures = 0
        self.replays = 0
        self.streams = 0
        self.refuses: type[Exception] | None = None
        self.patience = 0
        self.found_waiting = False
        self.is_gone = False
        self.captured_on: list[str] = []

    def capture(self, work: Callable[[], Any], stream: Any) -> Callable[[], None]:
        if self.refuses is not None and self.captures >= self.patience:
            raise self.refuses("cannot be captured")
        self.captures += 1
        self.captured_on.append(stream)

        def replay() -> None:
            self.replays += 1
            work()

        return replay

    def stream_for(self, owner: object) -> str:
        self.streams += 1
        return f"stream {self.streams}"

    def waits(self, stream: Any, work: Callable[[], None]) -> bool:
        work()
        return self.found_waiting

    def check(self) -> None:
        if self.is_gone:
            raise DeviceFault("the GPU has stopped answering")

    def run_on(self, stream: Any, work: Callable[[], None]) -> None:
        work()

    def wait_for(self, stream: Any) -> None:
        assert stream.startswith("stream")


def train(cohort: Cohort, names: list[str]) -> list[list[tuple[str, dict[str, float]]]]:
    for name in names:
        cohort.admit(TRIALS[name])
    return [
        [(r.state, {k: v for k, v in r.metrics.items() if not k.endswith("_seconds")}) for r in results]
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
    assert recorder.captures == 5  # the teacher and its four students
    assert recorder.replays == 5 * (steps - WARM_UP_STEPS)


def test_a_step_that_waits_for_the_device_is_not_captured(new_cohort, cohort, recorder, caplog):
    cohort.admit(TRIALS["none"])
    recorder.found_waiting = True
    found = train(cohort, [])
    assert found == train(new_cohort(TRIALS["none"]), ["none"])
    assert recorder.captures == recorder.replays == 0
    assert caplog.text.count("waits for the device in every step") == 1


def test_a_capture_that_fails_ends_its_student_and_the_process(cohort, recorder):
    """What a failed capture leaves behind is not known, so no other is tried; those that were captured go on."""
    cohort.admit(TRIALS["msd"])
    cohort.admit(TRIALS["none"])
    recorder.refuses, recorder.patience = RuntimeError, 2  # the teacher and the first student are captured
    results = {result.trial: result for result in cohort.run_epoch()}
    assert results[TRIALS["msd"].id].state == "running"
    lost = results[TRIALS["none"].id]
    assert lost.state == "failed"
    assert f"a step of trial {TRIALS['none'].id} (none) cannot be captured" in lost.reason
    assert cohort.stepping.broken
    recorder.refuses = None
    cohort.admit(TRIALS["memory bank"])
    assert [result.state for result in cohort.run_epoch()] == ["running"]
    assert recorder.captures == 2


@pytest.mark.parametrize("hidden", [False, True])
def test_memory_that_ends_in_a_capture_ends_that_student(cohort, recorder, hidden):
    """CUDA reports that the capture was broken; that memory ran out is the exception before."""
    recorder.refuses = HiddenOutOfMemory if hidden else torch.OutOfMemoryError
    (first, *_) = train(cohort, ["none"])
    assert [state for state, _ in first] == ["out_of_memory"]


def test_every_student_has_a_stream_of_its_own_and_is_captured_on_it(cohort, recorder):
    """cuBLAS keeps a workspace for each stream: two graphs of one stream that run at a time would share it."""
    for name in ("none", "msd", "memory bank"):
        cohort.admit(TRIALS[name])
    cohort.run_epoch()
    assert len(recorder.captured_on) == len(set(recorder.captured_on)) == 4  # with the teacher


def test_a_device_that_is_gone_is_nobodys_failure(cohort, recorder):
    recorder.refuses = RuntimeError
    recorder.is_gone = True
    cohort.admit(TRIALS["none"])
    with pytest.raises(DeviceFault, match="stopped answering"):
        cohort.run_epoch()


@pytest.mark.parametrize("stepping", [InTurn(), Threads(2, 1), None])
def test_the_memory_of_a_failed_step_is_free_before_the_next_student_steps(recorder, stepping):
    """An exception holds the frames that it passed, and they hold the tensors of the step."""
    kept: list[weakref.ref[torch.Tensor]] = []

    def step(student: int) -> None:
        if student == 0:
            activations = torch.zeros(4)
            kept.append(weakref.ref(activations))
            raise torch.OutOfMemoryError

    stepping = Graphs(recorder) if stepping is None else stepping
    for student, failure in stepping.each([0, 1], step):
        assert student == 0
        assert failure.state == "out_of_memory"
        assert kept[0]() is None


def test_a_teacher_that_is_needed_only_later(new_cohort, cohort):
    cohort.admit(TRIALS["none"])
    cohort.run_epoch()
    cohort.admit(TRIALS["msd"])
    late = cohort.run_epoch()[0].metrics
    alone = new_cohort(TRIALS["msd"])
    alone.admit(TRIALS["msd"])
    expected = alone.run_epoch()[0].metrics
    assert {k: v for k, v in late.items() if not k.endswith("_seconds")} == {
        k: v for k, v in expected.items() if not k.endswith("_seconds")
    }


def test_a_student_that_has_left_keeps_no_graph(cohort, recorder):
    """The stand-in's replays hold students, which captured graphs do not, so none is made."""
    recorder.found_waiting = True
    cohort.admit(TRIALS["none"])
    cohort.run_epoch()
    student = weakref.ref(cohort.students[TRIALS["none"].id])
    streams = recorder.streams
    cohort.drop(TRIALS["none"].id)
    assert student() is None
    cohort.admit(TRIALS["none"])
    cohort.run_epoch()
    assert recorder.streams == streams + 1


def test_a_stream_is_lent_to_one_owner_until_that_one_is_gone(monkeypatch):
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: object())
    recorder = Recorder(torch.device("cuda"))

    class Owner:
        pass

    owners = [Owner() for _ in range(MOST_STREAMS)]
    lent = [recorder.stream_for(owner) for owner in owners]
    assert len(set(map(id, lent))) == MOST_STREAMS
    free = lent[5]
    del owners[5]
    late, shares = Owner(), Owner()
    assert recorder.stream_for(late) is free
    assert recorder.stream_for(shares) in lent  # they run one after the other
