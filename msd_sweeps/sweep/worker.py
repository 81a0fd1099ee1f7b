"""The workers of a slot: they ask for orders, train an epoch of every student, save and report."""

import socket
import time
import traceback
from collections.abc import Iterable
from contextlib import redirect_stdout, suppress
from dataclasses import replace
from typing import Any

import ray
import ray.train
import ray.train.torch
import torch

from msd_sweeps.catalog.datasets import file_sha256
from msd_sweeps.distill import checkpoint, kept, teacher
from msd_sweeps.distill.cohort import Cohort
from msd_sweeps.distill.data import loading as data
from msd_sweeps.distill.data.splits import Splits
from msd_sweeps.distill.device import choose_device, fix_arithmetic
from msd_sweeps.distill.fingerprint import code_of
from msd_sweeps.distill.models.network import Network
from msd_sweeps.plan.slots import SlotPlan
from msd_sweeps.records.fingerprint import differences
from msd_sweeps.records.object_store import StoreError, local_file, place
from msd_sweeps.records.trial_record import EpochResult
from msd_sweeps.space import own_code
from msd_sweeps.space.trial import Trial
from msd_sweeps.sweep.job import Job, Orders
from msd_sweeps.sweep.printing import Printing
from msd_sweeps.sweep.saving import Saver

_IDLE_SECONDS = 20.0


class FreshProcess(Exception):
    """The worker ends in order, because only a new process can go on: a failed CUDA capture leaves traces."""


