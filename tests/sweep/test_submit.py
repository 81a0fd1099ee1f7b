"""What travels with a submitted sweep, without a cluster."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from msd_sweeps.run import main
from msd_sweeps.sweep.options import parse_options
from msd_sweeps.sweep.submit import pack

GRID = "base: {base}\ndesign: grid\nmetric: {{name: test_top1}}\nparameters: {{recipe.lr: {{choices: [0.1, 0.2]}}}}\n"


def packed(folder: Path, *arguments: str) -> list[str]:
    """The arguments of the job's command; package, space and base lie in `folder`."""
    return pack(parse_options(["--storage", "/s", "--reports", "/r", *arguments]), folder)


def test_the_job_plans_the_same_sweep_from_what_travels_alone(tmp_path, monkeypatch):
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "job"
    elsewhere.mkdir()
    folder.mkdir()
    (elsewhere / "mine.yaml").write_text(GRID.format(base="digits"))
    monkeypatch.chdir(elsewhere)
    arguments = packed(folder, "--space", "mine.yaml", "--set", "recipe.epochs=3", "--dry-run", "--resume")
    assert "--resume" in arguments
    arguments.remove("--resume")
    code = "import sys, msd_sweeps.run; print(msd_sweeps.__file__); sys.exit(msd_sweeps.run.main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"PYTHONPATH": str(folder)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(folder))
    assert "mine: grid by test_top1, base digits" in done.stdout
    assert "3 epochs" in done.stdout


def test_a_uri_travels_as_it_was_given(tmp_path):
    uri = "s3://bucket/runs?region=eu"
    arguments = packed(tmp_path, "--space", "scales", "--storage", uri)
    assert arguments[arguments.index("--storage") + 1] == uri


def test_a_base_given_by_its_path_is_found_by_its_name(tmp_path, monkeypatch):
    base = Path(__file__).resolve().parents[2] / "search_spaces" / "bases" / "digits.yaml"
    (tmp_path / "own.yaml").write_text(base.read_text())
    (tmp_path / "mine.yaml").write_text(GRID.format(base="./own.yaml"))
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "job"
    folder.mkdir()
    arguments = packed(folder, "--space", "mine.yaml")
    assert arguments[arguments.index("--base") + 1] == "own.yaml"
    assert (folder / "search_spaces" / "bases" / "own.yaml").is_file()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--submit", "HEAD:8265"], "expected http://HOST:8265"),
        (["--submit", "http://127.0.0.1:1", "--storage", "/s", "--reports", "/r"], "nothing answers there"),
        (["--submit", "http://127.0.0.1:1", "--storage", "s3://b/s", "--reports", "/r"], "nothing answers there"),
        (
            ["--submit", "http://127.0.0.1:1", "--storage", "s3://b?secret_key=S", "--reports", "/r"],
            "s3://b: holds secret_key",
        ),
        (["--submit", "http://127.0.0.1:8265", "--address", "auto"], "leave out --address"),
        (
            ["--address", "ray://127.0.0.9:10001", "--storage", "/s", "--reports", "/r"],
            "--submit http://127.0.0.9:8265: nothing answers there",
        ),
    ],
)
def test_what_cannot_be_sent_is_told_before_anything_starts(arguments, says, capsys):
    assert main(["--space", "scales", *arguments]) == 2
    assert says in capsys.readouterr().err


@pytest.fixture
def locked_dashboard() -> Iterator[str]:
    """The address of a head that answers whoever brings no token as Ray's does."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(401)
            self.end_headers()
            self.wfile.write(b"Unauthorized: Missing authentication token")

        def log_message(self, *what: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_missing_token_is_bad_input(locked_dashboard, capsys):
    arguments = ["--submit", locked_dashboard, "--storage", "/s", "--reports", "/r"]
    assert main(["--space", "scales", *arguments]) == 2
    told = capsys.readouterr().err
    assert f"--submit {locked_dashboard}: " in told
    assert "RAY_AUTH_MODE=token" in told


def test_a_uri_needs_no_absolute_path_but_the_reports_do(monkeypatch, capsys):
    monkeypatch.setattr("msd_sweeps.sweep.submit.knock", lambda *where: None)
    assert main(["--space", "scales", "--submit", "http://127.0.0.1:8265", "--storage", "s3://b/s"]) == 2
    assert "--reports reports: with --submit, expected an absolute path" in capsys.readouterr().err


def test_relative_paths_are_refused_because_a_jobs_folder_does_not_last(monkeypatch, capsys):
    monkeypatch.setattr("msd_sweeps.sweep.submit.knock", lambda *where: None)
    assert main(["--space", "scales", "--submit", "http://127.0.0.1:8265"]) == 2
    assert "--storage runs: with --submit, expected an absolute path" in capsys.readouterr().err
