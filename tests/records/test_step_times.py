"""Step times of a pair are kept for later plans; a damaged file of them counts as none."""

import json

import pytest

from msd_sweeps.records.step_times import record_step_seconds, recorded_start_seconds, recorded_step_seconds
from msd_sweeps.records.trial_record import EpochResult, TrialRecord
from msd_sweeps.space.load import load


def record(sweep, *step_seconds: float | None) -> TrialRecord:
    trial = sweep.base
    epochs = [
        EpochResult(trial.id, "running", epoch, epoch, 1.0, {} if seconds is None else {"step_seconds": seconds})
        for epoch, seconds in enumerate(step_seconds, 1)
    ]
    config = trial.model_dump(mode="json")
    return TrialRecord(trial.id, trial.cell, "", "design", 0, trial.seed, config, epochs=epochs)


def test_step_times_are_kept_by_pair(tmp_path):
    ours, theirs = load("scales"), load("scales", base="cifar100_resnet56_resnet20")
    assert recorded_step_seconds(tmp_path, ours.base) is None
    record_step_seconds(tmp_path, [record(ours, 0.1, 0.2, 0.9), record(ours, 0.2, None), record(theirs, 3.0)])
    assert recorded_step_seconds(tmp_path, ours.base) == 0.2
    assert recorded_step_seconds(tmp_path, theirs.base) == 3.0
    record_step_seconds(tmp_path, [record(ours, 0.5)])  # the other pair's time stays
    assert recorded_step_seconds(tmp_path, ours.base) == 0.5
    assert recorded_step_seconds(tmp_path, theirs.base) == 3.0
    record_step_seconds(tmp_path, [record(ours)])
    assert recorded_step_seconds(tmp_path, ours.base) == 0.5


def test_the_start_up_is_kept_until_it_is_measured_again(tmp_path):
    base = load("scales")
    assert recorded_start_seconds(tmp_path) is None
    record_step_seconds(tmp_path, [record(base, 0.1)], 50.0)
    record_step_seconds(tmp_path, [record(base, 0.2)])
    assert recorded_start_seconds(tmp_path) == 50.0
    assert recorded_step_seconds(tmp_path, base.base) == 0.2


def test_a_store_that_takes_no_times_stops_nothing(tmp_path):
    (tmp_path / "timings.json").mkdir()
    record_step_seconds(tmp_path, [record(load("scales"), 0.25)])
    assert recorded_step_seconds(tmp_path, load("scales").base) is None


@pytest.mark.parametrize("content", ["", "{", "[]", "3", '{"a": "b"}'])
def test_damaged_times_are_no_times(tmp_path, content):
    sweep = load("scales")
    (tmp_path / "timings.json").write_text(content)
    assert recorded_step_seconds(tmp_path, sweep.base) is None
    record_step_seconds(tmp_path, [record(sweep, 0.25)])
    assert recorded_step_seconds(tmp_path, sweep.base) == 0.25
    assert all(isinstance(time, float) for time in json.loads((tmp_path / "timings.json").read_text()).values())
