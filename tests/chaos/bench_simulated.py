"""What the platform itself costs at many trials: `python -m tests.chaos.bench_simulated [--trials 10000]`.

No-op trials of one epoch by a simulated trainer. Prints what a plan takes, what a trial takes of time and of the
driver's memory, through Ray Tune and without it, and what it takes to find that a sweep of so many trials is complete.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.chaos.lives import ROOT

_SEEDS = 10
_MEASURE = """
import resource, runpy, sys, threading, time

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() / 1024

def watch():
    with open("memory.txt", "a") as file:
        while True:
            file.write(f"{time.time():.1f} {resident():.0f}\\n")
            file.flush()
            time.sleep(1)

threading.Thread(target=watch, daemon=True).start()
sys.argv = ["simulated", *sys.argv[1:]]
runpy.run_module("tests.chaos.simulated", run_name="__main__")
"""
_DIRECT = """
import json, resource, sys, time
from pathlib import Path
from msd_sweeps.records.ledger import Ledger
from msd_sweeps.records.trial_record import EpochResult
from msd_sweeps.space.load import load
from msd_sweeps.sweep.run_state import Run
from msd_sweeps.sweep.trial_queue import Pause, TrialQueue
from tests.chaos.simulated import Simulation, invented
from tests.sweep.life import launch_record

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() / 1024

sweep = load("space.yaml", None, [], None, "direct")
folder = Path("runs/direct")
ledger = Ledger(folder / "ledger.jsonl")
ledger.append("sweep", **launch_record(sweep))
sweep.fixed_trials
queue = TrialQueue(Run(sweep, folder, {}, ledger), Simulation().inputs)
began, before = time.perf_counter(), resident()
while not isinstance(job := queue.next(), Pause):
    queue.take([EpochResult(job.trial, "finished", 1, 0.0, invented(job.trial, 1, True), slot=0)])
count = len(queue.trials)
print((time.perf_counter() - began) / count * 1000, (resident() - before) / count)
"""
_RESUME = """
import sys, time
from pathlib import Path
began = time.perf_counter()
from msd_sweeps.plan.plan import Plan
from msd_sweeps.records.mlflow_store import choose_uri
from msd_sweeps.records.mlflow_sync import _cursor
from msd_sweeps.space.load import load
from msd_sweeps.sweep.launch import run_sweep
from msd_sweeps.sweep.options import Options
from msd_sweeps.sweep.run_state import Signals
sweep = load("space.yaml", None, [], None, "direct")
folder = Path("runs/direct")
if len(sys.argv) > 1:  # as it stands when MLflow has taken everything
    count = sum(1 for line in (folder / "ledger.jsonl").open())
    (folder / "mlflow.synced").write_text(_cursor(count, choose_uri(folder.parent, None)))
    began = time.perf_counter()
run = run_sweep(Plan(sweep), Options(), Signals())
assert not run.started
print(time.perf_counter() - began)
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    command = argparse.ArgumentParser(prog="python -m tests.chaos.bench_simulated", description=__doc__.split("\n")[0])
    command.add_argument("--trials", type=int, default=10_000, help="of the plan, the ledger, the resume (10000)")
    command.add_argument("--through-tune", type=int, default=1_000, help="through the whole path (1000); 0: none")
    command.add_argument("--out", type=Path, help="write what is printed into this folder as well")
    options = command.parse_args(arguments)
    told: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for line in _measured(Path(folder), options.trials, options.through_tune):
            print(line, flush=True)
            told.append(f"- {line}")
    if options.out:
        words = " ".join(sys.argv[1:] if arguments is None else arguments)
        made = f"Made by `python -m tests.chaos.bench_simulated {words}` on {os.cpu_count()} CPUs."
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "platform.md").write_text("\n".join(["# The platform itself\n", f"{made}\n", *told]) + "\n")
    return 0


def _measured(place: Path, trials: int, through_tune: int) -> Iterator[str]:
    _write_space(place, trials)
    seconds, _ = _timed(place, "-m", "msd_sweeps.run", "--space", "space.yaml", "--dry-run")
    yield f"plan of {trials} trials, as a command: {seconds:.1f} s"
    _, text = _timed(place, "-c", _DIRECT)
    milliseconds, kilobytes = map(float, text.split())
    yield f"trial queue and ledger: {milliseconds:.2f} ms and {kilobytes:.1f} KB of the driver's memory a trial"
    _, text = _timed(place, "-c", _RESUME, "synced")
    yield f"resume of {trials} finished trials, up to the report: {float(text):.1f} s"
    if through_tune:
        yield _through_tune(place, through_tune)


def _write_space(place: Path, trials: int) -> None:
    weights = [round(1 + i / 1000, 3) for i in range(trials // _SEEDS)]
    space: dict[str, Any] = {
        "base": "digits",
        "design": "grid",
        "metric": {"name": "test_top1"},
        "parameters": {"method.sample_weight": {"choices": weights}},
        "seeds": list(range(_SEEDS)),
        "report": {"baseline": None},
        "resources": {"pack": 4, "slots": 1},
    }
    (place / "space.yaml").write_text(json.dumps(space))  # JSON is YAML


def _timed(place: Path, *words: str) -> tuple[float, str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "SIMULATED": json.dumps({"keep": False})}
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *words], cwd=place, env=environment, check=True, text=True, stdout=subprocess.PIPE
    )
    return time.perf_counter() - began, done.stdout


def _through_tune(place: Path, trials: int) -> str:
    from msd_sweeps.records import ledger

    _write_space(place, trials)
    _timed(place, "-c", _MEASURE, "--space", "space.yaml", "--name", "tune", "--set", "recipe.epochs=1")
    records = list(ledger.read(place / "runs" / "tune" / ledger.FILE_NAME))
    ends = [record["time"] for record in records if record["event"] == "end"]
    first, last = ends[len(ends) // 5], ends[-1]  # without the start of the actors
    memory = [tuple(map(float, line.split())) for line in (place / "memory.txt").read_text().splitlines()]
    inside = [kilobytes for at, kilobytes in memory if first <= at <= last]
    count = len(ends) - len(ends) // 5 - 1
    growth = (inside[-1] - inside[0]) / count if len(inside) > 1 else float("nan")
    fifth = trials // 5
    early, late = ((ends[i + fifth] - ends[i]) / fifth * 1000 for i in (fifth, len(ends) - fifth - 1))
    return (
        f"the whole path, {trials} trials: {(last - first) / count * 1000:.0f} ms a trial ({early:.0f} early, "
        f"{late:.0f} at the end) and {growth:.1f} KB of the driver's memory a trial"
    )


if __name__ == "__main__":
    sys.exit(main())
