"""The loop of a slot's workers: ask for orders, train one epoch of every student, save checkpoints, report."""

import socket
import time
import traceback
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.train.torch
import torch

from msd_sweeps.catalog.datasets import file_sha256
from msd_sweeps.distill import checkpoint, teacher
from msd_sweeps.distill.cohort import Cohort
from msd_sweeps.distill.data import loading as data
from msd_sweeps.distill.data.splits import Splits
from msd_sweeps.distill.device import choose_device
from msd_sweeps.distill.models.network import Network
from msd_sweeps.records.object_store import StoreError, local_file, place
from msd_sweeps.records.trial_record import EpochResult
from msd_sweeps.space.trial import Trial
from msd_sweeps.sweep.dispatcher import Orders
from msd_sweeps.sweep.job import Job

_IDLE_SECONDS = 20.0
_UNSAVED_SECONDS = 600.0


def serve(settings: dict[str, Any]) -> None:
    """Run one worker of a slot until the slot is closed; Ray Train calls it on every worker."""
    torch.set_num_threads(settings["threads"])
    context = ray.train.get_context()
    worker = Worker(
        settings["dispatcher"],
        settings["slot"],
        ray.train.torch.get_device() if torch.cuda.is_available() else choose_device(False),
        context.get_world_rank(),
        context.get_world_size(),
        settings["threads_per_student"],
    )
    worker.run()


