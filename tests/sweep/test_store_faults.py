"""What a slot's workers do when the object store does not answer, without Ray."""

from types import SimpleNamespace

import pytest
import torch

from msd_sweeps.distill import checkpoint
from msd_sweeps.records.object_store import StoreError
from msd_sweeps.space.load import load_base
from msd_sweeps.sweep.job import Job
from msd_sweeps.sweep.saving import Saver
from msd_sweeps.sweep.worker import Worker
from tests.stores import flaky_store
from tests.sweep.life import NO_INPUTS


@pytest.fixture
def flaky(tmp_path, monkeypatch):
    return flaky_store(tmp_path / "store", monkeypatch)


def worker(flaky, unsaved_seconds: float = 600.0) -> Worker:
    """A slot's worker with one student whose checkpoints go to the store."""
    made = Worker(None, 0, torch.device("cpu"), saver=Saver(unsaved_seconds=unsaved_seconds))
    student = SimpleNamespace(epoch=3, is_done=False, state=lambda: {"epoch": 3})
    made.cohort = SimpleNamespace(students={"a": student}, key="k")  # type: ignore[assignment]
    made.jobs = {"a": Job("a", load_base("digits").model_dump_json(), "k", str(flaky[0] / "a"), NO_INPUTS, reported=3)}
    return made


def saves(made: Worker) -> None:
    made.save()
    made.saver.flush()


def test_training_goes_on_for_a_while_without_checkpoints(flaky):
    store, wire = flaky
    made = worker(flaky)
    wire.is_down = True
    saves(made)
    wire.is_down = False
    assert checkpoint.newest(store / "a") is None
    saves(made)
    assert checkpoint.newest(store / "a").name == "epoch-000003.pt"
    wire.is_down = True
    saves(made)


def test_training_does_not_go_on_for_longer_without_checkpoints(flaky):
    _, wire = flaky
    made = worker(flaky, unsaved_seconds=-1.0)
    wire.is_down = True
    with pytest.raises(checkpoint.CheckpointError, match="the wire is cut"):
        saves(made)


def test_a_trial_that_cannot_be_read_is_not_said_to_have_failed(flaky):
    _, wire = flaky
    made = worker(flaky)
    wire.is_down = True
    with pytest.raises(StoreError, match="the wire is cut"):
        made.admit(made.jobs["a"])
