"""A researcher's own work from the wheel, in an empty folder: loss, network, images, a timm teacher, a Ray job."""

import contextlib
import importlib.util
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pandas
import pytest

from msd_sweeps.records import ledger
from msd_sweeps.records.trial_record import TrialRecord, trials_of
from tests.distill.data.image_files import write_tree
from tests.own import EXAMPLE
from tests.test_wheel import command  # noqa: F401  a fixture

pytestmark = [pytest.mark.ray, pytest.mark.slow]

NETS = """
import torch

import msd_sweeps


class Tiny(torch.nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.conv, self.fc = torch.nn.Conv2d(3, 8, 3, 2, 1), torch.nn.Linear(8, num_classes)

    def forward(self, images):
        features = self.conv(images).relu()
        pooled = features.mean((2, 3))
        return msd_sweeps.Taps((features,), features, pooled, self.fc(pooled))


def tiny(num_classes):
    return Tiny(num_classes)
"""
SPACE = """
imports: [my_losses.py, my_nets.py]
base: mine
design: grid
parameters: {method.margin: {choices: [0.0, 0.5]}}
also: {kd: {method: {name: kd}}}
seeds: [0, 1]
report: {value: test_top1, baseline: kd}
"""
BASE = """
imports: [my_losses.py, my_nets.py]
data: {name: folder, root: pets, image_size: 32}
teacher: {model: timm/resnet10t, recipe: {epochs: 2, batch_size: 8, lr: 0.05, crop_padding: 0}}
student: {model: "my_nets:tiny"}
method: {name: margin}
recipe: {epochs: 3, batch_size: 8, lr: 0.1, crop_padding: 0, precision: float32}
"""
ROW = "margin=0.5"


@pytest.fixture(scope="module")
def work(command):  # noqa: F811
    """The folder with a researcher's files, whose loss does not work yet, and the command."""
    if importlib.util.find_spec("timm") is None:
        pytest.skip("timm is not installed")
    folder: Path = command.folder
    write_tree(folder / "pets", train=12, test=6, size=(32, 32))
    for name, text in (("my_nets.py", NETS), ("mine.yaml", BASE), ("margins.yaml", SPACE)):
        (folder / name).write_text(text)
    good = (EXAMPLE / "my_losses.py").read_text()
    bad = good.replace("    return F.relu(", '    print("margin is", margin)\n    return F.reluu(')
    (folder / "my_losses.py").write_text(bad)
    told = command("run", "--space", "margins.yaml", code=1)
    assert "margin=0.5 [2/6] seed 0 prints: margin is 0.5" in told
    assert "my_losses.py:13 in margin_loss: AttributeError" in told
    (folder / "my_losses.py").write_text(good)
    return command


@pytest.fixture(scope="module")
def swept(work) -> dict[str, TrialRecord]:
    """The trials of the sweep, after the loss was mended; the lines of --json are the records of its ledger."""
    path = work.folder / "runs" / "margins" / "ledger.jsonl"
    before = len(list(ledger.read(path)))
    lines = [json.loads(line) for line in work("run", "--retry-failed", "--name", "margins", "--json").splitlines()]
    assert lines[:-1] == list(ledger.read(path))[before:]
    assert lines[-1] == {"event": "report", "name": "margins", "folder": "reports/margins", "ended": 6, "planned": 6}
    return trials_of(ledger.read(path))


def test_a_failing_loss_is_mended_and_retried_over_its_own_setting(work, swept):
    assert {trial.state for trial in swept.values()} == {"finished"}
    table = pandas.read_csv(work.folder / "reports" / "margins" / "table.csv")
    assert set(table[~table["label"].str.startswith("teacher")]["label"]) == {"kd", "margin=0.0", ROW}
    assert {trial.config["teacher"]["model"] for trial in swept.values()} == {"timm/resnet10t"}


