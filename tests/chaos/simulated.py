"""The command with a trainer that trains nothing: `python -m tests.chaos.simulated --space FILE ...`.

Everything but the training is real: the plan, the trial queue, Ray Tune, the dispatcher and its protocol, checkpoints,
the ledger, the MLflow mirror, the report. A trial's numbers are invented from its id and the epoch, so that they are
the same however often it was broken off. The environment variable SIMULATED holds settings as JSON.
seconds: what an epoch takes. keep: whether checkpoints are written. faults: a list of [dotted path of the
configuration, value, what happens in the second epoch: failed, out_of_memory, diverged, killed]. full: a file; while it
exists the disk takes no checkpoint. full_for_driver: the same for the ledger.
"""

import errno
import hashlib
import json
import os
import signal
import sys
import threading
import time
import traceback
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import msd_sweeps.sweep  # noqa: F401  Ray reads the settings that this makes when it is imported

# isort: split
import ray

from msd_sweeps import run
from msd_sweeps.distill import checkpoint
from msd_sweeps.plan.slots import SlotPlan
from msd_sweeps.records.header import DataRecord, TeacherRecord
from msd_sweeps.records.object_store import place
from msd_sweeps.records.trial_record import EpochResult
from msd_sweeps.space.trial import Trial
from msd_sweeps.sweep.job import Inputs, Job
from msd_sweeps.sweep.run_state import Run

_IDLE_SECONDS = 20.0
_MOST_STARTS = 100


def settings() -> dict[str, Any]:
    usual = {"seconds": 0.0, "keep": True, "faults": [], "full": "/nowhere", "full_for_driver": "/nowhere"}
    return usual | json.loads(os.environ.get("SIMULATED", "{}"))


def invented(trial: str, epoch: int, is_last: bool) -> dict[str, float]:
    """Metrics between 0 and 100 that only the trial and the epoch decide."""
    digest = hashlib.sha256(f"{trial} {epoch}".encode()).digest()
    top1 = int.from_bytes(digest[:4]) / 2**32 * 100
    metrics = {"train_loss": 1 / epoch, "train_top1": top1 / 2, "val_top1": top1, "step_seconds": 0.001}
    return metrics | ({"test_top1": top1} if is_last else {})


def fill_the_disk_while(path: Path) -> None:
    """Let no file of this process reach the disk while `path` exists."""
    fsync = os.fsync

    def full(descriptor: int) -> None:
        if path.exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    os.fsync = full


class _Student:
    def __init__(self, job: Job, wanted: dict[str, Any]):
        self.job, self.config = job, json.loads(job.config)
        self.epochs = self.config["recipe"]["epochs"]
        self.faults = [kind for path, value, kind in wanted["faults"] if _at(self.config, path) == value]
        self.history: list[EpochResult] = []
        folder = place(job.folder)
        found = checkpoint.newest(folder, job.reported) if job.reported else None
        self.is_afresh = found is None and job.reported > 0
        if found is not None:
            self.history = [EpochResult(**fields) for fields in json.loads(checkpoint.read(found))]

    def epoch(self) -> EpochResult:
        """One more epoch. Raises what the settings ask for."""
        epoch = len(self.history) + 1
        if epoch == 2 and "failed" in self.faults:
            raise RuntimeError("invented trouble")
        if epoch == 2 and "out_of_memory" in self.faults:
            raise MemoryError("invented lack of memory")
        if epoch == 2 and "killed" in self.faults:  # as by a system that is short of memory
            os.kill(os.getpid(), signal.SIGKILL)
        if epoch == 2 and "diverged" in self.faults:
            raise ArithmeticError("the training loss of epoch 2 is nan")
        is_last = epoch >= self.epochs
        metrics, state = invented(self.job.trial, epoch, is_last), "finished" if is_last else "running"
        self.history.append(EpochResult(self.job.trial, state, epoch, 0.001, metrics))
        return replace(self.history[-1], afresh=self.is_afresh)


def _at(config: dict[str, Any], path: str) -> Any:
    value: Any = config
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _lost(student: _Student, error: Exception) -> EpochResult:
    states = {MemoryError: "out_of_memory", ArithmeticError: "diverged"}
    state = states.get(type(error), "failed")
    trace = traceback.format_exc() if state != "diverged" else ""
    reason = f"{type(error).__name__}: {error}"
    return EpochResult(student.job.trial, state, len(student.history), 0.001, {}, reason, trace)


