"""`kill -9` of a process that runs a sweep's trial queue and writes its ledger and checkpoints, without Ray.

The process is forked, so that many instants cost little: they fall into single writes and not into imports.
"""

import json
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

from msd_sweeps.distill import checkpoint
from msd_sweeps.records import ledger
from msd_sweeps.records.ledger import Ledger
from msd_sweeps.records.trial_record import EpochResult, TrialRecord, trials_of
from msd_sweeps.space.designs import Sweep
from msd_sweeps.space.load import load_base
from msd_sweeps.space.schema import Space
from msd_sweeps.sweep.lock import locked
from msd_sweeps.sweep.run_state import Run
from msd_sweeps.sweep.trial_queue import Pause, TrialQueue
from tests.chaos import disk
from tests.chaos.disk import Operations, Synced
from tests.chaos.judging import epochs_lost, records_of
from tests.chaos.simulated import Simulation, invented

EPOCHS = 4
_WEIGHTS, _TEMPERATURES = [0.5, 1.0, 1.5, 2.0, 2.5, 3.0], [0.05, 0.1, 0.2, 0.4]


def make(weights: list[float] = _WEIGHTS, temperatures: list[float] = _TEMPERATURES, seeds: int = 3) -> Sweep:
    """24 cells x 3 seeds, or fewer."""
    tree = {
        "base": "digits",
        "design": "grid",
        "metric": {"name": "test_top1"},
        "seeds": list(range(seeds)),
        "parameters": {
            "method.sample_weight": {"choices": weights},
            "method.sample_temperature": {"choices": temperatures},
        },
    }
    base = load_base("digits", [f"recipe.epochs={EPOCHS}"])
    return Sweep("writer", Space.model_validate_json(json.dumps(tree)), base)


def run(sweep: Sweep, folder: Path) -> None:
    """Go on with the sweep to its end."""
    with locked(folder, "writer"):
        path = folder / ledger.FILE_NAME
        trials = trials_of(ledger.read(path) if path.exists() else [])
        state = Run(sweep, folder, trials, Ledger(path))
        state.remove_left_over_checkpoints()
        queue = TrialQueue(state, Simulation().inputs)
        while not isinstance(job := queue.next(), Pause):
            _train(queue, trials[job.trial], folder / "checkpoints" / job.trial)
        state.ledger.close()


def _train(queue: TrialQueue, trial: TrialRecord, folder: Path) -> None:
    found = checkpoint.newest(folder, len(trial.epochs))
    behind = json.loads(checkpoint.read(found))["epoch"] if found else 0
    assert not trial.has_every_epoch, "workers have nothing to tell of it, and would never end it"
    for epoch in range(behind + 1, EPOCHS + 1):
        if epoch < EPOCHS:
            checkpoint.write(folder, epoch, json.dumps({"epoch": epoch, "filler": "x" * 50_000}).encode())
        metrics = invented(trial.trial, epoch, epoch == EPOCHS)
        attempt = trial.attempts
        queue.take([EpochResult(trial.trial, "running", epoch, 1.0, metrics, slot=0, attempt=attempt)])
    queue.end(trial.trial, "finished")


def kill_often(folder: Path, instants: random.Random, times: int) -> tuple[int, list[str], int]:
    """Kill it so many times over as many sweeps as that takes: kills, what was lost, epochs that were told again."""
    sweep, tried, found, lost, life = make(), 0, [], 0, 0
    while tried < times:
        place = folder / str(life)
        while tried < times and not _ended(place, sweep, instants.uniform(0.0, 0.5)):
            tried += 1
        run(sweep, place)
        problems, again = judged(sweep, place)
        found += problems
        lost += again
        life += 1
    return tried, found, lost


def _ended(place: Path, sweep: Sweep, seconds: float) -> bool:
    """Run the sweep in a process that is killed after so many seconds; whether it was done before."""
    child = os.fork()
    if child == 0:
        try:
            run(sweep, place)
        finally:
            os._exit(0)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if os.waitpid(child, os.WNOHANG)[0]:
            return True
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def each_operation(folder: Path, fails: bool, cuts_power: bool = False, every: int = 1) -> tuple[int, list[str], int]:
    """Let the n-th operation on files be refused, or the process die at it, for n = 1, 2, and so on to the end.

    cuts_power: whether what was not synced is lost then. every: tries only so many. Gives what `kill_often` does.
    """
    sweep, found, lost, number, tried = make([0.5, 1.0], [0.1], 2), [], 0, 0, -1
    code = disk.EXIT_CODE
    while code:
        number, tried = number + every, tried + 1
        root = folder / str(number)
        root.mkdir()
        synced = Synced(root, folder / "synced") if cuts_power else None
        place = root / "runs" / "writer"
        code = _run_on(Operations(root, number, fails, synced), sweep, place)
        if synced is not None:
            path, before = place / ledger.FILE_NAME, records_of(place / ledger.FILE_NAME)
            whole = before[:-1]  # the last one may not have been synced
            known = Counter(record["trial"] for record in whole if record["event"] == "epoch")
            synced.cut()
            if len(records_of(path)) < len(whole):
                found.append(f"operation {number}: {len(records_of(path))} of {len(before)} records are left")
            lost += epochs_lost(known, path)
        run(sweep, place)
        problems, again = judged(sweep, place)
        found += [f"operation {number}: {problem}" for problem in problems]
        lost += again
    return tried, found, lost


def _run_on(operations: Operations, sweep: Sweep, place: Path) -> int:
    """Run the sweep in a process of its own; its exit code, 0 where it did not come to the operation."""
    child = os.fork()
    if child == 0:
        try:
            operations.install()
            run(sweep, place)
        finally:
            os._exit(disk.EXIT_CODE if operations.count >= operations.at else 0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def judged(sweep: Sweep, place: Path) -> tuple[list[str], int]:
    """What a sweep lacks that has gone to its end, and how many epochs stand twice in its ledger."""
    records = list(ledger.read(place / ledger.FILE_NAME))
    found: list[str] = []
    ended: set[str] = set()
    planned = {trial.trial.id for trial in sweep.fixed_trials}
    for record in records:
        if record["event"] == "start" and record["trial"] in ended:
            found.append(f"{record['trial']} was started again after its end")
        if record["event"] == "end":
            if record["trial"] in ended:
                found.append(f"{record['trial']} ended twice")
            ended.add(record["trial"])
    if ended != planned:
        found.append(f"{len(ended)} of {len(planned)} trials ended")
    for name, trial in trials_of(records).items():
        expected = [(epoch, invented(name, epoch, epoch == EPOCHS)) for epoch in range(1, EPOCHS + 1)]
        if [(epoch.epoch, epoch.metrics) for epoch in trial.epochs] != expected:
            found.append(f"{name} has other epochs than uninterrupted")
    if list((place / "checkpoints").glob("*/*.pt")):
        found.append("checkpoints of ended trials are left")
    epochs = [(record["trial"], record["epoch"]) for record in records if record["event"] == "epoch"]
    return found, len(epochs) - len(set(epochs))
