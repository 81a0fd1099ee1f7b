"""The command as a user runs it: real Ray, Optuna and MLflow, in processes of its own."""

import contextlib
import re
import signal
from pathlib import Path

import optuna
import pandas
import pytest
import torch
from mlflow import MlflowClient
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from msd_sweeps.distill import teacher
from msd_sweeps.distill.cohort import Cohort
from msd_sweeps.distill.data import loading as data
from msd_sweeps.records import ledger
from msd_sweeps.records import mlflow_store as tracking
from msd_sweeps.records.trial_record import trials_of
from msd_sweeps.space.load import load
from tests.sweep.conftest import Run, Workplace, epochs_seen, kill_process

pytestmark = pytest.mark.ray


def test_a_search_ends_with_confirmed_winners(swept):
    _, run = swept
    assert run.code == 0, run.out
    by_phase: dict[str, list[str]] = {}
    for trial in run.trials.values():
        by_phase.setdefault(trial.phase, []).append(trial.label)
        assert trial.state in ("finished", "stopped"), trial.reason
    assert len(by_phase["search"]) == 4
    assert sorted(by_phase["confirm"]) == ["kd", "none", "winner 1"]


def test_a_search_never_reads_the_test_set_to_choose(swept):
    _, run = swept
    for trial in run.trials.values():
        measured = ["test_top1" in epoch.metrics for epoch in trial.epochs]
        assert not any(measured[:-1])
        assert measured[-1] == (trial.state == "finished")
        assert (trial.config["data"]["val_fraction"] > 0) == (trial.phase == "search")


def test_every_number_of_the_table_is_in_the_ledger(swept):
    place, run = swept
    table = pandas.read_csv(place.folder / "reports" / "toy" / "table.csv")
    assert {"none", "kd", "winner 1"} <= set(table.iloc[:, 0])
    scores = {trial.label: trial.metrics["test_top1"] for trial in run.trials.values() if trial.phase == "confirm"}
    for label, score in scores.items():
        row = table[table.iloc[:, 0] == label].iloc[0]
        assert any(abs(float(value) - score) < 0.01 for value in row if _is_number(value)), (label, score, row)
        assert f"{score:.2f}" in run.out


@pytest.mark.slow
def test_the_command_ends_with_the_page_and_lists_it(swept):
    place, run = swept
    name, page = run.out.strip().splitlines()[-1].split()
    assert name == "report"
    assert (place.folder / page).read_text().startswith("<!DOCTYPE html>")
    assert "[toy](toy/report.md)" in (place.folder / "reports" / "README.md").read_text()


def _is_number(value: object) -> bool:
    try:
        float(str(value))
    except ValueError:
        return False
    return True


def test_mlflow_holds_one_run_per_trial(swept):
    _, run = swept
    client = MlflowClient(tracking.default_uri(run.folder.parent))
    runs = client.search_runs([client.get_experiment_by_name("msd_sweeps").experiment_id])
    nested = {found.data.tags["msd.trial"]: found for found in runs if "msd.trial" in found.data.tags}
    assert set(nested) == set(run.trials)
    assert len(runs) == len(nested) + 1
    for name, trial in run.trials.items():
        history = sorted(client.get_metric_history(nested[name].info.run_id, "train_loss"), key=lambda p: p.step)
        assert [point.value for point in history] == [epoch.metrics["train_loss"] for epoch in trial.epochs]
        assert nested[name].info.status == "FINISHED"


def test_optuna_is_told_what_the_ledger_says(swept):
    _, run = swept
    study = optuna.load_study(
        study_name="toy", storage=JournalStorage(JournalFileBackend(str(run.folder / "optuna.journal")))
    )
    told = {"COMPLETE": "finished", "PRUNED": "stopped"}
    searched = [trial for trial in run.trials.values() if trial.phase == "search"]
    assert sorted((told[trial.state.name], trial.value) for trial in study.trials) == sorted(
        (trial.state, trial.metrics["val_top1"]) for trial in searched
    )


def test_the_second_run_trains_nothing(swept):
    place, run = swept
    before = (run.folder / "ledger.jsonl").read_bytes()
    again = place.run("toy", "--space", "search.yaml")
    assert again.code == 0
    assert "nothing was trained" in again.out
    assert (run.folder / "ledger.jsonl").read_bytes() == before


