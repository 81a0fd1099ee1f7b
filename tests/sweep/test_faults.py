"""Faults through the whole path: real Ray, Optuna and MLflow, a trainer that trains nothing."""

import contextlib
import json
import signal
import sqlite3
import time
from pathlib import Path

import optuna
import pytest
from mlflow import MlflowClient
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from msd_sweeps.records import ledger
from msd_sweeps.records import mlflow_store as tracking
from tests.chaos.faults import live
from tests.chaos.lives import ROOT, Fault, Life, References
from tests.sweep.conftest import Run, Workplace, epochs_seen, kill_process

pytestmark = pytest.mark.ray
WEIGHTS = [0.5, 1.0, 1.5, 2.0]
SMALL = ("--num-cpus", "1", "--set", "resources.pack=2")
GRID = """\
base: toy
design: grid
metric: {name: test_top1}
parameters: {method.sample_weight: {choices: [0.5, 1.0, 1.5, 2.0, 2.5, 3.0]}}
seeds: [0]
report: {baseline: null}
"""
SEARCH = """\
base: toy
design: search
search: {num_samples: 4, sampler: random, val_fraction: 0.25}
parameters: {method.sample_weight: {choices: [0.5, 1.0, 1.5, 2.0]}}
confirm: {top_k: 1, seeds: [1]}
"""


def place(folder: Path, **simulated) -> Workplace:
    made = Workplace(folder, None, "tests.chaos.simulated", PYTHONPATH=str(ROOT), SIMULATED=json.dumps(simulated))
    (folder / "search_spaces" / "grid.yaml").write_text(GRID)
    (folder / "search_spaces" / "search.yaml").write_text(SEARCH)
    return made


def with_faults(made: Workplace, **simulated) -> None:
    made.environment["SIMULATED"] = json.dumps(simulated)


def records(run: Run) -> list[ledger.Record]:
    return list(ledger.read(run.folder / ledger.FILE_NAME))


def mlflow_runs(folder: Path) -> list:
    client = MlflowClient(tracking.default_uri(folder.parent))
    return client.search_runs([client.get_experiment_by_name("msd_sweeps").experiment_id])


@pytest.mark.chaos
def test_a_trial_that_fails_is_told_everywhere_and_the_others_go_on(tmp_path):
    kinds = {0.5: "failed", 1.0: "out_of_memory", 1.5: "diverged"}
    faults = [["method.sample_weight", weight, kind] for weight, kind in kinds.items()]
    made = place(tmp_path, faults=faults)
    run = made.run("s", "--space", "search.yaml", *SMALL)
    assert run.code == 0, run.out
    searched = [trial for trial in run.trials.values() if trial.phase == "search"]
    assert {trial.values["method.sample_weight"]: trial.state for trial in searched} == kinds | {2.0: "finished"}
    for trial in searched:
        told = trial.state in ("failed", "out_of_memory")
        assert ("invented" in trial.traceback and "Traceback" in trial.traceback) == told
    confirmed = {trial.label: trial.state for trial in run.trials.values() if trial.phase == "confirm"}
    assert set(confirmed) == {"none", "kd", "winner 1"}
    storage = JournalStorage(JournalFileBackend(str(run.folder / "optuna.journal")))
    study = optuna.load_study(study_name="s", storage=storage)
    # A configuration that the sampler repeats is told again as it ended.
    told_of = {(str(trial.params), trial.state.name) for trial in study.trials}
    assert sorted(state for _, state in told_of) == ["COMPLETE", "FAIL", "FAIL", "FAIL"]
    page = (tmp_path / "reports" / "s" / "report.md").read_text()
    assert "invented trouble" in page
    assert "invented lack of memory" in page
    by_trial = {found.data.tags.get("msd.trial"): found.info.status for found in mlflow_runs(run.folder)}
    assert {by_trial[trial.trial] for trial in searched if trial.state != "finished"} == {"FAILED"}


