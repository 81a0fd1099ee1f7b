"""`kill -9` of the driver at random instants of a sweep of 24 cells x 3 seeds, until it has ended all the same."""

import contextlib
import json
import random
import re
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

from msd_sweeps.records import ledger
from msd_sweeps.records.trial_record import FINAL_STATES
from tests.sweep.conftest import Run, Workplace

ROOT = Path(__file__).resolve().parents[2]
NAME = "sweep"
SPACE = """\
base: toy
design: grid
metric: {name: test_top1}
parameters:
  method.sample_weight: {choices: [0.5, 1.0, 1.5, 2.0, 2.5, 3.0]}
  method.sample_temperature: {choices: [0.05, 0.1, 0.2, 0.4]}
seeds: [0, 1, 2]
report: {baseline: null}
"""
MODES = {
    "packed": ("resources.pack=3", "resources.slots=1"),
    "not packed": ("resources.pack=1", "resources.slots=2", "resources.cpus_per_worker=1"),
}
TRIALS = 72
_LONGEST_SECONDS = 300.0
_REPORT = ("table.csv", "table.md", "table.tex", "report.md")
_MASKS = (
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?( ?UTC|Z)?"), "<time>"),
    (re.compile(r"\b\d+(\.\d+)? (s|min|h|ms)\b( \d+ min)?"), "<duration>"),
    (re.compile(r"sha256:?[ `]*[0-9a-f]{8,64}"), "<hash>"),
)
_OF_LAUNCHES = ("- Trained again after a fault", "- Wall clock", "- Ended: ")


def workplace(folder: Path, **simulated: Any) -> Workplace:
    """A place where the simulated command runs the sweep."""
    place = Workplace(folder, None, "tests.chaos.simulated", PYTHONPATH=str(ROOT), SIMULATED=json.dumps(simulated))
    (folder / "search_spaces" / "sweep.yaml").write_text(SPACE)
    return place


def arguments(mode: str) -> list[str]:
    words = ["--space", "sweep.yaml", "--name", NAME, "--num-cpus", "2"]
    return words + [word for setting in MODES[mode] for word in ("--set", setting)]


def uninterrupted(place: Workplace, mode: str) -> tuple[Run, float]:
    """The sweep in one go, and the seconds it took."""
    started = time.monotonic()
    run = place.finish(place.start(*arguments(mode)), NAME)
    assert run.code == 0, run.out
    return run, time.monotonic() - started


def kill_once(place: Workplace, mode: str, instants: random.Random, length: float) -> int:
    """Start the command and kill its driver at an instant; the epochs that stand twice in the ledger because of earlier
    kills."""
    path = place.folder / "runs" / NAME / ledger.FILE_NAME
    before = again(records_of(path))
    process = place.start(*arguments(mode))
    await_instant(place, process, instants, length)
    process.kill()
    process.communicate(timeout=_LONGEST_SECONDS)
    return again(records_of(path)) - before


def await_instant(place: Workplace, process: subprocess.Popen[str], instants: random.Random, length: float) -> None:
    """Wait for an instant of a run, or its end.

    Three in ten instants are drawn from the whole length of a run, the others from soon after a record of the ledger.
    """
    if instants.random() < 0.3:
        _wait(process, instants.uniform(0.0, length))
        return
    path = place.folder / "runs" / NAME / ledger.FILE_NAME
    wanted = len(records_of(path)) + instants.randint(1, 60)
    end = time.monotonic() + length
    while process.poll() is None and time.monotonic() < end and len(records_of(path)) < wanted:
        time.sleep(0.02)
    _wait(process, instants.uniform(0.0, 0.1))


def _wait(process: subprocess.Popen[str], seconds: float) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)


def records_of(path: Path) -> list[ledger.Record]:
    return list(ledger.read(path)) if path.exists() else []


def again(records: list[ledger.Record]) -> int:
    """Epochs that stand more than once in a ledger: they were trained again after an interruption."""
    seen = Counter((record["trial"], record["epoch"]) for record in records if record["event"] == "epoch")
    return sum(seen.values()) - len(seen)


def problems(run: Run, reference: Run) -> list[str]:
    """What a sweep that was broken off lacks against one that was not; empty when nothing is lost."""
    found: list[str] = []
    records = list(ledger.read(run.folder / ledger.FILE_NAME))
    ended: set[str] = set()
    for record in records:
        if record["event"] == "start" and record["trial"] in ended:
            found.append(f"{record['trial']} was started again after its end")
        if record["event"] == "end" and record["state"] in FINAL_STATES:
            if record["trial"] in ended:
                found.append(f"{record['trial']} ended twice")
            ended.add(record["trial"])
    pairs = Counter((trial.cell, trial.seed) for trial in run.trials.values() if trial.state == "finished")
    if len(pairs) != TRIALS or set(pairs.values()) != {1}:
        found.append(f"{len(pairs)} of {TRIALS} pairs of cell and seed, {max(pairs.values(), default=0)} at most")
    if run.numbers != reference.numbers:
        found.append("other numbers than uninterrupted")
    for name in _REPORT:
        ours, theirs = (
            masked((place.folder.parent.parent / "reports" / NAME / name).read_text()) for place in (run, reference)
        )
        if ours != theirs:
            first = next(
                (pair for pair in zip(ours.splitlines(), theirs.splitlines(), strict=False) if pair[0] != pair[1]),
                ("another", "length"),
            )
            found.append(f"{name} differs: {first[0]!r} instead of {first[1]!r}")
    return found


def masked(text: str) -> str:
    """A report without what depends on when and how fast it was made, and in how many launches."""
    for pattern, mask in _MASKS:
        text = pattern.sub(mask, text)
    lines: list[str] = []
    for line in text.splitlines():
        if not line.startswith(_OF_LAUNCHES) and line not in lines[-1:]:
            lines.append(line)
    return "\n".join(lines)
