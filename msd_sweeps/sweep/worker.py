"""Slots: worker groups of Ray Train that ask for orders, train an epoch of every student, save and report."""

import socket
import threading
import time
import traceback
from collections.abc import Iterable
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.train.torch
import torch
from ray.train import UserCallback
from ray.train.torch import TorchConfig, TorchTrainer

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
from msd_sweeps.sweep.dispatcher import Job, Orders
from msd_sweeps.sweep.printing import Printing

_IDLE_SECONDS = 20.0
_UNSAVED_SECONDS = 600.0
_CLOSE_SECONDS = 0.5
_MOST_WORKER_DEATHS = 100


class _Vacate(UserCallback):
    """Reports to the dispatcher at once that a slot's workers have died: their host may never come back."""

    def __init__(self, dispatcher: Any, slot: int):
        self._dispatcher, self._slot = dispatcher, slot

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        controller = ray.get_runtime_context().current_actor
        ray.get(self._dispatcher.vacate.remote(self._slot, controller))


class WorkerGroups:
    """Each slot is a run of Ray Train in a thread of the driver. One whose host is lost waits for room on any host."""

    def __init__(self, plan: SlotPlan, dispatcher: Any, folder: Path):
        """folder: for what Ray leaves behind."""
        self._plan, self._dispatcher, self._folder = plan, dispatcher, folder
        self._threads: list[threading.Thread] = []
        self.grow(plan.slots)

    def grow(self, slots: int) -> None:
        """Start more slots until there are this many."""
        for slot in range(len(self._threads), slots):
            self._threads.append(threading.Thread(target=self._hold, args=(slot,), daemon=True))
            self._threads[-1].start()

    def _hold(self, slot: int) -> None:
        """Run a slot to its end, and tell the dispatcher about it."""
        plan, failure = self._plan, None
        callbacks: list[Any] = [_Vacate(self._dispatcher, slot)]
        try:
            TorchTrainer(
                serve,
                train_loop_config={"dispatcher": self._dispatcher, "slot": slot, "plan": plan},
                # NCCL refuses two workers on one GPU, which fractions allow.
                torch_config=TorchConfig(backend="nccl" if plan.per_worker.get("GPU", 0) >= 1 else "gloo"),
                scaling_config=ray.train.ScalingConfig(
                    num_workers=plan.num_workers,
                    use_gpu=plan.on_gpu,
                    resources_per_worker=plan.per_worker,
                    accelerator_type=plan.accelerator_type,
                    placement_strategy=plan.placement_strategy,
                ),
                run_config=ray.train.RunConfig(
                    name=f"slot-{slot}",
                    storage_path=str(self._folder.resolve()),
                    failure_config=ray.train.FailureConfig(max_failures=_MOST_WORKER_DEATHS),
                    callbacks=callbacks,
                ),
            ).fit()
        except Exception as error:
            failure = f"slot {slot} ended: {type(error).__name__}: {error}"
        try:
            ray.get(self._dispatcher.leave.remote(slot, failure))
        except Exception:
            return  # the dispatcher is gone, and nobody waits for this slot

    def close(self, timeout: float) -> None:
        """End the slots, and wait up to `timeout` seconds for that.

        A slot that waits for a host cannot end by itself, so its controller is killed: a thread that is still inside
        Ray when Ray is shut down takes the process with it.
        """
        end = time.monotonic() + timeout
        while (here := [thread for thread in self._threads if thread.is_alive()]) and time.monotonic() < end:
            for controller in ray.get(self._dispatcher.close.remote()):
                ray.kill(controller)
            here[0].join(_CLOSE_SECONDS)


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
    worker = Worker(settings["dispatcher"], settings["slot"], device, *ranks, plan.threads_per_student)
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
        unsaved_seconds: float = _UNSAVED_SECONDS,
    ):
        """unsaved_seconds: how long training goes on while an object store takes no checkpoints."""
        self.dispatcher, self.slot, self.device = dispatcher, slot, device
        self.rank, self.world_size = rank, world_size
        self.threads_per_student, self.unsaved_seconds = threads_per_student, unsaved_seconds
        self.cohort: Cohort | None = None
        self.jobs: dict[str, Job] = {}
        """The jobs of the cohort's students, by the ids of their trials."""
        self.printing = Printing()
        self._afresh: set[str] = set()
        """Trials that lost their checkpoints, and so begin again."""
        self._trained: float | None = None
        """When the last epoch ended."""
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
            if orders.close:
                return
            try:
                self._follow(orders)
            except (StoreError, checkpoint.CheckpointError) as error:  # of every slot; the next orders close this one
                ray.get(self.dispatcher.give_up.remote(self.slot, str(error)))
                if self.world_size > 1 and isinstance(error, StoreError):  # the other ranks may have read it
                    raise

    def _follow(self, orders: Orders) -> None:
        """Seat new trials and train an epoch. Raises StoreError, CheckpointError where checkpoints cannot be kept."""
        was_empty = self.cohort is None or not self.cohort.students
        told = [result for job in orders.admit for result in self.admit(job)]
        if self.cohort is None or not self.cohort.students:
            self._report(told)
            return
        now, waited = time.monotonic(), 0.0
        if was_empty:  # the slot stood still between its last students and these
            waited, self._saved = now - (self._trained or now), now
        results = self.cohort.run_epoch()
        for result in results:
            result.metrics["wait_seconds"] = waited
        self._keep_finished(results)
        self.save([result.trial for result in results])
        self.cohort.retire()
        self._trained = time.monotonic()
        for result in results:
            told.append(replace(result, afresh=result.trial in self._afresh, printed=self.printing.take(result.trial)))
        self._report(told)

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

    def save(self, trials: Iterable[str]) -> None:
        """Write the checkpoints of some seated trials. One that goes on without goes back further after a fault.

        Raises CheckpointError: at once on a disk, and where an object store has taken nothing for `unsaved_seconds`.
        """
        if self.rank != 0 or self.cohort is None:
            return
        for name, student in ((name, self.cohort.students[name]) for name in trials if name in self.cohort.students):
            folder = place(self.jobs[name].folder)
            try:
                checkpoint.save(folder, student.epoch, student.state())
            except checkpoint.CheckpointError:
                if isinstance(folder, Path) or time.monotonic() - self._saved > self.unsaved_seconds:
                    raise
                return  # the other students would wait as long for the same answer
        self._saved = time.monotonic()

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
