"""The adapters between Ray Tune and the trial queue, without Ray running."""

import pickle
from types import SimpleNamespace

import pytest

from msd_sweeps.sweep import tune
from msd_sweeps.sweep.job import Job
from msd_sweeps.sweep.store_sync import StoreSync
from msd_sweeps.sweep.tune import Driver, _Searcher
from tests.stores import flaky_store
from tests.sweep.life import GRID, SEARCH, Life, make


class Dispatched:
    """The dispatcher's handle as the driver sees it; keeps what it is asked for."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.drops: list[tuple[str, int]] = []
        self.take = SimpleNamespace(remote=lambda: ([], {"abc"}))
        self.answer = SimpleNamespace(remote=lambda numbers, jobs, stopped: self.jobs.extend(jobs))
        self.drop = SimpleNamespace(remote=lambda *submission: self.drops.append(submission))


@pytest.fixture(autouse=True)
def without_ray(monkeypatch):
    monkeypatch.setattr(tune.ray, "get", lambda value: value)


def driver(life: Life, seats: int = 2, trouble: str | None = None) -> Driver:
    capacity = SimpleNamespace(
        slots=3, pack=seats, trouble=trouble, look=lambda: None, seats=lambda and_ahead: seats + and_ahead
    )
    slots: list[int] = []
    return Driver(life.queue.run, life.queue, Dispatched(), SimpleNamespace(grow=slots.append, grown=slots), capacity)


def tune_trial(config: dict) -> SimpleNamespace:
    metadata = SimpleNamespace(invalidate_cache=lambda: None)
    return SimpleNamespace(config=config, trial_id="tune", run_metadata=metadata)


def test_as_many_trials_are_given_out_as_there_are_seats_and_each_is_submitted(tmp_path):
    made = driver(Life(make(GRID), tmp_path))
    asked = [_Searcher(made).suggest(f"{number}") for number in range(4)]
    assert asked[3] is None
    assert [(job.trial, job.submission) for job in made.dispatcher.jobs] == [
        (config["trial"], config["submission"]) for config in asked[:3]
    ]


def test_a_search_is_given_out_no_further_than_its_seats(tmp_path):
    made = driver(Life(make(SEARCH), tmp_path))
    asked = [_Searcher(made).suggest(f"{number}") for number in range(3)]
    assert asked[2] is None
    assert None not in asked[:2]


def test_a_trial_whose_actor_died_is_dropped_and_given_out_again(tmp_path):
    made = driver(Life(make(GRID), tmp_path))
    config = _Searcher(made).suggest("tune")
    made.on_trial_error(0, [], tune_trial(config))
    assert made.dispatcher.drops == [(config["trial"], 1)]
    made.advance()
    assert {"trial": config["trial"], "submission": 2} in [_Searcher(made).suggest("again") for _ in range(3)]


@pytest.mark.parametrize("why", ["signal", "taken", "room"])
def test_a_sweep_ends_in_order(why, tmp_path, monkeypatch):
    life = Life(make(GRID), tmp_path)
    made = driver(life, trouble="no room" if why == "room" else None)
    if why != "room":
        assert not made.stop_all()
    if why == "signal":
        life.queue.run.signals.received.append(15)
    if why == "taken":
        store, _ = flaky_store(tmp_path / "store", monkeypatch)
        life.queue.run.store_sync = StoreSync(store / "scales", tmp_path)
        life.queue.run.store_sync.taken = "the sweep was taken over by process 7"
    assert made.stop_all()
    assert made.trouble == {"signal": None, "taken": "the sweep was taken over by process 7", "room": "no room"}[why]
    assert made.why_ending == ("SIGTERM" if why == "signal" else "the sweep was stopped")


def test_slots_are_added_as_the_cluster_grows(tmp_path):
    made = driver(Life(make(GRID), tmp_path))
    made.stop_all()
    assert made.slots.grown == [made.capacity.slots]


def test_what_tune_writes_to_disk_has_none_of_the_driver(tmp_path):
    assert len(pickle.dumps(driver(Life(make(GRID), tmp_path)))) < 100