def test_a_trial_whose_end_was_not_recorded_any_more_is_not_trained_again(swept, tmp_path):
    """The driver is killed between the record of the last epoch and that of the end, of the last trial of all."""
    before, run = swept
    place = Workplace(tmp_path, before.folder / "runs" / "teachers")
    path = place.folder / "runs" / "toy" / ledger.FILE_NAME
    path.parent.mkdir()
    lines = (run.folder / ledger.FILE_NAME).read_text().splitlines(keepends=True)
    last = max(number for number, line in enumerate(lines) if '"event":"end"' in line)
    path.write_text("".join(lines[:last]))
    assert [trial.state for trial in trials_of(ledger.read(path)).values()].count("running") == 1
    again = place.run("toy", "--space", "search.yaml")
    assert again.code == 0, again.out
    assert again.numbers == run.numbers
    states = [{name: (t.state, t.attempts) for name, t in one.trials.items()} for one in (again, run)]
    assert states[0] == states[1]


def test_another_space_under_a_taken_name_is_refused_with_the_difference(swept):
    place, run = swept
    before = (run.folder / "ledger.jsonl").read_bytes()
    refused = place.run("toy", "--space", "search.yaml", "--set", "recipe.lr=0.2")
    assert refused.code == 2
    assert "base.recipe.lr: 0.1 there, 0.2 here" in refused.out
    assert (run.folder / "ledger.jsonl").read_bytes() == before


_ALONE = ("--set", "resources.pack=1")
"""A trial that joins a cohort late reads later epochs of the stream; one that is alone begins with the first."""


Numbers = dict[str, list[dict[str, float]]]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory, toy_teachers) -> Numbers:
    """The toy grid without Ray: each trial alone in a cohort, with one thread, because threads change sums."""
    place = Workplace(tmp_path_factory.mktemp("reference"), toy_teachers)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    numbers: Numbers = {}
    with contextlib.chdir(place.folder):
        for planned in load("grid").fixed_trials:
            trial, device = planned.trial, torch.device("cpu")
            weights = teacher.prepare(trial, place.folder / "runs" / "teachers", device).weights
            cohort = Cohort(trial, teacher.load(trial, weights), data.load(trial.data), device)
            cohort.admit(trial)
            epochs = [result.metrics for results in cohort.epochs() for result in results]
            numbers[trial.id] = [{k: v for k, v in e.items() if not k.endswith("_seconds")} for e in epochs]
    torch.set_num_threads(threads)
    return numbers


@pytest.mark.slow
def test_an_interrupted_sweep_goes_on_with_the_same_numbers(workplace, reference):
    process = workplace.start("--space", "grid.yaml", "--name", "grid", "--num-cpus", "1", *_ALONE)
    workplace.wait_for("grid", epochs_seen(3))
    process.send_signal(signal.SIGINT)
    stopped = workplace.finish(process, "grid")
    assert stopped.code == 130, stopped.out
    assert "--resume --name grid" in stopped.out
    assert any(trial.state == "interrupted" for trial in stopped.trials.values())
    ended = sum(trial.state == "finished" for trial in stopped.trials.values())
    resumed = workplace.run("grid", "--resume", "--num-cpus", "1")
    assert resumed.code == 0, resumed.out
    assert f"goes on: {ended} of 4 trials have ended, about " in resumed.out
    assert " ms a step" in resumed.out.split("\nweights ")[0]
    assert [trial.state for trial in resumed.trials.values()] == ["finished"] * 4
    assert resumed.numbers == reference


@pytest.mark.slow
def test_three_cpus_and_two_slots_give_the_same_numbers(workplace, reference):
    """Packing, slots and CPUs change nothing but speed."""
    run = workplace.run(
        "grid",
        "--space",
        "grid.yaml",
        "--num-cpus",
        "3",
        "--set",
        "resources.slots=2",
        "--set",
        "resources.cpus_per_worker=1",
    )
    assert run.code == 0, run.out
    assert run.numbers == reference
    assert {epoch.slot for trial in run.trials.values() for epoch in trial.epochs} == {0, 1}


@pytest.mark.slow
def test_a_killed_driver_and_a_killed_worker_lose_nothing(workplace, reference):
    process = workplace.start("--space", "grid.yaml", "--name", "grid", "--num-cpus", "1", *_ALONE)
    workplace.wait_for("grid", epochs_seen(2))
    kill_process("ray::RayTrainWorker", process.pid)
    records = workplace.wait_for("grid", lambda records: any(r.get("attempt", 1) > 1 for r in records))
    assert any(record["event"] == "start" and record["attempt"] == 2 for record in records)
    process.kill()
    workplace.finish(process, "grid")
    resumed = workplace.run("grid", "--space", "grid.yaml", "--num-cpus", "1", *_ALONE)
    assert resumed.code == 0, resumed.out
    assert resumed.numbers == reference