def serve(settings: dict[str, Any]) -> None:
    """Run one worker of a slot until the slot is closed; Ray Train calls it on every worker."""
    plan: SlotPlan = settings["plan"]
    torch.set_num_threads(plan.threads)
    fix_arithmetic()
    context = ray.train.get_context()
    device = ray.train.torch.get_device() if torch.cuda.is_available() else choose_device(False)
    if device.type == "cuda" and plan.per_worker["GPU"] < 1:  # the rest of its memory belongs to other workers
        torch.cuda.set_per_process_memory_fraction(plan.per_worker["GPU"], device)
    ranks = context.get_world_rank(), context.get_world_size()
    saver = Saver(plan.checkpoint_seconds)
    worker = Worker(settings["dispatcher"], settings["slot"], device, *ranks, plan.threads_per_student, saver)
    with redirect_stdout(worker.printing):
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
        saver: Saver | None = None,
    ):
        self.dispatcher, self.slot, self.device = dispatcher, slot, device
        self.rank, self.world_size = rank, world_size
        self.threads_per_student, self.saver = threads_per_student, saver or Saver()
        self.cohort: Cohort | None = None
        self.jobs: dict[str, Job] = {}
        """The jobs of the cohort's students, by the ids of their trials."""
        self.printing = Printing()
        self._afresh: set[str] = set()
        """Trials that lost their checkpoints, and so begin again."""
        self._trained: float | None = None
        """When the last epoch ended."""
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
            if orders.close:
                break
            try:
                self._follow(orders)
                self._renew()
            except (StoreError, checkpoint.CheckpointError) as error:  # of every slot; the next orders close this one
                ray.get(self.dispatcher.give_up.remote(self.slot, str(error)))
                if self.world_size > 1 and isinstance(error, StoreError):  # the other ranks may have read it
                    raise
        with suppress(checkpoint.CheckpointError):  # they are ended already, or go on from an earlier one
            self.saver.flush()

    def _follow(self, orders: Orders) -> None:
        """Seat new trials and train an epoch. Raises StoreError, CheckpointError where checkpoints cannot be kept."""
        was_empty = self.cohort is None or not self.cohort.students
        told = [result for job in orders.admit for result in self.admit(job)]
        if self.cohort is None or not self.cohort.students:
            self._report(told)
            return
        now, waited = time.monotonic(), 0.0
        if was_empty:  # the slot stood still between its last students and these
            waited, self.saver.written = now - (self._trained or now), now
        results = self.cohort.run_epoch()
        for result in results:
            result.metrics["wait_seconds"] = waited
        self._keep_finished(results)
        self.save(results)
        self.cohort.retire()
        self._trained = time.monotonic()
        for result in results:
            told.append(replace(result, afresh=result.trial in self._afresh, printed=self.printing.take(result.trial)))
        self._report(told)

    def _renew(self) -> None:
        """Raises FreshProcess where this process must not go on. Its epoch is saved and reported: nothing is lost."""
        if self.cohort is not None and self.cohort.stepping.broken:
            self.save(now=True)
            ray.get(self.dispatcher.enter.remote(self.slot, False))
            raise FreshProcess(f"slot {self.slot}: a CUDA graph could not be captured; a new process goes on")

    def _orders(self) -> Orders:
        """The same orders for all ranks: rank 0 asks."""
        box: list[Any] = [None]
        if self.rank == 0:
            cohort = self.cohort
            state = (cohort.key, list(cohort.students)) if cohort else (None, [])
            box[0] = ray.get(self.dispatcher.orders.remote(self.slot, *state, _IDLE_SECONDS))
        if self.world_size > 1:
            torch.distributed.broadcast_object_list(box, 0)
        orders: Orders = box[0]
        return orders

    def admit(self, job: Job) -> list[EpochResult]:
        """Seat a trial, from the epoch that the driver knows if that has a checkpoint.

        Returns nothing, or the one result of a trial that cannot be seated and has failed. Raises StoreError.
        """
        try:
            trial = own_code.trial_of(job.config, job.inputs.code)
            if self.cohort is None or self.cohort.key != job.stream:
                self.cohort = self._new_cohort(trial, job)
            found = checkpoint.newest(place(job.folder), job.reported) if job.reported else None
            self.cohort.admit(trial, checkpoint.load(found) if found else None)
            self.printing.listen(job.trial, self.cohort.students[job.trial].distiller)
            self._afresh |= {job.trial} if job.reported and found is None else set()
            if found is None and self.rank == 0:  # what an earlier beginning has left would push the new ones out
                checkpoint.remove(place(job.folder))
        except Exception as error:
            if self.world_size > 1 or isinstance(error, StoreError):
                raise
            reason = f"{type(error).__name__}: {error}"
            return [EpochResult(job.trial, "failed", 0, 0.0, {}, reason, traceback.format_exc())]
        self.jobs[job.trial] = job
        return []

    def _new_cohort(self, trial: Trial, job: Job) -> Cohort:
        """A cohort of the trial's stream. Data and teacher stay loaded while only the stream changes."""
        self.cohort = None
        own = code_of(trial) | {"device": self.device.type}
        expected = {name: fact for name, fact in job.inputs.fingerprint.items() if name in own}
        if expected and (differing := differences(expected, own)):
            raise RuntimeError(
                f"{socket.gethostname()} is not as the driver: {'; '.join(differing)} (there: the driver)"
            )
        wanted = trial.data.model_dump_json()
        if wanted not in self._splits:
            splits = data.load(trial.data)
            check_same(f"the data {trial.data.name}", data.content_hash(splits), job.inputs.data_sha256)
            self._splits = {wanted: splits.to(self.device)}
        weights = job.inputs.weights
        key = (weights, trial.recipe.precision)
        if key not in self._teachers:
            with local_file(weights) as path:
                check_same(weights, file_sha256(path), job.inputs.weights_sha256)
                self._teachers = {key: teacher.load(trial, path)}
        ranks = self.rank, self.world_size
        return Cohort(trial, self._teachers[key], self._splits[wanted], self.device, *ranks, self.threads_per_student)

    def save(self, results: Iterable[EpochResult] = (), now: bool = False) -> None:
        """Save the seated students that are not done, see `Saver`. Raises CheckpointError.

        now: whatever it costs. results: of the epoch. Where the driver may end a trial after it, nothing of that trial
        is written any more.
        """
        if self.rank != 0 or self.cohort is None:
            return
        students = {name: one for name, one in self.cohort.students.items() if not one.is_done}
        self.saver.save({name: (place(self.jobs[name].folder), one) for name, one in students.items()}, now)
        if any(result.state != "running" or self.jobs[result.trial].decides(result) for result in results):
            self.saver.flush()

    def _keep_finished(self, results: list[EpochResult]) -> None:
        """Keep the weights of students that have finished, before anyone hears that they have. Raises as `save`."""
        cohort = self.cohort
        if self.rank != 0 or cohort is None:
            return
        for result in results:
            folder = self.jobs[result.trial].keep if result.state == "finished" else ""
            if folder:
                kept.keep(place(folder), cohort.students[result.trial], cohort.splits, cohort.dtype)

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
        self._afresh.discard(trial)


def check_same(what: str, found: str, expected: str) -> None:
    """Raises RuntimeError where this host sees other bytes than the driver saw when it prepared the sweep."""
    if found != expected:
        raise RuntimeError(
            f"{what} differs on {socket.gethostname()}: SHA-256 {found[:12]} there, {expected[:12]} where the sweep "
            "was prepared; give all hosts the same files (shared storage, or equal copies)"
        )