@pytest.mark.chaos
def test_three_first_trials_that_fail_alike_stop_the_sweep(tmp_path):
    made = place(tmp_path, seconds=0.7, faults=[["method.name", "msd", "failed"]])
    run = made.run("s", "--space", "grid.yaml", "--num-cpus", "1", "--set", "resources.pack=1")
    assert run.code == 1, run.out
    assert "the first 3 trials failed in the same way" in run.out
    assert "RuntimeError: invented trouble" in run.out
    assert "--resume --name s" in run.out
    events = [record["event"] for record in records(run)]
    third = [place for place, event in enumerate(events) if event == "end"][2]
    assert "start" not in events[third:]  # those that were training may fail meanwhile
    states = [trial.state for trial in run.trials.values()]
    assert 3 <= (failed := states.count("failed")) < 6
    assert set(states) <= {"failed", "interrupted"}
    assert records(run)[-1]["outcome"] == "failed"
    with_faults(made)
    again = made.run("s", "--resume", "--num-cpus", "1")
    assert again.code == int(failed > 3), again.out  # more than half
    assert sorted(trial.state for trial in again.trials.values()) == ["failed"] * failed + ["finished"] * (6 - failed)


@pytest.mark.chaos
def test_processes_that_are_killed_cost_an_attempt_and_no_trial(tmp_path):
    """A slot's, and the one that passes a trial's results on. That one starts late: the trials do not wait for it."""
    made = place(tmp_path, seconds=0.7)
    process = made.start("--space", "grid.yaml", "--name", "s", *SMALL, "--set", "recipe.epochs=20")
    made.wait_for("s", epochs_seen(3))
    kill_process("ray::SimulatedSlot", process.pid)
    seen = len(made.wait_for("s", lambda records: any(r.get("attempt", 1) == 2 for r in records)))
    made.wait_for("s", lambda records: len(records) > seen + 3)
    ledger_file, is_seen = tmp_path / "runs" / "s" / ledger.FILE_NAME, False
    while process.poll() is None and not is_seen:  # one that waits for its next trial costs nothing
        with contextlib.suppress(AssertionError):
            kill_process("ray::ResourceTrainable", process.pid)  # as Ray names _TrialActor
        time.sleep(3.0)
        is_seen = "its Tune actor died" in ledger_file.read_text()
    run = made.finish(process, "s")
    assert run.code == 0, run.out
    assert [trial.state for trial in run.trials.values()] == ["finished"] * 6
    assert [len(trial.epochs) for trial in run.trials.values()] == [20] * 6
    attempts = [trial.attempts for trial in run.trials.values()]
    assert max(attempts) >= 2
    assert attempts.count(1) >= 1  # those that came later
    epochs = [(r["trial"], r["epoch"]) for r in records(run) if r["event"] == "epoch"]
    assert len(epochs) - len(set(epochs)) <= sum(attempt - 1 for attempt in attempts)
    assert any(record.get("reason") == "its Tune actor died" for record in records(run))


@pytest.mark.chaos
@pytest.mark.parametrize("whose", ["full", "full_for_driver"])
def test_a_full_disk_stops_the_sweep_and_nothing_is_lost(whose, tmp_path):
    full = tmp_path / "full"
    made = place(tmp_path, seconds=0.3, **{whose: str(full)})
    process = made.start("--space", "grid.yaml", "--name", "s", *SMALL)
    made.wait_for("s", epochs_seen(2))
    full.touch()
    run = made.finish(process, "s")
    assert run.code == 1, run.out
    where = "checkpoints/" if whose == "full" else "ledger.jsonl"
    assert f"s/{where}" in run.out
    assert "bytes could not be written" in run.out
    assert "No space left on device" in run.out
    assert "run the same command again" in run.out
    full.unlink()
    again = made.run("s", "--space", "grid.yaml", *SMALL)
    assert again.code == 0, again.out
    assert [trial.state for trial in again.trials.values()] == ["finished"] * 6
    assert [len(trial.epochs) for trial in again.trials.values()] == [4] * 6


@pytest.mark.chaos
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_ends_the_sweep_in_order(number, tmp_path):
    made = place(tmp_path, seconds=0.5)
    process = made.start("--space", "grid.yaml", "--name", "s", *SMALL)
    made.wait_for("s", epochs_seen(2))
    began = time.monotonic()
    process.send_signal(number)
    run = made.finish(process, "s")
    assert time.monotonic() - began < 30
    assert run.code == 128 + number, run.out
    assert f"stopped by {number.name}" in run.out
    assert "--resume --name s" in run.out
    broken = [trial for trial in run.trials.values() if trial.state == "interrupted"]
    assert broken
    assert {trial.reason for trial in broken} == {number.name}
    assert records(run)[-1]["outcome"] == "interrupted"
    statuses = {found.data.tags.get("msd.trial"): found.info.status for found in mlflow_runs(run.folder)}
    assert {statuses[trial.trial] for trial in broken} == {"KILLED"}
    assert statuses[None] == "KILLED"


