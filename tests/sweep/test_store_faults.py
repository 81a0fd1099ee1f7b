"""What a slot's workers do when the object store does not answer, without Ray."""

import time
from types import SimpleNamespace

import pytest

from msd_sweeps.distill import checkpoint
from msd_sweeps.records.object_store import StoreError
from msd_sweeps.space.load import load_base
from msd_sweeps.sweep.worker import _UNSAVED_SECONDS, _Slot
from tests.stores import flaky_store


@pytest.fixture
def flaky(tmp_path, monkeypatch):
    return flaky_store(tmp_path / "store", monkeypatch)


@pytest.fixture
def slot(flaky) -> _Slot:
    """A slot with one student whose checkpoints go to the store."""
    made = _Slot.__new__(_Slot)  # its own start needs Ray
    student = SimpleNamespace(epoch=3, state=lambda: {"epoch": 3})
    made.rank, made.world_size, made._saved = 0, 1, time.monotonic()
    made.cohort = SimpleNamespace(students={"a": student}, position=3)  # type: ignore[assignment]
    made.jobs = {"a": {"trial": "a", "folder": str(flaky[0] / "a"), "positions": [3]}}
    return made


def test_training_goes_on_for_minutes_without_checkpoints_and_no_longer(slot, flaky):
    store, wire = flaky
    wire.is_down = True
    slot._save()
    slot._saved -= _UNSAVED_SECONDS + 1
    with pytest.raises(checkpoint.CheckpointError, match="the wire is cut"):
        slot._save()
    wire.is_down = False
    slot._save()
    assert list(checkpoint.positions(store / "a")) == [3]
    wire.is_down = True
    slot._save()


def test_a_trial_that_cannot_be_read_is_not_said_to_have_failed(slot, flaky, monkeypatch):
    _, wire = flaky
    trial = load_base("digits")
    slot.cohort.key = "k"
    wire.is_down = True
    job = slot.jobs["a"] | {"config": trial.model_dump_json(), "key": "k"}
    with pytest.raises(StoreError, match="the wire is cut"):
        slot._admit(job, 3)
