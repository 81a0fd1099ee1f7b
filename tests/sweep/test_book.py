"""The driver's book, with an agenda of one trial whose checkpoints lie in an object store, without Ray."""

import json
from types import SimpleNamespace

import pytest

from msd_sweeps.distill import checkpoint
from msd_sweeps.records.trial_record import TrialRecord
from msd_sweeps.space.load import load_base
from msd_sweeps.space.trial import Trial
from msd_sweeps.sweep.book import Book
from msd_sweeps.sweep.dispatcher import Job
from msd_sweeps.sweep.stopping import Signals
from msd_sweeps.sweep.store_sync import StoreSync
from msd_sweeps.sweep.trainer import Prepared
from msd_sweeps.sweep.trial_queue import Pause
from tests.stores import flaky_store


@pytest.fixture
def flaky(tmp_path, monkeypatch):
    return flaky_store(tmp_path / "store", monkeypatch)


class Dispatched:
    """The dispatcher's handle as the driver sees it; keeps what it is told."""

    def __init__(self):
        self.jobs: list[Job] = []
        self.submit = SimpleNamespace(remote=self.jobs.append)


def book(flaky, tmp_path) -> tuple[Book, StoreSync, list[tuple[str, str]]]:
    """The book of a driver whose agenda has one trial to begin; what the agenda is told of ends."""
    trial: Trial = load_base("digits")
    record = TrialRecord("a", "cell", "label", "fixed", 0, 0, json.loads(trial.model_dump_json()))
    ends: list[tuple[str, str]] = []
    agenda = SimpleNamespace(
        next=lambda: record, end=lambda trial, state, reason, traceback="": ends.append((state, reason))
    )
    keeper = StoreSync(flaky[0] / "scales", tmp_path)
    prepared = Prepared([], lambda record: None, "cpu")
    made = Book(None, agenda, tmp_path, prepared, Dispatched(), Signals(), keeper)  # type: ignore[arg-type]
    return made, keeper, ends


def test_a_sweep_whose_checkpoints_cannot_be_looked_for_ends_in_order(flaky, tmp_path):
    made, _, ends = book(flaky, tmp_path)
    flaky[1].is_down = True
    assert made.start("tune") is Pause.WAIT
    assert made.is_ending
    assert [(state, "the wire is cut" in reason) for state, reason in ends] == [("interrupted", True)]


def test_checkpoints_are_looked_for_and_written_in_the_store(flaky, tmp_path):
    made, _, _ = book(flaky, tmp_path)
    job = made.start("tune")
    assert (job["folder"], job["positions"]) == ("flaky://store/runs/scales/checkpoints/a", None)
    checkpoint.write(flaky[0] / "scales" / "checkpoints" / "a", 2, 7, b"state")
    assert made.start("tune")["positions"] == [7]


def test_a_sweep_that_was_taken_over_ends_and_says_so(flaky, tmp_path):
    made, keeper, _ = book(flaky, tmp_path)
    assert not made.is_ending
    keeper.taken = "the sweep was taken over by process 7"
    assert made.is_ending
    assert made.trouble == keeper.taken


def test_a_trial_that_is_given_to_tune_is_submitted_to_the_slots(flaky, tmp_path):
    made, _, _ = book(flaky, tmp_path)
    job = made.start("tune")
    assert made.dispatcher.jobs == [job]
    assert (job["trial"], job["launch"], job["attempt"]) == ("a", 0, 0)