@pytest.mark.chaos
def test_a_second_signal_ends_at_once_and_the_sweep_can_be_resumed(tmp_path):
    made = place(tmp_path, seconds=6.0)  # the slot answers late
    process = made.start("--space", "grid.yaml", "--name", "s", *SMALL)
    made.wait_for("s", lambda records: any(record["event"] == "start" for record in records))
    time.sleep(2.0)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    broken = made.finish(process, "s")
    assert broken.code == 128 + signal.SIGTERM
    assert not [record for record in records(broken) if record["event"] in ("end", "close")]  # no orderly end
    with_faults(made)
    again = made.run("s", "--resume", "--num-cpus", "1")
    assert again.code == 0, again.out
    assert [trial.state for trial in again.trials.values()] == ["finished"] * 6


@pytest.mark.chaos
def test_a_password_is_written_nowhere_and_a_store_that_is_down_gets_everything_later(tmp_path):
    made = place(tmp_path)
    made.environment["MLFLOW_TRACKING_URI"] = "http://me:hunter2@127.0.0.1:9"
    run = made.run("s", "--space", "grid.yaml", *SMALL)
    assert run.code == 0, run.out
    assert [trial.state for trial in run.trials.values()] == ["finished"] * 6
    assert "hunter2" not in run.out
    told = [path for path in tmp_path.rglob("*") if path.is_file() and b"hunter2" in path.read_bytes()]
    assert told == []
    del made.environment["MLFLOW_TRACKING_URI"]
    sync(made)
    assert len(mlflow_runs(run.folder)) == len(run.trials) + 1


def sync(made: Workplace) -> None:
    made.module = "msd_sweeps.run"
    synced = made.run("s", "--sync-mlflow")
    assert synced.code == 0, synced.out
    assert "MLflow has every record" in synced.out


@pytest.mark.chaos
def test_a_locked_mlflow_store_delays_nobody_and_gets_everything_later(tmp_path):
    made = place(tmp_path)
    folder = tmp_path / "runs" / "s"
    folder.mkdir(parents=True)
    MlflowClient(tracking.default_uri(folder.parent)).create_experiment("other")
    with contextlib.closing(sqlite3.connect(folder.parent / tracking.DATABASE, isolation_level=None)) as lock:
        lock.execute("BEGIN EXCLUSIVE")
        run = made.run("s", "--space", "grid.yaml", *SMALL)
    assert run.code == 0, run.out
    assert [trial.state for trial in run.trials.values()] == ["finished"] * 6
    assert "run --sync-mlflow --name s" in run.out
    assert run.out.count("takes no records: OperationalError: database is locked") == 1
    sync(made)
    runs = mlflow_runs(folder)
    assert len(runs) == len(run.trials) + 1
    assert {found.info.status for found in runs} == {"FINISHED"}


@pytest.mark.chaos
@pytest.mark.parametrize("name", ["ray::Dispatcher", "raylet/raylet"])
def test_the_end_of_a_process_that_ray_needs_is_told_with_the_command_to_go_on(name, tmp_path):
    made = place(tmp_path, seconds=0.3)
    process = made.start("--space", "grid.yaml", "--name", "s", *SMALL)
    made.wait_for("s", epochs_seen(2))
    kill_process(name, process.pid)
    run = made.finish(process, "s")
    assert run.code == 1, run.out
    assert "To go on" in run.out
    assert "--resume --name s" in run.out
    assert made.run("s", "--resume", "--num-cpus", "1").code == 0


@pytest.mark.chaos
def test_a_life_among_combined_faults_loses_nothing(tmp_path):
    """One life; `make chaos` draws dozens."""
    told = (
        ("kill -9 of the driver", 5),
        ("torn ledger line", 1),
        ("kill -9 of a slot's process", 3),
        ("SIGTERM to the driver", 2),
        ("altered checkpoints", 1),
        ("resumed on fewer cores, or on more", 1),
    )
    life = Life("search with ASHA, packed", False, tuple(Fault(kind, after, 40) for kind, after in told))
    outcome = live(life, tmp_path / "life", References(tmp_path / "references"))
    assert outcome.problems == []
    assert len(outcome.tried) > 3
