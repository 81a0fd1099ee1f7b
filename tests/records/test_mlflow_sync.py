"""The MLflow mirror, against the real MLflow on SQLite: everything arrives once, and nobody waits for it."""

import json
import random
import threading
import time
from functools import partial, partialmethod
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException, RestException

from msd_sweeps.records import ledger
from msd_sweeps.records.mlflow_store import DATABASE, choose_uri, default_uri, how_to_open
from msd_sweeps.records.mlflow_sync import Mirror, is_synced
from msd_sweeps.space.load import load_base
from msd_sweeps.space.secrets import without_secrets

PAUSES = (0.01, 0.02)
BASE = load_base("digits")
ENDS = {
    "finished": "FINISHED",
    "stopped": "FINISHED",
    "interrupted": "KILLED",
    "failed": "FAILED",
    "diverged": "FAILED",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """One store for all tests: making a database takes seconds."""
    return tmp_path_factory.mktemp("mlflow")


@pytest.fixture
def name(request) -> str:
    return request.node.name.replace("[", "-").rstrip("]")[:90]


@pytest.fixture(autouse=True)
def _own_store(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def sweep() -> dict:
    return {
        "event": "sweep",
        "time": 1.7e9,
        "commit": "abc",
        "host": "here",
        "device": "cpu",
        "space": {"a": 1},
        "base": {},
    }


def start(trial: str, attempt: int = 1) -> dict:
    return {
        "event": "start",
        "time": 1.7e9,
        "trial": trial,
        "attempt": attempt,
        "cell": "c",
        "label": f"cell of {trial}",
        "phase": "design",
        "number": 3,
        "seed": 0,
        "config": BASE.model_dump(mode="json"),
        "levels": [],
        "search_trial": "",
        "more": 0,
    }


def epoch(trial: str, number: int, score: float | None = 1.0) -> dict:
    return {
        "event": "epoch",
        "time": 1.7e9 + number,
        "trial": trial,
        "attempt": 1,
        "epoch": number,
        "round": 1,
        "more": 0,
        "slot": 0,
        "seconds": 0.5,
        "metrics": {"val_top1": score, "train_loss": 1 / number},
    }


def end(trial: str, state: str) -> dict:
    return {"event": "end", "time": 1.7e9 + 9, "trial": trial, "attempt": 1, "state": state, "reason": "because of it"}


def close(outcome: str = "complete") -> dict:
    return {"event": "close", "time": 1.7e9 + 10, "outcome": outcome, "seconds": 10.0}


def teacher() -> dict:
    return {"event": "teacher", "time": 1.7e9, "model": "resnet20", "test_top1": 98.5}


def story() -> list[dict]:
    """A sweep of one trial for each way to end."""
    records = [sweep(), teacher()]
    for state in ENDS:
        records += [
            start(state),
            epoch(state, 1),
            epoch(state, 2, None if state == "diverged" else 2.0),
            end(state, state),
        ]
    return [*records, close()]


def send(folder: Path, name: str, records: list[dict], timeout: float = 30.0) -> int:
    """Send what a ledger has; the store is that in `folder`."""
    return mirror_of(folder, name, records).close(timeout)


def mirror_of(folder: Path, name: str, records: list[dict], uri: str | None = None) -> Mirror:
    path = folder / name / ledger.FILE_NAME
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"".join(map(ledger.encode, records)))
    return Mirror(uri or default_uri(folder), "tests", name, folder / name, len(records), pauses_seconds=PAUSES)


def runs_of(folder: Path, name: str) -> list:
    client = MlflowClient(default_uri(folder))
    experiment = client.get_experiment_by_name("tests")
    return client.search_runs([experiment.experiment_id], filter_string=f"tags.`msd.sweep` = '{name}'")


def shown(folder: Path, name: str) -> list[tuple]:
    """All that the store holds of a sweep, in an order of its own."""
    client = MlflowClient(default_uri(folder))
    return sorted(
        (
            run.info.run_id,
            run.info.status,
            run.info.start_time if "msd.trial" in run.data.tags else 0,
            json.dumps(run.data.params, sort_keys=True),
            json.dumps(run.data.tags, sort_keys=True),
            *(
                (
                    metric,
                    tuple((point.step, point.value) for point in client.get_metric_history(run.info.run_id, metric)),
                )
                for metric in sorted(run.data.metrics)
            ),
        )
        for run in runs_of(folder, name)
    )


def test_every_trial_is_a_run_below_the_sweeps_own(folder, name):
    assert send(folder, name, story()) == 0
    runs = runs_of(folder, name)
    (parent,) = [run for run in runs if "msd.trial" not in run.data.tags]
    children = {run.data.tags["msd.trial"]: run for run in runs if run is not parent}
    assert set(children) == set(ENDS)
    assert {run.data.tags["mlflow.parentRunId"] for run in children.values()} == {parent.info.run_id}
    assert {state: run.info.status for state, run in children.items()} == ENDS
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics == {"teacher_test_top1_resnet20": 98.5}
    run = children["finished"]
    assert run.info.run_name == "cell of finished 3"
    assert run.data.params["method.scales"] == "[1, 2, 4]"
    assert run.data.params["recipe.lr"] == "0.03"
    assert run.data.tags["msd.reason"] == "because of it"
    assert run.data.metrics == {"val_top1": 2.0, "train_loss": 0.5, "epoch": 2.0, "seconds": 0.5, "slot": 0.0}
    assert "val_top1" in children["diverged"].data.metrics  # the first epoch's; the second had none
    history = MlflowClient(default_uri(folder)).get_metric_history(run.info.run_id, "val_top1")
    assert [(point.step, point.value) for point in history] == [(1, 1.0), (2, 2.0)]
    # All sent again, by another process: nothing changes.
    before = shown(folder, name)
    assert send(folder, name, story()) == 0
    assert shown(folder, name) == before


def test_a_resumed_sweep_goes_on_in_its_runs(folder, name):
    first = [sweep(), start("a"), epoch("a", 1), end("a", "interrupted"), close("interrupted")]
    assert send(folder, name, first) == 0
    assert {run.info.status for run in runs_of(folder, name)} == {"KILLED"}
    records = [*first, sweep(), start("a", 2), epoch("a", 1), epoch("a", 2), end("a", "finished"), close()]
    assert send(folder, name, records) == 0
    runs = runs_of(folder, name)
    assert len(runs) == 2
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert max(run.data.metrics.get("epoch", 0) for run in runs) == 2
    before = shown(folder, name)
    assert send(folder, name, records) == 0
    assert shown(folder, name) == before


@pytest.mark.parametrize(("records", "status"), [([], "KILLED"), ([close("failed")], "FAILED")])
def test_the_sweeps_run_says_how_the_sweep_ended(records, status, folder, name):
    assert send(folder, name, [sweep(), *records]) == 0
    assert [run.info.status for run in runs_of(folder, name)] == [status]


class Flaky:
    """Makes a method of the client fail, before or after the store has done what it was asked for."""

    def __init__(self, monkeypatch, method: str, errors: list[Exception], after: bool = False):
        self.errors, self.after, self.calls = errors, after, 0
        self.inner = getattr(MlflowClient, method)
        monkeypatch.setattr(MlflowClient, method, lambda *a, **k: self(*a, **k))

    def __call__(self, *arguments, **options):
        self.calls += 1
        if not self.errors:
            return self.inner(*arguments, **options)
        if self.after:
            self.inner(*arguments, **options)
        raise self.errors.pop(0)


@pytest.mark.parametrize("after", [False, True], ids=["request lost", "answer lost"])
@pytest.mark.parametrize("method", ["create_run", "log_batch", "set_terminated", "search_runs"])
def test_what_a_broken_connection_left_is_sent_again_and_not_doubled(method, after, folder, name, monkeypatch):
    flaky = Flaky(monkeypatch, method, [ConnectionError("reset"), MlflowException("oops")], after)
    assert send(folder, name, [sweep(), start("a"), epoch("a", 1), end("a", "finished"), close()]) == 0
    assert flaky.errors == []
    runs = runs_of(folder, name)
    assert sorted(run.data.tags.get("msd.trial", "") for run in runs) == ["", "a"]
    child = next(run for run in runs if "msd.trial" in run.data.tags)
    assert (child.info.status, child.data.metrics["epoch"]) == ("FINISHED", 1.0)
    assert child.data.params["student.model"] == "resnet8"


def test_a_store_that_comes_up_late_gets_everything_and_nobody_waits(folder, name, monkeypatch):
    up, tried = threading.Event(), threading.Event()
    find = MlflowClient.get_experiment_by_name

    def down_at_first(*arguments, **options):
        tried.set()
        if not up.is_set():
            raise ConnectionError("nobody there")
        return find(*arguments, **options)

    monkeypatch.setattr(MlflowClient, "get_experiment_by_name", down_at_first)
    mirror = mirror_of(folder, name, [sweep(), start("a"), *[epoch("a", 1)] * 5000])
    assert tried.wait(10)
    assert mirror.sent == 0
    assert mirror.trouble is None or "nobody there" in mirror.trouble
    up.set()
    assert mirror.close(30) == 0
    assert mirror.trouble is None
    assert len(runs_of(folder, name)) == 2


def test_a_store_that_stays_away_costs_no_more_than_the_time_given(folder, name, monkeypatch):
    Flaky(monkeypatch, "get_experiment_by_name", [ConnectionError("at http://me:secret@host")] * 10**5)
    mirror = mirror_of(folder, name, story(), "http://me:secret@host")
    assert mirror.close(0.3) == len(story())
    assert "secret" not in str(mirror.trouble)
    assert not is_synced(folder / name, len(story()), default_uri(folder))


def test_a_store_that_answers_slowly_holds_nobody_up_and_is_waited_for_while_it_takes(folder, name, monkeypatch):
    inner = MlflowClient.log_batch

    def slow(*arguments, **options):
        time.sleep(0.2)
        return inner(*arguments, **options)

    send(folder, name, [sweep()])  # the database and the run are there
    monkeypatch.setattr(MlflowClient, "log_batch", slow)
    records = [sweep(), start("a"), *(epoch("a", number) for number in range(1, 11)), end("a", "finished"), close()]
    opened = ledger.Ledger(folder / name / "grown" / ledger.FILE_NAME)
    mirror = Mirror(default_uri(folder), "tests", name, opened.path.parent)
    began = time.perf_counter()
    for record in records:
        opened.append(**{key: value for key, value in record.items() if key != "time"})
        mirror.more()
    assert time.perf_counter() - began < 1.5  # the store takes two seconds for them
    opened.close()
    assert mirror.close(1.0, while_it_takes=True) == 0
    (child,) = [run for run in runs_of(folder, name) if "msd.trial" in run.data.tags]
    assert child.data.metrics["epoch"] == 10


def test_one_record_that_is_refused_does_not_hold_up_the_others(folder, name, monkeypatch):
    refusal = RestException({"error_code": "INVALID_PARAMETER_VALUE", "message": "too long"})

    def picky(inner, *arguments, **options):
        if "msd.reason" in f"{arguments} {options}":
            raise refusal
        return inner(*arguments, **options)

    for method in ("log_batch", "create_run"):
        monkeypatch.setattr(MlflowClient, method, partialmethod(partial(picky, getattr(MlflowClient, method))))
    records = [sweep(), start("a"), end("a", "failed"), start("b"), epoch("b", 1), close()]
    assert send(folder, name, records) == 1
    assert {run.data.tags.get("msd.trial") for run in runs_of(folder, name)} == {None, "a", "b"}
    assert not is_synced(folder / name, len(records), default_uri(folder))


def test_what_has_gathered_goes_in_one_call_a_run(folder, name, monkeypatch):
    flaky = Flaky(monkeypatch, "log_batch", [])
    epochs = [epoch(trial, number) for number in range(1, 101) for trial in "ab"]
    records = [sweep(), start("a"), start("b"), *epochs, end("a", "finished"), end("b", "finished"), close()]
    assert send(folder, name, records) == 0
    assert flaky.calls <= 4  # of the parent and of two trials; one more where the first record went alone
    client = MlflowClient(default_uri(folder))
    for run in runs_of(folder, name):
        if "msd.trial" in run.data.tags:
            history = client.get_metric_history(run.info.run_id, "train_loss")
            assert sorted(point.step for point in history) == list(range(1, 101))
            assert run.data.params["student.model"] == "resnet8"


def test_more_than_one_call_takes_is_split_and_whole(folder, name):
    records = [sweep(), start("a"), *(epoch("a", number) for number in range(1, 701)), end("a", "finished"), close()]
    assert send(folder, name, records) == 0  # 1,400 metrics
    (child,) = [run for run in runs_of(folder, name) if "msd.trial" in run.data.tags]
    for metric in ("val_top1", "train_loss"):
        assert len(MlflowClient(default_uri(folder)).get_metric_history(child.info.run_id, metric)) == 700


def test_two_sweeps_of_one_name_on_one_store_stay_two(tmp_path, folder):
    """Two people's: the same name, the same trials, other numbers."""
    for person, score in (("ann", 10.0), ("bob", 90.0)):
        records = [sweep(), start("a"), epoch("a", 1, score), end("a", "finished"), close()]
        path = tmp_path / person / "scales" / ledger.FILE_NAME
        path.parent.mkdir(parents=True)
        path.write_bytes(b"".join(map(ledger.encode, records)))
        key = "a1" if person == "ann" else "b2"
        mirror = Mirror(default_uri(folder), "tests", "scales", path.parent, len(records), key, pauses_seconds=PAUSES)
        assert mirror.close(30) == 0
    runs = runs_of(folder, "scales")
    assert sorted(run.data.metrics["val_top1"] for run in runs if "msd.trial" in run.data.tags) == [10.0, 90.0]
    assert len(runs) == 4
    assert len({run.data.tags["mlflow.parentRunId"] for run in runs if "msd.trial" in run.data.tags}) == 2


def test_the_sweeps_run_has_the_spaces_main_settings_and_no_address(folder, name):
    space = {"design": "grid", "parameters": {"method.scales": {"choices": {"ä=1 → 2": {}}}}, "seeds": [0, 1]}
    space["tracking"] = {"uri": "http://h", "experiment": "x"}
    first = sweep() | {"space": space, "base": BASE.model_dump(mode="json")}
    later = first | {"space": space | {"seeds": [0, 1, 2]}}
    assert send(folder, name, [first, close(), later, close()]) == 0
    (parent,) = runs_of(folder, name)
    assert parent.data.params["design"] == "grid"
    assert "choices" in parent.data.params["parameters.method.scales"]
    assert parent.data.params["base.student.model"] == "resnet8"
    assert parent.data.tags["msd.seeds"] == "[0, 1, 2]"
    assert not [key for key in parent.data.params if "tracking" in key]


def test_records_of_a_trial_whose_start_was_lost_are_passed_over(folder, name):
    assert (
        send(folder, name, [sweep(), epoch("a", 1), end("a", "finished"), {"event": "data", "time": 1.7e9}, close()])
        == 0
    )
    assert len(runs_of(folder, name)) == 1


def test_a_deleted_experiment_comes_back(folder, name):
    client = MlflowClient(default_uri(folder))
    if client.get_experiment_by_name("tests") is None:
        client.create_experiment("tests")
    client.delete_experiment(client.get_experiment_by_name("tests").experiment_id)
    assert send(folder, name, [sweep(), close()]) == 0
    assert len(runs_of(folder, name)) == 1


def test_synced_is_of_this_store_and_of_so_many_records(tmp_path, folder, name):
    records = [sweep(), close()]
    uri = default_uri(folder)
    assert not is_synced(folder / name, len(records), "sqlite:///another.db")
    assert send(folder, name, records) == 0
    assert is_synced(folder / name, len(records), uri)
    assert not is_synced(folder / name, len(records) + 1, uri)
    assert not is_synced(folder / name, len(records), "sqlite:///another.db")
    assert not is_synced(tmp_path, len(records), uri)
    (tmp_path / "mlflow.synced").write_bytes(b"\xff")
    assert not is_synced(tmp_path, 2, uri)


def test_a_mirror_sends_what_a_ledger_gets_while_it_grows(folder, name):
    opened = ledger.Ledger(folder / name / ledger.FILE_NAME)
    mirror = Mirror(default_uri(folder), "tests", name, folder / name, pauses_seconds=PAUSES)
    for record in story():
        opened.append(**{key: value for key, value in record.items() if key != "time"})
        mirror.more()
        if record["event"] == "teacher":
            wait_until(lambda: mirror.sent == 2)
    opened.close()
    assert mirror.close(30) == 0
    assert is_synced(folder / name, len(story()), default_uri(folder))
    statuses = [run.info.status for run in runs_of(folder, name) if "msd.trial" in run.data.tags]
    assert sorted(statuses) == sorted(ENDS.values())


def test_a_ledger_that_cannot_be_read_is_named(folder, name):
    mirror = Mirror(default_uri(folder), "tests", name, folder / name, 3)
    assert mirror.close(10) == 3
    assert f"{name}/ledger.jsonl: cannot be read" in mirror.trouble


def wait_until(is_so, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_sweep_without_records_makes_no_store(tmp_path):
    start = time.perf_counter()
    assert Mirror(default_uri(tmp_path), "tests", "nothing", tmp_path).close(10) == 0
    assert not (tmp_path / DATABASE).exists()
    assert time.perf_counter() - start < 5


# --- addresses


def test_the_environment_comes_first_then_the_space(tmp_path, monkeypatch):
    assert choose_uri(tmp_path, None) == f"sqlite:///{tmp_path}/mlflow.db"
    assert choose_uri(tmp_path, "http://space") == "http://space"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://environment")
    assert choose_uri(tmp_path, "http://space") == "http://environment"


@pytest.mark.parametrize(
    ("uri", "plain"),
    [
        ("http://me:secret@host:5000/path", "http://host:5000/path"),
        ("https://host/a@b", "https://host/a@b"),
        ("postgresql://me:se@cret@host/db?password=secret", "postgresql://host/db"),
        ("sqlite:////tmp/some folder/mlflow.db", "sqlite:////tmp/some folder/mlflow.db"),
        ("databricks", "databricks"),
    ],
)
def test_addresses_are_shown_without_secrets(uri, plain):
    assert without_secrets(uri) == plain
    assert "secret" not in how_to_open(uri)


def test_the_way_to_open_a_store_can_be_pasted():
    assert how_to_open("http://me:secret@host:5000") == "http://host:5000"
    assert how_to_open("sqlite:////a b/x.db") == "mlflow ui --backend-store-uri 'sqlite:////a b/x.db'"


def test_processes_that_write_one_store_at_once_see_no_lock(tmp_path):
    """Three and a reader; `make chaos` has sixteen."""
    from tests.chaos import mlflow_faults  # imports Ray
    from tests.chaos.lives import References

    outcome = mlflow_faults.writers(3)(tmp_path, References(tmp_path), random.Random(0))
    assert ([tried.times for tried in outcome.tried], outcome.problems) == ([3], [])
