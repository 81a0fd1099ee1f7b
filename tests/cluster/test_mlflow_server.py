"""A sweep on one host, its runs in MLflow's server with PostgreSQL on another, started as cluster/mlflow.yaml says."""

import json
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from msd_sweeps.records import ledger
from msd_sweeps.records.trial_record import trials_of
from tests.chaos.lives import ROOT
from tests.cluster.hosts import Host, Network
from tests.sweep.conftest import Workplace

pytestmark = pytest.mark.cluster
_POSTGRES = "nobody"  # PostgreSQL refuses root
_KNOCK = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=5).status)"
_LONGEST_SECONDS = 180


class Server(NamedTuple):
    """Where it answers and who may use it."""

    host: Host
    password: str
    database: dict[str, str]
    """Environment of psql."""

    @property
    def uri(self) -> str:
        return f"http://{self.host.address}:5000"

    @property
    def login(self) -> dict[str, str]:
        return {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": self.password}


@pytest.fixture
def server(hosts: Network) -> Iterator[Server]:
    """PostgreSQL and MLflow on the second host; skips without PostgreSQL."""
    programs = {name: shutil.which(name) or _debians(name) for name in ("initdb", "postgres", "psql")}
    if None in programs.values():
        pytest.skip("PostgreSQL is not installed (Debian: postgresql)")
    host = hosts[1]
    folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))
    password, database_password = secrets.token_hex(24), secrets.token_hex(24)
    for name, content in {
        "postgres_password": database_password,
        "flask_key": secrets.token_hex(32),
        "basic_auth": "[mlflow]\ndefault_permission = READ\nadmin_username = admin\n"
        f"admin_password = {password}\ndatabase_uri = sqlite:///{folder}/users.db\n",
    }.items():
        (folder / name).write_text(content)
    shutil.chown(folder, _POSTGRES)
    as_postgres = ["setpriv", f"--reuid={_POSTGRES}", "--regid=nogroup", "--clear-groups"]
    data = str(folder / "data")
    host.run(
        *as_postgres,
        str(programs["initdb"]),
        "--pgdata",
        data,
        "--username=mlflow",
        "--auth=scram-sha-256",
        f"--pwfile={folder}/postgres_password",
        cwd=folder,
    )
    host.start(
        *as_postgres,
        str(programs["postgres"]),
        "-D",
        data,
        "-c",
        "listen_addresses=127.0.0.1",
        "-c",
        f"unix_socket_directories={folder}",
        cwd=folder,
    )
    database = {"PGHOST": "127.0.0.1", "PGUSER": "mlflow", "PGPASSWORD": database_password}
    _until(host, str(programs["psql"]), "--dbname=postgres", "--command=create database mlflow", **database)
    log = folder / "mlflow.log"
    host.start(
        "bash",
        "-c",
        f"exec >{log} 2>&1; {_command(folder, host)}",
        cwd=folder,
        MLFLOW_AUTH_CONFIG_PATH=f"{folder}/basic_auth",
        MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false",
        PATH=f"{Path(sys.executable).parent}:{host.environment['PATH']}",
    )
    try:
        _until(hosts[0], sys.executable, "-c", _KNOCK, f"http://{host.address}:5000/health")
    except AssertionError:
        pytest.fail(log.read_text())
    yield Server(host, password, database)
    for each in hosts:
        each.stop()
    shutil.rmtree(folder, ignore_errors=True)


def _debians(name: str) -> str | None:
    """Debian keeps the server's programs out of the path."""
    return next((str(path) for path in Path("/usr/lib/postgresql").glob(f"*/bin/{name}")), None)


def _command(folder: Path, host: Host) -> str:
    """The server's command in the shipped file, with this test's places for the containers'."""
    shipped = yaml.safe_load((ROOT / "cluster" / "mlflow.yaml").read_text())
    command = shipped["services"]["mlflow"]["command"][-1].replace("$$", "$")
    for there, here in {
        "/run/secrets": str(folder),
        "@postgres/": "@127.0.0.1/",
        "--artifacts-destination /artifacts": f"--artifacts-destination {folder}/artifacts",
        "--allowed-hosts ": f"--allowed-hosts {host.address}:5000,",
    }.items():
        assert there in command
        command = command.replace(there, here)
    return command


def _until(host: Host, *words: str, **environment: str) -> None:
    """Try a command until it succeeds."""
    end = time.monotonic() + _LONGEST_SECONDS
    while True:
        try:
            host.run(*words, **environment)
            return
        except AssertionError:
            if time.monotonic() > end:
                raise
            time.sleep(0.5)


def test_a_sweeps_runs_are_in_the_servers_database(hosts, server, tmp_path):
    place = Workplace(tmp_path, None, PYTHONPATH=str(ROOT))
    out = hosts[0].run(
        sys.executable,
        "-m",
        "tests.chaos.simulated",
        "--space",
        "grid.yaml",
        "--name",
        "grid",
        "--num-cpus",
        "1",
        cwd=place.folder,
        timeout=300,
        MLFLOW_TRACKING_URI=server.uri,
        PYTHONPATH=str(ROOT),
        **server.login,
    )
    trials = trials_of(ledger.read(place.folder / "runs" / "grid" / ledger.FILE_NAME))
    assert [trial.state for trial in trials.values()] == ["finished"] * 4
    counted = server.host.run(
        "psql",
        "--dbname=mlflow",
        "--tuples-only",
        "--no-align",
        "--command=select status, count(*) from runs group by status",
        **server.database,
    )
    assert counted.strip() == f"FINISHED|{len(trials) + 1}"
    assert server.uri in out
    for path in (path for path in place.folder.rglob("*") if path.is_file()):
        assert server.password.encode() not in path.read_bytes(), path


def test_nobody_reads_the_server_without_its_password(hosts, server):
    request = (
        "import sys, json, urllib.request, urllib.error\n"
        "data = json.dumps({'max_results': 1}).encode()\n"
        "url = sys.argv[1] + '/api/2.0/mlflow/experiments/search'\n"
        "request = urllib.request.Request(url, data, {'Content-Type': 'application/json'})\n"
        "try: print(json.dumps(urllib.request.urlopen(request, timeout=10).status))\n"
        "except urllib.error.HTTPError as error: print(json.dumps(error.code))\n"
    )
    assert json.loads(hosts[0].run(sys.executable, "-c", request, server.uri)) == 401