class Worker:
    """One process of a slot. Rank 0 speaks with the dispatcher, saves and reports; all ranks train."""

    def __init__(
        self,
        dispatcher: Any,
        slot: int,
        device: torch.device,
        rank: int = 0,
        world_size: int = 1,
        threads_per_student: int = 1,
        unsaved_seconds: float = _UNSAVED_SECONDS,
    ):
        """unsaved_seconds: how long training goes on while an object store takes no checkpoints."""
        self.dispatcher, self.slot, self.device = dispatcher, slot, device
        self.rank, self.world_size = rank, world_size
        self.threads_per_student, self.unsaved_seconds = threads_per_student, unsaved_seconds
        self.cohort: Cohort | None = None
        self.jobs: dict[str, Job] = {}
        """The jobs of the cohort's students, by the ids of their trials."""
        self._idle_since: float | None = None
        self._waited = 0.0
        self._saved = time.monotonic()
        """When the checkpoints were written last, or the slot had none to write."""
        self._splits: dict[str, Splits] = {}
        self._teachers: dict[tuple[str, str], Network] = {}

    def run(self) -> None:
        """Train what the dispatcher orders until it closes the slot."""
        if self.rank == 0:
            ray.get(self.dispatcher.enter.remote(self.slot))
        while True:
            orders = self._orders()
            for trial in orders.drop:
                self._forget(trial)
            self._note_end()
            if orders.close:
                return
            try:
                results = [result for job in orders.admit for result in self.admit(job, orders.position)]
            except StoreError as error:  # no other slot can read there either; the next orders close this one
                ray.get(self.dispatcher.give_up.remote(self.slot, str(error)))
                if self.world_size > 1:
                    raise
                continue
            self._report(results)
            if self.cohort is None or not self.cohort.students:
                continue
            self._note_idle_time()
            results = self.cohort.run_epoch()
            for result in results:
                result.metrics["wait_seconds"] = self._waited
            try:
                self.save()
            except checkpoint.CheckpointError as error:  # no room, or no store; the next orders close this slot
                ray.get(self.dispatcher.give_up.remote(self.slot, str(error)))
                continue
            self.cohort.retire()
            self._note_end()
            self._report(results)

    def _note_end(self) -> None:
        if self.cohort is not None and not self.cohort.students and self._idle_since is None:
            self._idle_since = time.perf_counter()

    def _note_idle_time(self) -> None:
        """How long the slot stood still between its last students and these; 0 in a running cohort."""
        self._waited = 0.0
        if self._idle_since is not None:
            self._waited = time.perf_counter() - self._idle_since
            self._idle_since, self._saved = None, time.monotonic()

    def _orders(self) -> Orders:
        """The same orders for all ranks: rank 0 asks."""
        cohort = self.cohort
        live = list(cohort.students) if cohort else []
        stream, position = (cohort.key, cohort.position) if cohort else (None, 0)
        box = [None]
        if self.rank == 0:
            box[0] = ray.get(self.dispatcher.orders.remote(self.slot, stream, position, live, _IDLE_SECONDS))
        if self.world_size > 1:
            torch.distributed.broadcast_object_list(box, 0)
        assert box[0] is not None
        return box[0]

    def admit(self, job: Job, position: int) -> list[EpochResult]:
        """Seat a trial, from its checkpoint if it has one; the results that the driver has not seen yet.

        A trial that cannot be seated has failed, which is its one result. Raises StoreError.
        """
        try:
            trial = Trial.model_validate_json(job.config)
            if self.cohort is None or self.cohort.key != job.stream:
                self.cohort = self._new_cohort(trial, job)
            found = checkpoint.positions(place(job.folder)).get(position) if job.positions else None
            self.cohort.admit(trial, checkpoint.load(found) if found else None, position)
        except StoreError:
            raise
        except Exception as error:
            if self.world_size > 1:
                raise
            reason = f"{type(error).__name__}: {error}"
            return [EpochResult(job.trial, "failed", 0, 0, 0.0, {}, reason, traceback.format_exc())]
        self.jobs[job.trial] = job
        unseen = [entry for entry in self.cohort.students[job.trial].history if entry.epoch > job.reported]
        self.cohort.retire()
        return unseen

    def _new_cohort(self, trial: Trial, job: Job) -> Cohort:
        """A cohort of the trial's stream. Data and teacher stay loaded while only the stream changes."""
        self.cohort = None
        wanted = trial.data.model_dump_json()
        if wanted not in self._splits:
            splits = data.load(trial.data)
            check_same(f"the data {trial.data.name}", data.content_hash(splits), job.inputs.data_sha256)
            self._splits = {wanted: splits.to(self.device)}
        network, weights = None, job.inputs.weights
        if weights is not None:
            key = (weights, trial.recipe.precision)
            if key not in self._teachers:
                with local_file(weights) as path:
                    check_same(weights, file_sha256(path), job.inputs.weights_sha256)
                    self._teachers = {key: teacher.load(trial, path)}
            network = self._teachers[key]
        splits = self._splits[wanted]
        return Cohort(trial, network, splits, self.device, self.rank, self.world_size, self.threads_per_student)

    def save(self) -> None:
        """Write every student's checkpoint. A trial that goes on without one goes back further after a fault.

        Raises CheckpointError: at once on a disk, and where an object store has taken nothing for `unsaved_seconds`.
        """
        if self.rank != 0 or self.cohort is None:
            return
        for name, student in self.cohort.students.items():
            folder = place(self.jobs[name].folder)
            try:
                checkpoint.save(folder, student.epoch, self.cohort.position, student.state())
            except checkpoint.CheckpointError:
                if isinstance(folder, Path) or time.monotonic() - self._saved > self.unsaved_seconds:
                    raise
                return  # the other students would wait as long for the same answer
        self._saved = time.monotonic()

    def _report(self, results: list[EpochResult]) -> None:
        if self.rank == 0 and results:
            ray.get(self.dispatcher.report.remote(self.slot, results))
        for result in results:
            if result.state != "running":
                self._forget(result.trial)

    def _forget(self, trial: str) -> None:
        if self.cohort is not None:
            self.cohort.drop(trial)
        self.jobs.pop(trial, None)


def check_same(what: str, found: str, expected: str | None) -> None:
    """Raises RuntimeError where this host sees other bytes than the driver saw when it prepared the sweep."""
    if expected is not None and found != expected:
        raise RuntimeError(
            f"{what} differs on {socket.gethostname()}: SHA-256 {found[:12]} there, {expected[:12]} where the sweep "
            "was prepared; give all hosts the same files (shared storage, or equal copies)"
        )
