"""The copy of a ledger in a store keeps up, through faults, and never gets ahead of what it allows to be deleted."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from msd_sweeps.distill import checkpoint
from msd_sweeps.records import ledger
from msd_sweeps.records.ledger import FILE_NAME, Ledger
from msd_sweeps.records.object_store import StorePath
from msd_sweeps.records.stored_ledger import StoredLedger
from msd_sweeps.space.errors import InputError
from msd_sweeps.sweep import store_sync
from msd_sweeps.sweep.lock import locked
from msd_sweeps.sweep.store_sync import CHECKPOINTS, CLAIM, StoreSync, fetch_others
from tests.stores import flaky_store

SOON = 10.0


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "runs" / "scales").mkdir(parents=True)
    return tmp_path / "runs" / "scales"


@pytest.fixture
def flaky(tmp_path, monkeypatch):
    store, wire = flaky_store(tmp_path / "store", monkeypatch)
    return store / "scales", wire


def quick(store: StorePath, folder: Path) -> StoreSync:
    """A StoreSync that looks at the ledger almost without pauses."""
    return StoreSync(store, folder, look_seconds=0.02)


def until(seen: Callable[[], bool]) -> None:
    end = time.monotonic() + SOON
    while not seen():
        assert time.monotonic() < end
        time.sleep(0.01)


def ends_in(store: StorePath) -> list[str]:
    lines = StoredLedger(store).read().splitlines(keepends=True)
    records = [ledger.decode(line) for line in lines]
    return [record["trial"] for record in records if record and record["event"] == "end"]


def test_the_store_follows_and_has_everything_in_the_end(flaky, folder):
    store, _ = flaky
    opened, sync = Ledger(folder / FILE_NAME), quick(store, folder)
    sync.begin()
    for number in range(3):
        opened.append("end", trial=str(number), state="finished", reason="")
        until(lambda: StoredLedger(store).read() == opened.path.read_bytes())
    opened.append("end", trial="last", state="finished", reason="")
    sync.finish(SOON)
    assert sync.trouble is None
    assert [copy.read_bytes() for copy in store.glob("ledger.*")] == [opened.path.read_bytes()] * 2
    assert (store / CLAIM).size() is None


def test_a_store_that_is_away_is_told_once_and_gets_the_rest_when_it_is_back(flaky, folder):
    store, wire = flaky
    said: list[str] = []
    opened, sync = Ledger(folder / FILE_NAME), quick(store, folder)
    sync.say = said.append
    sync.begin()
    wire.is_down = True
    until(lambda: bool(said))
    opened.append("end", trial="a", state="finished", reason="")
    asked = wire.asked
    until(lambda: wire.asked > asked + 5)
    assert len(said) == 1
    assert "the wire is cut; training goes on" in said[0]
    wire.is_down = False
    until(lambda: ends_in(store) == ["a"])
    until(lambda: len(said) == 2)
    assert "has the ledger again" in said[1]
    sync.finish(SOON)
    assert sync.trouble is None


def test_a_store_that_stays_away_is_named_in_the_end_and_delays_it_no_longer_than_asked(flaky, folder):
    store, wire = flaky
    sync = quick(store, folder)
    sync.say = lambda text: None
    sync.begin()
    Ledger(folder / FILE_NAME).append("end", trial="a", state="finished", reason="")
    wire.is_down = True
    began = time.monotonic()
    sync.finish(0.2)
    assert time.monotonic() - began < SOON
    assert "the wire is cut" in str(sync.trouble)
    wire.is_down = False
    again = quick(store, folder)
    again.begin()
    again.finish(SOON)
    assert again.trouble is None
    assert ends_in(store) == ["a"]


def test_checkpoints_go_only_after_the_store_knows_of_the_end(flaky, folder, monkeypatch):
    store, _ = flaky
    opened, sync = Ledger(folder / FILE_NAME), quick(store, folder)
    of_trial = store / CHECKPOINTS / "a"
    checkpoint.write(of_trial, 1, b"state")
    known: list[list[str]] = []
    remove = checkpoint.remove

    def watched(place):
        known.append(ends_in(store))
        remove(place)

    monkeypatch.setattr(checkpoint, "remove", watched)
    sync.begin()
    opened.append("end", trial="a", state="finished", reason="")
    sync.remove_later(of_trial)
    until(lambda: bool(known) and checkpoint.newest(of_trial) is None)
    assert known == [["a"]]
    sync.finish(SOON)


def test_a_writer_that_dies_leaves_the_copy_before(flaky, folder):
    store, wire = flaky
    opened, sync = Ledger(folder / FILE_NAME), quick(store, folder)
    sync.say = lambda text: None
    for trial in "ab":
        opened.append("end", trial=trial, state="finished", reason="")
    sync.begin()
    until(lambda: ends_in(store) == ["a", "b"])
    wire.tears = True
    opened.append("end", trial="c", state="finished", reason="")
    until(lambda: sync.trouble is not None)
    sync.finish(0.0)
    assert ends_in(store) == ["a", "b"]


def test_a_driver_that_was_taken_over_writes_nothing_more(flaky, folder, tmp_path, monkeypatch):
    store, _ = flaky
    opened, sync = Ledger(folder / FILE_NAME), quick(store, folder)
    opened.append("end", trial="a", state="finished", reason="")
    sync.begin()
    until(lambda: ends_in(store) == ["a"])
    monkeypatch.setattr(store_sync, "CLAIM_SECONDS", -1.0)
    (tmp_path / "other").mkdir()
    other = quick(store, tmp_path / "other")
    other.begin()
    until(lambda: sync.taken is not None)
    opened.append("end", trial="b", state="finished", reason="")
    sync.finish(SOON)
    assert ends_in(store) == ["a"]
    assert other.taken is None
    assert "was taken over by process" in str(sync.trouble)
    assert (store / CLAIM).size() is not None
    other.finish(SOON)


def test_a_driver_that_stood_still_in_its_upload_hides_nothing_of_the_one_that_took_over(
    flaky, folder, tmp_path, monkeypatch
):
    """It wakes up when the other has finished: the upload goes through, and then it would delete checkpoints."""
    store, _ = flaky
    opened, sync = Ledger(folder / FILE_NAME), quick(store, folder)
    of_trial = store / CHECKPOINTS / "a"
    checkpoint.write(of_trial, 1, b"state")
    sync.begin()
    stalled, goes_on = threading.Event(), threading.Event()
    write = sync._ledger.write

    def stall(content: bytes, both: bool = False) -> None:
        stalled.set()
        assert goes_on.wait(SOON)
        write(content, both)

    sync._ledger.write = stall  # type: ignore[method-assign]
    opened.append("end", trial="a", state="finished", reason="")
    sync.remove_later(of_trial)
    assert stalled.wait(SOON)

    monkeypatch.setattr(store_sync, "CLAIM_SECONDS", -1.0)  # the claim has run out
    (tmp_path / "other").mkdir()
    second, other = Ledger(tmp_path / "other" / FILE_NAME), quick(store, tmp_path / "other")
    other.begin()
    for name in "xyz":
        second.append("end", trial=name, state="finished", reason="")
    other.finish(SOON)
    goes_on.set()
    until(lambda: sync.taken is not None)
    sync.finish(SOON)
    assert ends_in(store) == ["x", "y", "z"]
    assert checkpoint.newest(of_trial) is not None
    (tmp_path / "third").mkdir()
    assert StoredLedger(store).fetch(tmp_path / "third" / FILE_NAME) is None
    assert (tmp_path / "third" / FILE_NAME).read_bytes() == second.path.read_bytes()


def test_a_store_that_does_not_answer_is_bad_input(flaky, folder):
    store, wire = flaky
    wire.is_down = True
    with pytest.raises(InputError, match=r"flaky://store/runs/scales/driver\.json.*the wire is cut"):
        quick(store, folder).begin()


def test_the_ledgers_of_other_sweeps_come_along_but_not_into_a_running_one(flaky, tmp_path):
    own, _ = flaky
    store = StorePath("flaky://store/runs")
    for name in ("scales", "other", "running"):
        StoredLedger(store / name).begin(b"{}\n")
    (store / "teachers" / "x" / "teacher.json").write_bytes(b"{}")
    with locked(tmp_path / "here" / "running", "running"):
        fetch_others(store, tmp_path / "here", own.name)
    assert [path.parent.name for path in (tmp_path / "here").glob(f"*/{FILE_NAME}")] == ["other"]
    assert not (tmp_path / "here" / "teachers").exists()