def serve(of_slot: dict[str, Any]) -> None:
    """What sweep.worker.serve does, without a network."""
    wanted = settings()
    fill_the_disk_while(Path(wanted["full"]))
    dispatcher, slot = of_slot["dispatcher"], of_slot["slot"]
    ray.get(dispatcher.enter.remote(slot))
    stream: str | None = None
    live: dict[str, _Student] = {}
    while True:
        orders = ray.get(dispatcher.orders.remote(slot, stream, list(live), _IDLE_SECONDS))
        for trial in orders.drop:
            del live[trial]
        if orders.close:
            return
        for job in orders.admit:
            stream = job.stream
            live[job.trial] = _Student(job, wanted)
        if not live:
            continue
        time.sleep(wanted["seconds"])
        results = []
        first = min(len(student.history) for student in live.values())
        group = [student for student in live.values() if len(student.history) == first]
        for student in group:
            try:
                results.append(student.epoch())
            except Exception as error:
                results.append(_lost(student, error))
        if wanted["keep"]:
            for student in group:
                content = json.dumps([asdict(result) for result in student.history]).encode()
                try:
                    checkpoint.write(place(student.job.folder), len(student.history), content)
                except checkpoint.CheckpointError as error:
                    ray.get(dispatcher.give_up.remote(slot, str(error)))
        _report(dispatcher, slot, results, live)


def _report(dispatcher: Any, slot: int, results: list[EpochResult], live: dict[str, _Student]) -> None:
    if results:
        ray.get(dispatcher.report.remote(slot, results))
    for result in results:
        if result.state != "running":
            del live[result.trial]


class SimulatedSlot:
    """A slot's process."""

    def serve(self, of_slot: dict[str, Any]) -> None:
        serve(of_slot)


class SimulatedSlots:
    """Slots without Ray Train: an actor each, started again when it dies."""

    def __init__(self, plan: SlotPlan, dispatcher: Any):
        self.dispatcher = dispatcher
        self._threads = [
            threading.Thread(target=self._hold, args=(slot, plan), daemon=True) for slot in range(plan.slots)
        ]
        for thread in self._threads:
            thread.start()

    def _hold(self, slot: int, plan: SlotPlan) -> None:
        failure = None
        try:
            self._serve(slot, plan)
        except Exception as error:
            failure = f"slot {slot} ended: {type(error).__name__}: {error}"
        try:
            ray.get(self.dispatcher.leave.remote(slot, failure))
        except Exception:
            return  # the dispatcher is gone, and nobody waits for this slot

    def _serve(self, slot: int, plan: SlotPlan) -> None:
        for _ in range(_MOST_STARTS):
            actor = ray.remote(num_cpus=plan.threads)(SimulatedSlot).remote()
            try:
                ray.get(actor.serve.remote({"dispatcher": self.dispatcher, "slot": slot}))
            except ray.exceptions.RayActorError:
                continue
            return

    def grow(self, slots: int) -> None:
        """Nothing: one machine does not grow."""

    def close(self, timeout: float) -> None:
        ray.get(self.dispatcher.close.remote())
        for thread in self._threads:
            thread.join(timeout)


class Simulation:
    """The trainer: nothing is read or trained, and the ledger has a teacher that is none."""

    device = "simulated"
    pack = None

    def prepare(self, run: Run) -> list[DataRecord | TeacherRecord]:
        base = run.sweep.base
        teacher = TeacherRecord(
            key="simulated",
            model=base.teacher.model,
            source="trained",
            weights_sha256="simulated",
            test_top1=50.0,
            precision="float32",
            seconds=0.0,
        )
        classes = base.data.facts.num_classes
        data = DataRecord(name=base.data.name, num_classes=classes, train=1, val=0, test=1, sha256="simulated")
        return [data, teacher]

    def inputs(self, trial: Trial) -> Inputs:
        return Inputs("", "", "")

    def open_slots(self, plan: SlotPlan, dispatcher: Any, folder: Path) -> SimulatedSlots:
        return SimulatedSlots(plan, dispatcher)


if __name__ == "__main__":
    # By its importable name, so that Ray's workers find the classes.
    from tests.chaos import simulated

    fill_the_disk_while(Path(settings()["full_for_driver"]))
    sys.exit(run.main(sys.argv[1:], simulated.Simulation()))
