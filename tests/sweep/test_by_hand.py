"""One trial without Ray has the numbers of the sweep; the sweep's student is exported, and is as good as its row."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from msd_sweeps import evaluate, export, train
from msd_sweeps.space.load import load_base
from tests.sweep.conftest import Run, Workplace

pytestmark = pytest.mark.ray


@pytest.fixture
def there(swept: tuple[Workplace, Run], monkeypatch: pytest.MonkeyPatch) -> Run:
    """The finished toy search, whose folder is the current one."""
    place, run = swept
    monkeypatch.chdir(place.folder)
    return run


@pytest.mark.parametrize("row", ["winner_1", "kd", "none"])
def test_a_row_trained_by_hand_is_its_trial_bit_for_bit(there, row, tmp_path, capsys):
    label = row.replace("_", " ")
    (trial,) = [one for one in there.trials.values() if label in one.label.split(" = ")]
    base = next(Path("reports/toy/rows").glob(f"*{row}*.yaml"))
    out = tmp_path / "out"
    assert train.main(["--base", str(base), "--set", f"seed={trial.seed}", "--out", str(out)]) == 0
    assert f"trial {trial.trial}:" in capsys.readouterr().out
    history = json.loads((out / "history.json").read_text())
    mine = [{k: v for k, v in epoch.items() if k != "epoch" and not k.endswith("_seconds")} for epoch in history]
    assert mine == there.numbers[trial.trial]
    kept = Path("runs/toy/weights") / trial.trial
    assert (out / "weights.safetensors").read_bytes() == (kept / "weights.safetensors").read_bytes()


def test_what_is_reported_is_kept_and_a_search_is_not(there):
    kept = {folder.name for folder in Path("runs/toy/weights").iterdir()}
    assert kept == {name for name, trial in there.trials.items() if trial.phase == "confirm"}


@pytest.mark.parametrize("form", ["safetensors", "torch", "onnx"])
def test_an_exported_winner_is_as_good_as_its_row(there, form, tmp_path, capsys):
    if form == "onnx":
        pytest.importorskip("onnxscript")
        pytest.importorskip("onnxruntime")
    out = tmp_path / f"student.{form if form != 'torch' else 'pt'}"
    assert export.main(["toy", "--row", "winner 1", "--format", form, "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == [out.name]
    assert evaluate.main([str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    (trial,) = [one for one in there.trials.values() if "winner 1" in one.label.split(" = ")]
    assert f"{trial.metrics['test_top1']:.2f} %" in said
    # In float32 an ONNX file may decide a few images otherwise than the bfloat16 of the table.
    assert found["top1"] == pytest.approx(trial.metrics["test_top1"], abs=1.0 if form == "onnx" else 1e-9)
    assert found["nll"] == pytest.approx(trial.metrics["test_loss"], rel=0.02 if form == "onnx" else 1e-6)


def test_evaluate_reads_a_teacher_too_and_compares_with_it(there, tmp_path, capsys):
    teacher = next(Path("runs/teachers").glob("*/weights.safetensors"))
    assert evaluate.main([str(teacher), "--data", "digits", "--teacher", str(teacher), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    known = json.loads(teacher.with_name("teacher.json").read_text())["test_top1"]
    assert found["top1"] == pytest.approx(known, abs=1.0)  # the batch norms are not folded here
    assert (found["teacher_agreement"], found["teacher_divergence"]) == (100, 0)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["toy", "--row", "winer 1"], "did you mean 'winner 1"),
        (["toy", "--row", "kd", "--seed", "7"], "--seed 7: this row has finished the seeds 1"),
        (["toy", "--row", "kd", "--best-by", "test_top1"], "the test set chooses nothing"),
        (["tooy"], "did you mean 'toy'?"),
    ],
)
def test_what_cannot_be_exported_is_said(there, arguments, says, capsys):
    assert export.main(arguments) == 2
    assert says in capsys.readouterr().err


def test_every_row_is_a_base_and_json_is_accepted_too(there, tmp_path):
    rows = sorted(Path("reports/toy/rows").glob("*.yaml"))
    assert len(rows) == 3
    cells = {trial.cell for trial in there.trials.values() if trial.phase == "confirm"}
    assert {load_base(str(row)).cell for row in rows} == cells
    other = tmp_path / "row.json"
    trial = load_base(str(rows[0]))
    other.write_text(json.dumps(trial.model_dump(mode="json", exclude={"data": {"content"}})))
    assert load_base(str(other)) == trial


def test_a_debugger_stops_in_the_line_that_asks_for_it(there):
    code = (
        "from msd_sweeps import train; from msd_sweeps.distill.losses.distiller import Distiller as D\n"
        "before = D.forward\n"
        "def forward(self, *taps):\n"
        "    here = 'in the loss'\n"
        "    breakpoint()\n"
        "    return before(self, *taps)\n"
        "D.forward = forward\n"
        "train.main(['--base', 'toy', '--set', 'recipe.epochs=1'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], input="p here\nq\n", capture_output=True, text=True)
    assert "'in the loss'" in done.stdout


def test_a_profile_names_the_longest_operations(there, tmp_path, capsys):
    assert train.main(["--base", "toy", "--set", "recipe.epochs=4", "--profile", "--out", str(tmp_path)]) == 0
    assert re.search(r"aten::convolution_backward .*ms", capsys.readouterr().out)
    assert json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
