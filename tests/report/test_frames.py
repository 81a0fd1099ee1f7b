"""Frames say what the ledger says, whatever happened to a trial, and load by name, folder or file."""

import json
import re
import tempfile
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msd_sweeps.records import ledger
from msd_sweeps.records.trial_record import TrialRecord, trials_of
from msd_sweeps.report import frames, loading
from msd_sweeps.space.load import load
from tests.synthetic_ledger import Recipe, every_third_stopped, make_sweep, records, write

LAUNCH = next(records(make_sweep("leave_one_out")))
CONFIG = make_sweep("leave_one_out").base.model_dump(mode="json")


def start(trial, attempt=1, seed=0):
    planned = TrialRecord(trial, "c" + trial, "", "design", 0, seed, {**CONFIG, "seed": seed})
    return {"event": "start", "time": 1.0, "attempt": attempt, **planned.start_fields()}


def epoch(trial, number, **metrics):
    return {
        "event": "epoch",
        "time": 2.0,
        "trial": trial,
        "attempt": 1,
        "epoch": number,
        "round": number + 3,
        "more": 0,
        "slot": 0,
        "seconds": 0.5 + number,
        "metrics": metrics,
    }


@st.composite
def histories(draw):
    """Records of a few trials that interleave, go back to checkpoints, and end in every state or none."""
    every, reached = [], {}
    for _ in range(draw(st.integers(0, 40))):
        trial = draw(st.sampled_from("abc"))
        event = draw(st.sampled_from(["start", "epoch", "epoch", "epoch", "end"]))
        if event == "start":
            every.append(start(trial, attempt=draw(st.integers(1, 3))))
            reached.setdefault(trial, 0)
        elif event == "epoch":
            number = draw(st.integers(1, reached.get(trial, 0) + 1))
            metrics = draw(st.dictionaries(st.sampled_from(["train_loss", "val_top1", "epoch"]), st.floats(-5, 5)))
            every.append(epoch(trial, number, **metrics))
            if trial in reached:
                reached[trial] = number
        else:
            state = draw(st.sampled_from(["finished", "stopped", "failed", "interrupted"]))
            every.append({"event": "end", "time": 3.0, "trial": trial, "attempt": 1, "state": state, "reason": "why"})
    return every


@settings(max_examples=60, deadline=None)
@given(histories())
def test_frames_agree_with_the_ledgers_own_reduction(every):
    with tempfile.TemporaryDirectory() as folder:
        found = frames.read(write(Path(folder), [LAUNCH, *every]))
    expected = trials_of(every)
    assert found.trials["trial"].tolist() == list(expected)
    for row in found.trials.to_dict("records"):
        trial = expected[row["trial"]]
        assert (row["state"], row["reason"], row["attempts"]) == (trial.state, trial.reason, trial.attempts)
        assert row["seconds"] == pytest.approx(sum(epoch.seconds for epoch in trial.epochs))
        mine = found.history[found.history["trial"] == row["trial"]]
        assert mine["epoch"].tolist() == [item.epoch for item in trial.epochs]
        assert mine["seconds"].tolist() == [item.seconds for item in trial.epochs]
        for name, value in trial.metrics.items():
            assert row["metric_epoch" if name == "epoch" else name] == value


def test_every_metric_and_setting_of_a_ledger_is_there(tmp_path):
    sweep = make_sweep("search")
    path = write(tmp_path / "search", records(sweep, Recipe(stop=every_third_stopped)))
    found = loading.load("search", storage=tmp_path)
    raw = [record for record in ledger.read(path) if record["event"] == "epoch"]
    assert len(found.history) == len(raw)
    assert sorted(found.history["val_top1"].dropna()) == sorted(
        record["metrics"]["val_top1"] for record in raw if "val_top1" in record["metrics"]
    )
    assert set(found.trials["state"]) == {"finished", "stopped"}
    assert found.trials.loc[found.trials["state"] == "stopped", "test_top1"].isna().all()
    for scales, trial in zip(found.trials["method.scales"], found.trials["trial"], strict=True):
        assert pd.isna(scales) or json.loads(scales) == found.records[trial].config["method"]["scales"]
    assert (found.sweep.name, found.device) == ("search", "cpu")
    assert found.sweep.space == sweep.space
    assert found.sweep.base == sweep.base


def test_load_finds_a_sweep_by_name_folder_and_file(tmp_path):
    path = write(tmp_path / "one", records(make_sweep("leave_one_out")))
    first = loading.load("one", storage=tmp_path).trials
    pd.testing.assert_frame_equal(first, loading.load(tmp_path / "one").trials)
    pd.testing.assert_frame_equal(first, loading.load(str(path)).trials)
    with pytest.raises(ledger.LedgerError, match="two"):
        loading.load("two", storage=tmp_path)


def test_numbers_without_end_are_missing_and_a_sweep_without_trials_is_empty(tmp_path):
    path = write(tmp_path, [LAUNCH, start("a"), epoch("a", 1, train_loss=None, val_top1=3.5)])
    found = frames.read(path)
    assert found.trials["val_top1"].tolist() == [3.5]
    assert "train_loss" not in found.history.columns
    empty = frames.read(write(tmp_path / "empty", [LAUNCH]))
    assert len(empty.trials) == len(empty.history) == 0
    assert {"trial", "label", "state"} <= set(empty.trials.columns)


def test_a_ledger_without_a_launch_is_refused(tmp_path):
    with pytest.raises(ledger.LedgerError, match="stopped before it began"):
        frames.read(write(tmp_path, []))


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, 2], "int64"),
        ([1, None], "Int64"),
        ([1, 2.5, None], "float64"),
        ([True, False], "bool"),
        ([1, "auto"], "str"),
        ([[1, 2], None], "str"),
        ([None], "str"),
        ([2**80, 1], "str"),
    ],
)
def test_a_column_has_one_type_that_parquet_can_hold(values, kind):
    assert pd.Series(frames.column_of(values)).dtype == kind


def test_the_example_of_the_readme_runs_as_it_stands(tmp_path, monkeypatch, capsys):
    readme = Path(__file__).resolve().parents[2] / "README.md"
    example = re.search(r"## In Python.*?msd_sweeps.load.*?```python\n(.*?)```", readme.read_text(), re.DOTALL).group(1)
    write(tmp_path / "runs" / "scales", records(load("scales"), Recipe(stop=every_third_stopped)))
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(example, names)
    told = capsys.readouterr().out
    for words in ("winner 1 of msd Interval(mean=", "kd Interval(mean=", "stopped", "method.sample_weight", "epoch"):
        assert words in told
    assert len(names["curves"]) == 12 * len(names["best"])
