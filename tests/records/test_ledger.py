"""The ledger survives what disks and crashes do to it."""

import errno
import json
import math
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msd_sweeps.records import ledger
from msd_sweeps.records.ledger import Ledger, LedgerError
from msd_sweeps.records.trial_record import FINAL_STATES, TrialRecord, trials_of

TEXT = st.text(max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.dictionaries(TEXT.filter(lambda key: key not in ("event", "time", "self")), VALUES, max_size=4)
SEVERAL = st.lists(FIELDS, min_size=1, max_size=5)


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("ledger") / "ledger.jsonl"


def write(path: Path, several: list[dict]) -> list[dict]:
    path.unlink(missing_ok=True)
    opened = Ledger(path)
    records = [opened.append("x", **fields) for fields in several]
    opened.close()
    return records


@settings(max_examples=60, deadline=None)
@given(several=SEVERAL)
def test_what_was_appended_is_read(several, path):
    records = write(path, several)
    assert list(ledger.read(path)) == records
    assert [{key: record[key] for key in fields} for record, fields in zip(records, several, strict=True)] == several


@settings(max_examples=10, deadline=None)
@given(several=SEVERAL)
def test_a_line_torn_at_any_byte_is_cut_off_and_writing_goes_on(several, path):
    records = write(path, several)
    whole = path.read_bytes()
    last = whole[:-1].rfind(b"\n") + 1
    for length in range(last, len(whole)):
        path.write_bytes(whole[:length])
        assert list(ledger.read(path)) == records[:-1]
        opened = Ledger(path)
        more = opened.append("y", number=1)
        opened.close()
        assert list(ledger.read(path)) == [*records[:-1], more]
        assert path.read_bytes().startswith(whole[:last])


def test_following_a_ledger_gives_each_record_once_it_is_whole(path):
    first, second = write(path, [{"number": 1}, {"number": 2}])
    whole = path.read_bytes()
    end_of_first = whole.index(b"\n") + 1
    path.write_bytes(whole[:end_of_first])
    records = ledger.follow(path)
    assert [next(records) for _ in range(3)] == [first, None, None]
    for size in range(end_of_first + 1, len(whole)):
        path.write_bytes(whole[:size])
        assert next(records) is None
    path.write_bytes(whole)
    assert [next(records), next(records)] == [second, None]


def test_following_a_ledger_passes_over_what_is_altered(path):
    first, second = write(path, [{"number": 1}, {"number": 2}])
    path.write_bytes(path.read_bytes().replace(b"\n", b"x", 1))  # two records in one line
    records = ledger.follow(path)
    assert [next(records) for _ in range(3)] == [first, second, None]
    path.write_bytes(path.read_bytes().replace(b"1", b"7", 1))
    assert next(ledger.follow(path)) == second


@settings(max_examples=15, deadline=None)
@given(several=SEVERAL, data=st.data())
def test_an_altered_byte_loses_its_line_alone(several, data, path):
    records = write(path, several)
    whole = path.read_bytes()
    flip = data.draw(st.integers(1, 255))
    start = 0
    for lost, line in enumerate(whole.splitlines(keepends=True)):
        for index in range(start, start + len(line)):
            path.write_bytes(whole[:index] + bytes([whole[index] ^ flip]) + whole[index + 1 :])
            found = list(ledger.read(path))
            kept = records[:lost] + records[lost + 1 :]
            # A byte outside what the checksum covers may leave the record as it was.
            assert found in (kept, records), (index, line)
        start += len(line)


def test_an_altered_line_end_loses_nothing_before_the_last(path):
    records = write(path, [{"number": number} for number in range(3)])
    content = path.read_bytes()
    path.write_bytes(content.replace(b"\n", b"?", 1))
    assert list(ledger.read(path)) == records


def test_the_checksum_notices_a_change_that_is_still_json(path):
    write(path, [{"test_top1": 71.25}])
    path.write_bytes(path.read_bytes().replace(b"71.25", b"91.25"))
    assert list(ledger.read(path)) == []


def test_foreign_lines_are_passed_over(path):
    records = write(path, [{"number": 1}])
    with path.open("ab") as file:
        file.write(b'hello\n{"event":"end"}\n\n{"crc":"00000000",}\n' + b"\xff\x00\n")
    assert list(ledger.read(path)) == records


def test_numbers_that_are_none_are_written_as_null(path):
    (record,) = write(path, [{"metrics": {"loss": math.nan, "other": [math.inf, 1.0]}, "pair": (1, 2)}])
    assert record["metrics"] == {"loss": None, "other": [None, 1.0]}
    assert list(ledger.read(path)) == [record | {"pair": [1, 2]}]


def test_a_file_name_that_is_no_text_is_kept(path):
    (record,) = write(path, [{"command": ["\udcff.yaml"]}])
    assert list(ledger.read(path)) == [record]


def test_a_record_is_on_disk_before_append_returns(path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_size))
    path.unlink(missing_ok=True)
    opened = Ledger(path)
    del synced[:]
    opened.append("x", number=1)
    assert synced == [path.stat().st_size]
    opened.close()