@pytest.mark.slow
def test_a_search_that_is_interrupted_twice_is_the_same_search(workplace, swept):
    for epochs, number in ((3, signal.SIGKILL), (9, signal.SIGINT)):
        process = workplace.start("--space", "search.yaml", "--name", "toy")
        workplace.wait_for("toy", epochs_seen(epochs))
        process.send_signal(number)
        workplace.finish(process, "toy")
    again, (_, whole) = workplace.run("toy", "--space", "search.yaml"), swept
    assert again.code == 0, again.out

    def told(run: Run) -> list[tuple]:
        return [(t.number, t.trial, t.label, t.state, t.values, run.numbers[t.trial]) for t in run.trials.values()]

    assert told(again) == told(whole)


@pytest.mark.slow
def test_added_seeds_train_only_what_is_new(workplace, reference):
    run = workplace.run("grid", "--space", "grid.yaml", "--num-cpus", "1", *_ALONE)
    assert run.numbers == reference
    grown = workplace.run("grid", "--add-seeds", "1", "--num-cpus", "1")
    assert grown.code == 0, grown.out
    assert sorted(trial.seed for trial in grown.trials.values()) == [0, 0, 1, 1, 2, 2]
    assert {name: grown.numbers[name] for name in reference} == reference
    assert "2 trials trained" in grown.out
    table = pandas.read_csv(workplace.folder / "reports" / "grid" / "table.csv")
    assert set(table.loc[table["label"].isin(["method=kd", "method=msd"]), "n"]) == {3}
    for again in (["--resume"], ["--space", "grid.yaml"]):  # the file still says two seeds
        run = workplace.run("grid", *again)
        assert "nothing was trained" in run.out
        assert run.trials.keys() == grown.trials.keys()


@pytest.mark.slow
def test_two_data_parallel_workers(workplace):
    run = workplace.run(
        "grid",
        "--space",
        "grid.yaml",
        "--set",
        "resources.num_workers=2",
        "--set",
        "resources.cpus_per_worker=1",
        "--set",
        "seeds=[0]",
        "--num-cpus",
        "2",
    )
    assert run.code == 0, run.out
    assert [trial.state for trial in run.trials.values()] == ["finished"] * 2
    assert re.search(r"1 slot of 2 workers x 1 CPU", run.out)


@pytest.mark.slow
@pytest.mark.slow
def test_another_sweep_of_the_store_takes_over_what_is_finished(swept):
    place, run = swept
    again = place.run("again", "--space", "search.yaml")
    assert again.code == 0, again.out
    finished = {name for name, trial in run.trials.items() if trial.state == "finished"}
    taken = {name for name, trial in again.trials.items() if trial.source}
    assert taken == finished & set(again.trials)
    assert {trial.phase for name, trial in again.trials.items() if name in taken} == {"search", "confirm"}
    assert {again.trials[name].source for name in taken} == {"toy"}
    assert "taken over from the sweep 'toy', after 4 of 4 epochs" in again.out
    numbers = run.numbers
    assert {name: again.numbers[name] for name in taken} == {name: numbers[name] for name in taken}
    trials = pandas.read_parquet(place.folder / "reports" / "again" / "trials.parquet")
    assert set(trials.loc[trials["source"] == "toy", "trial"]) == taken
    page = (place.folder / "reports" / "again" / "report.md").read_text()
    assert "taken over from the sweep toy, not trained again" in page
    assert "Taken over from toy" in page


@pytest.mark.slow
def test_fresh_trains_what_another_sweep_has_finished(tmp_path):
    place = Workplace(tmp_path, None, "tests.chaos.simulated", PYTHONPATH=str(Path(__file__).parents[2]))
    first, taken, fresh = (
        place.run(name, "--space", "grid.yaml", *more) for name, *more in (("first",), ("taken",), ("fresh", "--fresh"))
    )
    assert [run.code for run in (first, taken, fresh)] == [0, 0, 0], taken.out
    sources = [{trial.source for trial in run.trials.values()} for run in (first, taken, fresh)]
    assert sources == [{""}, {"first"}, {""}]
    assert "0 trials trained, 4 taken over" in taken.out
    assert taken.numbers == first.numbers
    assert not (taken.folder / "ray").exists()  # it needed nobody to train