@pytest.mark.parametrize("form", ["onnx", "torch"])
def test_an_exported_student_is_as_good_as_in_the_table(work, swept, form):
    if form == "onnx":
        pytest.importorskip("onnxscript")
        pytest.importorskip("onnxruntime")
    out = f"student.{'pt' if form == 'torch' else form}"
    work("export", "margins", "--row", ROW, "--best-by", "train_top1", "--format", form, "--out", out)
    own = ["--imports", "my_losses.py", "my_nets.py"]
    found = json.loads(work("evaluate", out, "--root", "pets", *own, "--json"))
    of_row = [trial for trial in swept.values() if trial.label == ROW]
    best = max(of_row, key=lambda trial: trial.metrics["train_top1"])
    assert found["top1"] == best.metrics["test_top1"]
    assert found["nll"] == pytest.approx(best.metrics["test_loss"], rel=1e-4)


def test_a_row_is_trained_by_hand_bit_for_bit(work, swept):
    base = next((work.folder / "reports/margins/rows").glob("margin_0.5*.yaml"))
    work("train", "--base", str(base), "--set", "seed=1", "--out", "again")
    (trial,) = [one for one in swept.values() if (one.label, one.seed) == (ROW, 1)]
    again = json.loads((work.folder / "again/history.json").read_text())
    assert [timeless(one) for one in again] == [timeless(one.metrics) for one in trial.epochs]
    kept = work.folder / "runs/margins/weights" / trial.trial / "weights.safetensors"
    assert (work.folder / "again/weights.safetensors").read_bytes() == kept.read_bytes()


def timeless(metrics: dict) -> dict:
    return {name: value for name, value in metrics.items() if name != "epoch" and not name.endswith("_seconds")}


@contextlib.contextmanager
def ray_head(work, folder: Path) -> Iterator[tuple[dict[str, str], str]]:
    """A Ray head that has the wheel and nothing of the researcher's; its environment and the address of its jobs."""
    ports = []
    for _ in range(3):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports.append(str(free.getsockname()[1]))
    environment = work.environment | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    environment |= {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONUNBUFFERED": "1"}
    words = ["start", "--head", "--block", "--num-cpus=2", f"--port={ports[0]}", f"--dashboard-port={ports[1]}"]
    words.append(f"--dashboard-agent-listen-port={ports[2]}")  # another Ray of this machine may have the usual one
    ray = [work.python, "-m", "ray.scripts.scripts"]
    with (folder / "head.log").open("wb") as log:
        head = subprocess.Popen(
            [*ray, *words, "--node-ip-address=127.0.0.1", f"--temp-dir={folder}"],
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        end = time.monotonic() + 120
        while time.monotonic() < end:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", int(ports[1])), 1):
                break
            assert head.poll() is None, (folder / "head.log").read_text()
            time.sleep(0.5)
        yield environment, f"http://127.0.0.1:{ports[1]}"
    finally:
        os.killpg(head.pid, signal.SIGTERM)
        head.wait(60)


def test_the_same_space_is_a_job_on_a_cluster_that_has_only_the_wheel(work, swept, tmp_path_factory):
    folder = tmp_path_factory.mktemp("r")
    shared = folder / "shared"
    own = folder / "own"
    shutil.copytree(work.folder / "pets", own / "pets")
    for name in ("my_losses.py", "my_nets.py", "mine.yaml", "margins.yaml"):
        shutil.copy(work.folder / name, own)
    # A teacher depends on how many threads trained it, which Ray chooses for a job.
    shutil.copytree(work.folder / "runs" / "teachers", shared / "runs" / "teachers")
    with ray_head(work, folder) as (environment, address):
        job = ["msd-sweeps", "run", "--space", "margins.yaml", "--address", "auto", "--storage", f"{shared}/runs"]
        words = [work.python, "-m", "ray.scripts.scripts", "job", "submit", "--address", address, "--working-dir", "."]
        for _ in range(10):
            done = subprocess.run(
                [*words, "--", *job, "--reports", f"{shared}/reports"],
                cwd=own,
                env=environment,
                capture_output=True,
                text=True,
                timeout=400,
            )
            if "No available agent" not in done.stderr:  # the head takes jobs a while after its port is open
                break
            time.sleep(2)
    assert done.returncode == 0, done.stdout + done.stderr
    found = trials_of(ledger.read(shared / "runs" / "margins" / "ledger.jsonl"))
    assert set(found) == set(swept)
    for name, trial in found.items():
        assert [timeless(one.metrics) for one in trial.epochs] == [timeless(one.metrics) for one in swept[name].epochs]
    assert (shared / "reports/margins/report.html").is_file()