@pytest.mark.parametrize("moment", ["half a line", "no sync"])
def test_a_full_disk_is_told_and_leaves_the_file_whole(moment, path, monkeypatch):
    records = write(path, [{"number": 1}])
    opened = Ledger(path)
    with monkeypatch.context() as patch:
        if moment == "half a line":
            patch.setattr(opened, "_file", HalfWriter(opened._file))
        else:
            patch.setattr(os, "fsync", refuse)
        with pytest.raises(LedgerError, match=r"ledger\.jsonl: [0-9]+ bytes could not be written: No space left"):
            opened.append("y", number=2)
        assert list(ledger.read(path)) == records
    more = opened.append("y", number=3)  # the space is there again
    opened.close()
    assert list(ledger.read(path)) == [*records, more]


def refuse(*arguments) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class HalfWriter:
    """A file on a disk that takes half a line, and cannot even shorten it at first."""

    def __init__(self, file):
        self._inner = file

    def __getattr__(self, name: str):
        return getattr(self._inner, name)

    def write(self, line: bytes) -> int:
        return self._inner.write(line[: len(line) // 2])

    truncate = refuse


def test_a_disk_that_cannot_even_shorten_a_torn_line_is_mended_by_the_next_append(path, monkeypatch):
    records = write(path, [{"number": 1}])
    opened = Ledger(path)
    with monkeypatch.context() as patch:
        patch.setattr(opened, "_file", HalfWriter(opened._file))
        with pytest.raises(LedgerError):
            opened.append("y")
    assert not path.read_bytes().endswith(b"\n")
    more = opened.append("y", number=2)
    opened.close()
    assert list(ledger.read(path)) == [*records, more]
    assert path.read_bytes().count(b"\n") == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_device_that_is_full_says_so():
    with pytest.raises(LedgerError, match=r"/dev/full: [0-9]+ bytes could not be written: No space left"):
        Ledger(Path("/dev/full")).append("x")


@pytest.mark.parametrize("length", [1, 65535, 65536, 65537, 200_000])
def test_a_torn_line_of_any_length_is_found_and_cut_off(length, path):
    records = write(path, [{"number": 1}, {"text": "long " * 50_000}])
    with path.open("ab") as file:
        file.write(b'{"crc":"' + b"x" * length)
    Ledger(path).close()
    assert list(ledger.read(path)) == records
    assert path.read_bytes().endswith(b"}\n")
    path.write_bytes(b"x" * length)
    Ledger(path).close()
    assert path.read_bytes() == b""


def test_a_place_that_takes_no_file_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError, match=r"cannot be written: "):
        Ledger(tmp_path / "file" / "ledger.jsonl")
    (tmp_path / "folder").mkdir()
    with pytest.raises(LedgerError, match=r"folder: no ledger but a folder"):
        list(ledger.read(tmp_path / "folder"))
    with pytest.raises(LedgerError, match="no ledger here; is the name of the sweep right"):
        list(ledger.read(tmp_path / "absent"))


# --- what the records of a trial tell


def start(attempt: int = 1, trial: str = "t") -> dict:
    return {
        "event": "start",
        "trial": trial,
        "attempt": attempt,
        "cell": "c",
        "label": "l",
        "phase": "design",
        "number": 0,
        "seed": 0,
        "config": {},
        "levels": [],
        "search_trial": "",
        "more": 0,
    }


def epoch(number: int, score: float = 0.0, trial: str = "t") -> dict:
    return {
        "event": "epoch",
        "trial": trial,
        "attempt": 1,
        "epoch": number,
        "round": number,
        "more": 0,
        "slot": 0,
        "seconds": 2.0,
        "metrics": {"val_top1": score},
    }


def end(state: str, trial: str = "t") -> dict:
    return {"event": "end", "trial": trial, "attempt": 1, "state": state, "reason": "because", "traceback": "lines"}


def reduced(*records: dict) -> TrialRecord:
    (trial,) = trials_of(records).values()
    return trial


def test_epochs_come_in_order():
    trial = reduced(start(), epoch(1, 10.0), epoch(2, 20.0), end("finished"))
    assert [entry.epoch for entry in trial.epochs] == [1, 2]
    assert (trial.state, trial.reason, trial.is_final, trial.metrics) == (
        "finished",
        "because",
        True,
        {"val_top1": 20.0},
    )
    assert sum(epoch.seconds for epoch in trial.epochs) == 4.0


def test_an_epoch_that_is_reported_again_replaces_what_came_after_the_checkpoint():
    trial = reduced(start(), epoch(1), epoch(2, 20.0), epoch(3, 30.0), start(2), epoch(2, 21.0))
    assert [(entry.epoch, entry.metrics["val_top1"]) for entry in trial.epochs] == [(1, 0.0), (2, 21.0)]
    assert (trial.attempts, trial.state, sum(epoch.seconds for epoch in trial.epochs)) == (2, "running", 4.0)


def test_a_lost_epoch_leaves_a_gap_and_no_disorder():
    trial = reduced(start(), epoch(1), epoch(2), epoch(5, 50.0), epoch(6, 60.0), epoch(5, 51.0), epoch(6, 61.0))
    assert [(entry.epoch, entry.metrics["val_top1"]) for entry in trial.epochs] == [
        (1, 0.0),
        (2, 0.0),
        (5, 51.0),
        (6, 61.0),
    ]


def test_a_new_attempt_takes_back_how_the_last_one_ended():
    trial = reduced(start(), epoch(1), end("interrupted"), start(2))
    assert (trial.state, trial.reason, trial.traceback, trial.is_final) == ("running", "", "", False)
    assert len(trial.epochs) == 1


@pytest.mark.parametrize("state", FINAL_STATES)
def test_a_final_state_is_left_alone_by_a_resume(state):
    assert reduced(start(), end(state)).is_final


def test_a_trial_whose_start_was_lost_begins_with_the_next():
    assert trials_of([epoch(1), end("finished")]) == {}
    trial = reduced(epoch(1), start(2), epoch(2))
    assert (trial.attempts, [entry.epoch for entry in trial.epochs]) == (2, [2])


def test_trials_stand_in_the_order_of_their_first_start():
    records = [{"event": "sweep"}, start(trial="b"), start(trial="a"), epoch(1, trial="b"), start(2, trial="b")]
    assert list(trials_of(records)) == ["b", "a"]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(["start", "end"]) | st.integers(1, 6), max_size=20))
def test_any_order_of_records_leaves_epochs_in_order(events):
    records = [start()]
    for event in events:
        records.append(start() if event == "start" else end("failed") if event == "end" else epoch(event))
    numbers = [entry.epoch for entry in reduced(*records).epochs]
    assert numbers == sorted(set(numbers))
    reported = [event for event in events if isinstance(event, int)]
    assert not reported or numbers[-1] == reported[-1]


def test_a_ledger_is_lines_of_json(path):
    write(path, [{"text": "größer ☃"}])
    assert json.loads(path.read_text(encoding="utf-8"))["text"] == "größer ☃"
