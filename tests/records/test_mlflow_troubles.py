"""Why MLflow takes no records is said at once, and nobody waits for what cannot get better; real stores and server."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from msd_sweeps.records import ledger
from msd_sweeps.records.mlflow_store import artifacts_of, choose_uri, default_uri
from msd_sweeps.records.mlflow_sync import Mirror
from msd_sweeps.run import main
from msd_sweeps.space.errors import InputError
from tests.records.mlflow_server import Server, server
from tests.records.test_mlflow_sync import PAUSES, close, end, epoch, start, sweep

ROOT = Path(__file__).resolve().parents[2]
RECORDS = [sweep(), start("a"), epoch("a", 1), end("a", "finished"), close()]


@pytest.fixture(autouse=True)
def _no_store_of_the_environment(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Server:
    with server(tmp_path_factory.mktemp("server")) as made:
        yield made


def sent(folder: Path, uri: str, timeout: float = 60.0) -> tuple[int, list[str], float]:
    """The records that are left, what was said, and the seconds that it took."""
    path = folder / "s" / ledger.FILE_NAME
    path.parent.mkdir(parents=True)
    path.write_bytes(b"".join(map(ledger.encode, RECORDS)))
    said: list[str] = []
    began = time.monotonic()
    left = Mirror(uri, "e", "s", path.parent, len(RECORDS), "", said.append, PAUSES).close(timeout)
    return left, said, time.monotonic() - began


def a_file(folder: Path) -> str:
    (folder / "file").write_text("")
    return f"sqlite:///{folder}/file/mlflow.db"


def corrupt(folder: Path) -> str:
    (folder / "mlflow.db").write_bytes(b"not a database" * 100)
    return default_uri(folder)


def unopened(folder: Path) -> str:
    (folder / "x").mkdir()
    return f"sqlite:///{folder}/x"


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        (lambda folder: "http://127.0.0.1:9", "Connection refused"),
        (lambda folder: "http://nosuchhost.invalid:5000", "Name or service not known"),
        (a_file, "exists"),
        (corrupt, "file is not a database"),
        (unopened, "unable to open database file"),
    ],
    ids=["closed port", "no such host", "below a file", "corrupt", "unwritable"],
)
def test_a_store_that_cannot_get_better_is_told_once_and_not_waited_for(uri, reason, tmp_path):
    left, said, seconds = sent(tmp_path, uri(tmp_path))
    assert left == len(RECORDS)
    assert len(said) == 1
    assert reason in said[0]
    assert seconds < 20  # of the 60 that it was given


@pytest.mark.parametrize("status", [401, 403])
def test_a_server_that_refuses_the_user_is_told_and_not_waited_for(status, served, tmp_path):
    served.faults[:] = [status] * 1000
    left, said, seconds = sent(tmp_path, served.uri.replace("//", "//me:hunter2@"))
    served.faults.clear()
    assert left == len(RECORDS)
    assert f"error code {status}" in said[0]
    assert "hunter2" not in said[0]
    assert seconds < 20


@pytest.mark.parametrize("status", [429, 500])
def test_a_server_that_is_busy_or_in_trouble_gets_everything_later(status, served, tmp_path):
    served.faults[:] = [status] * 5
    left, said, _ = sent(tmp_path, served.uri)
    assert served.faults == []
    assert left == 0
    assert f"too many {status} error responses" in said[0]
    assert said[-1] == "MLflow takes records again"
    client = MlflowClient(served.uri)
    runs = client.search_runs([client.get_experiment_by_name("e").experiment_id], "tags.`msd.trial` = 'a'")
    assert {(run.info.status, run.data.metrics["epoch"]) for run in runs} == {("FINISHED", 1.0)}


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("./mlruns", "a folder of files"),
        ("file:///srv/mlruns", "a folder of files"),
        ("foo://host/db", "no store of the kind 'foo'"),
        ("http://", "the host is missing"),
        ("http://h:99999999", "no valid URI"),
        ("sqlite://", "in memory"),
        ("sqlite:///:memory:", "in memory"),
        ("sqlite:////tmp", "a folder, not a file"),
        ("mysql+nosuchdriver://h/db", "nosuchdriver"),
    ],
)
def test_an_address_that_can_take_nothing_is_refused_in_the_plan(uri, told, monkeypatch, capsys, tmp_path):
    arguments = ["--space", "scales.yaml", "--dry-run", "--storage", str(tmp_path)]
    assert main([*arguments, "--set", f"tracking.uri='{uri}'"]) == 2
    assert told in capsys.readouterr().err
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert main(arguments) == 2
    assert "MLFLOW_TRACKING_URI" in capsys.readouterr().err


@pytest.mark.parametrize("uri", ["http://h:5000", "https://me:pw@h/p", "databricks", "sqlite:////tmp/x/mlflow.db"])
def test_an_address_that_may_work_is_taken(uri, monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert choose_uri(tmp_path, None) == uri


def test_a_message_of_the_plan_has_no_secret(monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "foo://me:hunter2@h/db")
    with pytest.raises(InputError) as refused:
        choose_uri(tmp_path, None)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("name", ["a?b", "c%2Fd", "e%41", "f g#h"])
def test_the_default_store_lies_in_its_folder_whatever_that_is_called(name, tmp_path):
    storage = tmp_path / name
    storage.mkdir()
    left, said, _ = sent(storage, default_uri(storage))
    assert (left, said) == (0, [])
    assert (storage / "mlflow.db").is_file()
    assert len(list((storage / "mlflow-artifacts").glob("*/artifacts/sweep.json"))) == 1


def test_files_of_runs_lie_beside_a_shared_database_and_not_in_the_first_sweeps_folder(tmp_path):
    uri = f"sqlite:///{tmp_path}/shared/mlflow.db"
    for person in ("ann", "bob"):
        assert sent(tmp_path / person, uri)[0] == 0
    assert len(list((tmp_path / "shared" / "mlflow-artifacts").glob("*/artifacts/sweep.json"))) == 1
    assert not list((tmp_path / "ann").rglob("sweep.json"))
    assert artifacts_of("http://h:5000", tmp_path) is None
    assert artifacts_of("postgresql://h/db", tmp_path) == tmp_path / "mlflow-artifacts"


def test_ctrl_c_ends_the_sending_quietly(tmp_path):
    path = tmp_path / "runs" / "s" / ledger.FILE_NAME
    path.parent.mkdir(parents=True)
    path.write_bytes(b"".join(map(ledger.encode, [start("a"), epoch("a", 1)])))
    with socket.create_server(("127.0.0.1", 0)) as hangs:  # takes connections and never answers
        uri = f"http://127.0.0.1:{hangs.getsockname()[1]}"
        command = [sys.executable, "-m", "msd_sweeps.run", "--sync-mlflow", "--name", "s"]
        environment = os.environ | {"MLFLOW_TRACKING_URI": uri, "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(
            command, cwd=tmp_path, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        hangs.settimeout(120)
        connection, _ = hangs.accept()
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
        connection.close()
    assert process.returncode == 130
    assert out == "stopped by SIGINT\n"
