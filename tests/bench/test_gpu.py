"""The GPU script in its form for a processor: stages as processes, their table, and what is not clean."""

import json
from pathlib import Path

import pytest

from msd_sweeps.bench import gpu

SMALL = gpu.DIGITS_ON_CPU


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command hides the GPU from this process too."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def run(out: Path, *stages: str) -> int:
    return gpu.main(["--device", "cpu", "--out", str(out), "--stages", *stages])


def test_stages_run_as_processes_and_a_table_comes_last(tmp_path, capsys):
    assert run(tmp_path, "machine", "fault_step", "probes") == 0
    text = capsys.readouterr().out
    assert text == (tmp_path / "gpu.md").read_text()
    assert "## fault_step: clean, ended" in text
    assert "probes" not in text.split("\n\n", 2)[2]  # needs a GPU
    results = json.loads((tmp_path / "gpu.json").read_text())
    assert [result["stage"] for result in results] == ["fault_step", "machine"]
    student, *neighbours = results[0]["rows"]
    assert student["state"] == "out_of_memory"
    assert [row["same bits"] for row in neighbours] == [True] * 3


@pytest.mark.slow
def test_all_stages_for_a_processor(tmp_path):
    assert run(tmp_path, *gpu.STAGES) == 0
    results = {result["stage"]: result for result in json.loads((tmp_path / "gpu.json").read_text())}
    assert list(results) == ["packed", "fault_step", "churn", "machine", "speed"]
    assert all(row["same bits"] for row in results["packed"]["rows"])


def test_a_stage_that_crashes_is_not_clean_and_its_log_is_kept(tmp_path):
    result = gpu.supervise("profile", "digits", SMALL, tmp_path)  # which asks for CUDA at once
    assert (result["clean"], result["ended"], result["rows"]) == (False, "exit code 1", [])
    assert "NOT CLEAN" in gpu.table(result)
    assert "Traceback" in (tmp_path / "profile.log").read_text()


def test_a_bad_setting_starts_nothing(tmp_path, capsys):
    assert gpu.main(["--device", "cpu", "--out", str(tmp_path / "out"), "--set", "recipe.batchsize=8"]) == 2
    assert "batch_size" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
