"""The loop of a slot's workers: ask for trials, train an epoch of all of them, save, report."""

import socket
import time
import traceback
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.train.torch
import torch

from msd_sweeps.catalog.files import file_sha256
from msd_sweeps.distill import checkpoint, teacher
from msd_sweeps.distill.cohort import Cohort
from msd_sweeps.distill.data import loading as data
from msd_sweeps.distill.data.loading import Splits
from msd_sweeps.distill.device import choose_device
from msd_sweeps.distill.models.network import Network
from msd_sweeps.records.object_store import StoreError, place
from msd_sweeps.records.trial_record import EpochResult
from msd_sweeps.space.trial import Trial
from msd_sweeps.sweep.dispatcher import Job, Orders
from msd_sweeps.sweep.stored_teachers import local_file

_IDLE_SECONDS = 20.0
_UNSAVED_SECONDS = 600.0
"""So long training goes on where an object store takes no checkpoints."""


def serve(settings: dict[str, Any]) -> None:
    """Runs on every worker of a slot for as long as the sweep lasts."""
    torch.set_num_threads(settings["threads"])
    _Slot(settings["dispatcher"], settings["slot"], settings["threads_per_student"]).run()


class _Slot:
    def __init__(self, dispatcher: Any, number: int, threads_per_student: int):
        context = ray.train.get_context()
        self.dispatcher, self.number = dispatcher, number
        self.threads_per_student = threads_per_student
        self.rank, self.world_size = context.get_world_rank(), context.get_world_size()
        self.device = ray.train.torch.get_device() if torch.cuda.is_available() else choose_device(False)
        self.cohort: Cohort | None = None
        self.jobs: dict[str, Job] = {}
        self._idle_since: float | None = None
        self._waited = 0.0
        self._saved = time.monotonic()
        """When the checkpoints were written last, or the slot had none to write."""
        self._splits: dict[str, Splits] = {}
        self._teachers: dict[tuple[str, str], Network] = {}

    def run(self) -> None:
        if self.rank == 0:
            ray.get(self.dispatcher.enter.remote(self.number))
        while True:
            orders = self._orders()
            for trial in orders.drop:
                self._forget(trial)
            self._note_end()
            if orders.close:
                return
            try:
                results = [result for job in orders.admit for result in self._admit(job, orders.position)]
            except StoreError as error:  # others cannot read there either; the next orders are to go home
                ray.get(self.dispatcher.give_up.remote(self.number, str(error)))
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
                self._save()
            except checkpoint.CheckpointError as error:  # no room, or no store; the next orders are to go home
                ray.get(self.dispatcher.give_up.remote(self.number, str(error)))
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
        key, position = (cohort.key, cohort.position) if cohort else (None, 0)
        box = [None]
        if self.rank == 0:
            box[0] = ray.get(self.dispatcher.orders.remote(self.number, key, position, live, _IDLE_SECONDS))
        if self.world_size > 1:
            torch.distributed.broadcast_object_list(box, 0)
        assert box[0] is not None
        return box[0]

    def _admit(self, job: Job, position: int) -> list[EpochResult]:
        """Seat a trial; gives the results that the driver has not seen yet, or why it cannot be seated.

        Raises StoreError.
        """
        name = job["trial"]
        try:
            trial = Trial.model_validate_json(job["config"])
            if self.cohort is None or self.cohort.key != job["key"]:
                self.cohort = self._new_cohort(trial, job)
            found = checkpoint.positions(place(job["folder"])).get(position) if job["positions"] else None
            self.cohort.admit(trial, checkpoint.load(found) if found else None, position)
        except StoreError:
            raise
        except Exception as error:
            if self.world_size > 1:
                raise
            return [_failed(name, error)]
        self.jobs[name] = job
        student = self.cohort.students[name]
        unseen = [entry for entry in student.history if entry.epoch > job["reported"]]
        self.cohort.retire()
        return unseen

    def _new_cohort(self, trial: Trial, job: Job) -> Cohort:
        """Data and teacher are loaded once and kept while the slot turns from key to key."""
        self.cohort = None
        wanted = trial.data.model_dump_json()
        if wanted not in self._splits:
            splits = data.load(trial.data)
            check_same(f"the data {trial.data.name}", data.content_hash(splits), job.get("data_sha256"))
            self._splits = {wanted: splits.to(self.device)}
        network, weights = None, job["weights"]
        if weights is not None:
            key = (weights, trial.recipe.precision)
            if key not in self._teachers:
                with local_file(weights) as path:
                    check_same(weights, file_sha256(path), job.get("weights_sha256"))
                    self._teachers = {key: teacher.load(trial, path)}
            network = self._teachers[key]
        splits = self._splits[wanted]
        return Cohort(trial, network, splits, self.device, self.rank, self.world_size, self.threads_per_student)

    def _save(self) -> None:
        """Raises CheckpointError: at once on a disk, and where an object store has taken nothing for some minutes.

        What goes on without a checkpoint goes back further after a fault, for the same numbers.
        """
        if self.rank != 0 or self.cohort is None:
            return
        for name, student in self.cohort.students.items():
            folder = place(self.jobs[name]["folder"])
            try:
                checkpoint.save(folder, student.epoch, self.cohort.position, student.state())
            except checkpoint.CheckpointError:
                if isinstance(folder, Path) or time.monotonic() - self._saved > _UNSAVED_SECONDS:
                    raise
                return  # others would wait as long for the same answer
        self._saved = time.monotonic()

    def _report(self, results: list[EpochResult]) -> None:
        if self.rank == 0 and results:
            ray.get(self.dispatcher.report.remote(self.number, results))
        for result in results:
            if result.state != "running":
                self._forget(result.trial)

    def _forget(self, trial: str) -> None:
        if self.cohort is not None:
            self.cohort.drop(trial)
        self.jobs.pop(trial, None)


def check_same(what: str, found: str, expected: str | None) -> None:
    """Raises RuntimeError where this host sees other bytes than the one that prepared the sweep."""
    if expected is not None and found != expected:
        raise RuntimeError(
            f"{what} differs on {socket.gethostname()}: SHA-256 {found[:12]} there, {expected[:12]} where the sweep "
            "was prepared; give all hosts the same files (shared storage, or equal copies)"
        )


def _failed(trial: str, error: Exception) -> EpochResult:
    reason = f"{type(error).__name__}: {error}"
    return EpochResult(trial, "failed", 0, 0, 0.0, {}, reason, traceback.format_exc())
