"""Checkpoints that are written beside the training."""

import threading
import time
from types import SimpleNamespace

import pytest
import torch

from msd_sweeps.distill import checkpoint
from msd_sweeps.space.load import load_base
from msd_sweeps.sweep.job import Job
from msd_sweeps.sweep.saving import Saver, copied
from msd_sweeps.sweep.worker import Worker
from tests.sweep.life import NO_INPUTS


class Learner:
    """A student whose only weight is the number of its epochs."""

    is_done = False

    def __init__(self, copying_seconds: float = 0.0):
        self.epoch, self.weight, self.seconds = 0, torch.zeros(1), copying_seconds

    def learn(self) -> None:
        self.epoch += 1
        self.weight += 1

    def state(self) -> dict:
        time.sleep(self.seconds)
        return {"weight": self.weight}


def learned(saver: Saver, folder, student: Learner, epochs: int) -> list[str]:
    """Train and save so often; the checkpoints that are there then."""
    for _ in range(epochs):
        student.learn()
        saver.save({"a": (folder, student)})
    saver.flush()
    return sorted(path.name for path in folder.glob("*"))


def test_training_goes_on_while_the_copy_of_its_state_is_written(tmp_path, monkeypatch):
    may_write, save = threading.Event(), checkpoint.save
    monkeypatch.setattr(checkpoint, "save", lambda *state: may_write.wait(10) and save(*state))
    saver, student = Saver(), Learner()
    for _ in range(3):  # the first is being written all the time
        student.learn()
        saver.save({"a": (tmp_path, student)})
    may_write.set()
    saver.flush()
    (path,) = tmp_path.glob("*")
    assert (path.name, checkpoint.load(path)["weight"].item()) == ("epoch-000001.pt", 1)


def test_checkpoints_keep_the_time_that_was_set(tmp_path):
    assert learned(Saver(3600.0), tmp_path, Learner(), 5) == ["epoch-000001.pt"]


def test_copying_takes_a_hundredth_of_the_time_at_most(tmp_path):
    assert learned(Saver(), tmp_path, Learner(copying_seconds=0.05), 5) == ["epoch-000001.pt"]


def test_each_epoch_is_saved_while_that_costs_nothing(tmp_path):
    saver, student = Saver(), Learner()
    for _ in range(2):
        names = learned(saver, tmp_path, student, 1)
        time.sleep(0.2)
    assert names == ["epoch-000001.pt", "epoch-000002.pt"]


def test_a_state_is_copied_whole():
    state = {"a": [torch.ones(2), {"b": torch.zeros(1)}], "c": (1, "x"), "d": None}
    found = copied(state)
    state["a"][0] += 1
    assert (found["c"], found["d"], found["a"][0].tolist()) == ((1, "x"), None, [1, 1])


def test_a_disk_that_refuses_is_told_at_the_next_epoch(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise checkpoint.CheckpointError("no space")

    monkeypatch.setattr(checkpoint, "save", refuse)
    saver, student = Saver(), Learner()
    student.learn()
    saver.save({"a": (tmp_path, student)})
    time.sleep(0.5)  # for the thread
    with pytest.raises(checkpoint.CheckpointError, match="no space"):
        saver.save({"a": (tmp_path, student)})


@pytest.mark.parametrize("decides", [False, True])
def test_where_the_driver_may_end_a_trial_nothing_of_it_is_written_later(tmp_path, monkeypatch, decides):
    may_write, written = threading.Event(), []
    monkeypatch.setattr(checkpoint, "save", lambda *state: may_write.wait(10) and written.append(state))
    made, student = Worker(None, 0, torch.device("cpu")), Learner()
    student.learn()
    made.cohort = SimpleNamespace(students={"a": student}, key="k")  # type: ignore[assignment]
    rungs = (1,) if decides else (2,)
    made.jobs = {"a": Job("a", load_base("digits").model_dump_json(), "k", str(tmp_path), NO_INPUTS, rungs=rungs)}
    threading.Timer(0.2, may_write.set).start()
    made.save([SimpleNamespace(trial="a", state="running", epoch=1)])  # type: ignore[list-item]
    assert bool(written) == decides
    made.saver.flush()


def test_what_is_done_is_not_saved(tmp_path):
    made, student = Worker(None, 0, torch.device("cpu")), Learner()
    student.is_done = True
    made.cohort = SimpleNamespace(students={"a": student}, key="k")  # type: ignore[assignment]
    made.jobs = {"a": Job("a", load_base("digits").model_dump_json(), "k", str(tmp_path), NO_INPUTS)}
    made.save()
    made.saver.flush()
    assert not list(tmp_path.iterdir())
