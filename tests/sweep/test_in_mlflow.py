"""A finished sweep in the real MLflow: the page, the winner's student, and the model registry."""

import json
from pathlib import Path

import pytest
from mlflow import MlflowClient

from msd_sweeps import evaluate, export
from msd_sweeps.records.mlflow_store import default_uri
from msd_sweeps.run import main
from tests.sweep.conftest import Run, Workplace

pytestmark = pytest.mark.ray


@pytest.fixture
def there(swept: tuple[Workplace, Run], monkeypatch: pytest.MonkeyPatch) -> tuple[Run, MlflowClient, dict]:
    """The finished toy search, whose folder is the current one; its runs by their trials, "" for the sweep's own."""
    place, run = swept
    monkeypatch.chdir(place.folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    client = MlflowClient(default_uri(Path("runs")))
    found = client.search_runs([client.get_experiment_by_name("msd_sweeps").experiment_id])
    return run, client, {one.data.tags.get("msd.trial", ""): one for one in found}


def trial_of(run: Run, label: str) -> str:
    (found,) = [name for name, trial in run.trials.items() if label in trial.label.split(" = ")]
    return found


def test_page_and_winner_are_artifacts_and_the_sweeps_run_has_parameters(there, tmp_path):
    run, client, runs = there
    parent = runs[""]
    page = client.download_artifacts(parent.info.run_id, "report.html", str(tmp_path))
    assert Path(page).read_bytes() == Path("reports/toy/report.html").read_bytes()
    assert parent.data.params["design"] == "search"
    assert parent.data.params["base.student.model"] == "resnet8"
    winner = trial_of(run, "winner 1")
    folder = Path(client.download_artifacts(runs[winner].info.run_id, "student", str(tmp_path)))
    kept = Path("runs/toy/weights") / winner
    assert (folder / "weights.safetensors").read_bytes() == (kept / "weights.safetensors").read_bytes()
    config = json.loads((folder / "config.json").read_text())
    assert config["student"]["model"] == "resnet8"
    assert not {"root"} & config["data"].keys()
    searched = [one for name, one in runs.items() if name and run.trials[name].phase == "search"]
    assert not any(client.list_artifacts(one.info.run_id) for one in searched)


def test_run_and_export_register_a_student_once(there, tmp_path, capsys):
    run, client, runs = there
    for _ in range(2):
        assert main(["--resume", "--name", "toy", "--register", "best"]) == 0
        assert "registry  best, version 1: " in capsys.readouterr().out
    out = tmp_path / "kd.pt"
    arguments = ["toy", "--row", "kd", "--format", "torch", "--out", str(out), "--register", "best"]
    assert export.main(arguments) == 0
    assert "registry  best, version 2" in capsys.readouterr().out
    versions = {str(one.version): one for one in client.search_model_versions("name = 'best'")}
    assert versions["1"].run_id == runs[trial_of(run, "winner 1")].info.run_id
    assert versions["2"].run_id == runs[trial_of(run, "kd")].info.run_id
    file = Path(client.download_artifacts(versions["2"].run_id, "student/kd.pt", str(tmp_path / ".")))
    assert evaluate.main([str(file), "--json"]) == 0
    found = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert found["top1"] == pytest.approx(run.trials[trial_of(run, "kd")].metrics["test_top1"], abs=1e-9)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--space", "search.yaml", "--register", "a/b"], "--register 'a/b': expected a name"),
        (["--space", "search.yaml", "--register", "m", "--set", "keep=none"], "keep: none"),
        (["--space", "grid.yaml", "--register", "m"], "only a search has a winner"),
    ],
)
def test_what_cannot_be_registered_is_refused_in_the_plan(there, arguments, says, capsys):
    assert main([*arguments, "--name", "other", "--dry-run"]) == 2
    assert says in capsys.readouterr().err


def test_a_student_that_mlflow_does_not_take_is_written_and_no_secret_is_told(there, tmp_path, monkeypatch, capsys):
    uri, out = "http://me:hunter2@localhost:9", tmp_path / "kd.pt"

    def refuse(*_):
        raise RuntimeError(f"nothing answers at {uri}")

    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setattr("msd_sweeps.records.mlflow_publish.Writer", refuse)
    assert export.main(["toy", "--row", "kd", "--format", "torch", "--out", str(out), "--register", "best"]) == 1
    told = capsys.readouterr().err
    assert out.exists()
    assert "is written, but MLflow has not taken it: RuntimeError: nothing answers at http://localhost:9" in told
    assert "hunter2" not in told


def test_every_record_names_the_one_sweep(there):
    run, _, runs = there
    (begun,) = {json.loads(line)["id"] for line in (run.folder / "ledger.jsonl").open() if '"event":"sweep"' in line}
    assert {one.data.tags["msd.sweep_id"] for one in runs.values()} == {begun}
