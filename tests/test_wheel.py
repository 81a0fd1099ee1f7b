"""The wheel, installed into a fresh environment, works from an empty folder."""

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests import synthetic_ledger

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory):
    """Runs the installed console script in an empty folder of its own."""
    place = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    source = place / "source"  # building leaves files beside the source
    files = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-co", "--exclude-standard"], check=True, capture_output=True, text=True
    )
    for name in files.stdout.splitlines():
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", place, source], check=True)
    venv.create(place / "env", with_pip=False)
    python = place / "env" / "bin" / "python"
    (wheel,) = place.glob("*.whl")
    subprocess.run([*pip, "--python", python, "install", "--no-deps", "--no-index", wheel], check=True)
    (site,) = (place / "env").glob("lib/python*/site-packages")
    installed = [path for path in sys.path if path.endswith("-packages")]
    (site / "dependencies.pth").write_text("\n".join(installed) + "\n")  # what the wheel depends on
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    empty = place / "empty"
    empty.mkdir()

    environment["PATH"] = f"{place / 'env' / 'bin'}{os.pathsep}{environment['PATH']}"

    def run(*words: str, code: int = 0) -> str:
        script = place / "env" / "bin" / "msd-sweeps"
        done = subprocess.run([script, *words], cwd=empty, env=environment, capture_output=True, text=True, timeout=400)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    run.folder, run.site, run.python, run.environment = empty, site, python, environment
    return run


def test_every_package_is_in_the_wheel(command):
    ours = {path.parent.relative_to(ROOT) for path in (ROOT / "msd_sweeps").rglob("*.py")}
    assert {folder for folder in ours if not (command.site / folder).is_dir()} == set()


def test_a_plan_a_training_an_export_and_an_evaluation(command):
    assert "72 = 2 searches x 16 search samples" in command("run", "--space", "scales.yaml", "--dry-run")
    quick = ["--set", "recipe.epochs=1", "--set", "teacher.recipe.epochs=1"]
    assert "test_top1" in command("train", "--base", "digits", *quick, "--out", "student")
    assert "top1" in command("evaluate", "student/weights.safetensors")


def test_a_report_of_a_ledger(command):
    sweep = synthetic_ledger.make_sweep("grid", "one")
    synthetic_ledger.write(command.folder / "runs" / "one", synthetic_ledger.records(sweep))
    assert "The report is reports/one/report.html" in command("report", "one")


def test_the_own_loss_that_init_copies_is_planned(command):
    command("init")
    assert (command.folder / "search_spaces" / "bases" / "digits.yaml").is_file()
    assert "12 = 4 cells x 3 seeds" in command("run", "--space", "search_spaces/own_loss/own_loss.yaml", "--dry-run")
