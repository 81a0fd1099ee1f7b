"""What a sweep needs before its first trial: the data checked, every teacher made ready and measured."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import torch

from msd_sweeps.distill import checkpoint, teacher
from msd_sweeps.distill.data import loading as data
from msd_sweeps.distill.device import choose_device, choose_dtype, device_name, fix_arithmetic
from msd_sweeps.distill.fingerprint import code_of, processor_of
from msd_sweeps.distill.timing import measure_pack
from msd_sweeps.plan.slots import MOST, largest_trial
from msd_sweeps.records.fingerprint import Fingerprint
from msd_sweeps.records.header import DataRecord, TeacherRecord
from msd_sweeps.records.object_store import StoreError, StorePath
from msd_sweeps.records.trial_record import EpochResult
from msd_sweeps.space import own_code
from msd_sweeps.space.errors import InputError
from msd_sweeps.space.sections import Resources
from msd_sweeps.space.trial import Trial, identity, teacher_identity
from msd_sweeps.sweep.job import Inputs
from msd_sweeps.sweep.ray_session import nodes
from msd_sweeps.sweep.resume import check_fingerprints
from msd_sweeps.sweep.run_state import Run, SweepStopped
from msd_sweeps.sweep.store_sync import fetch_teacher, keep_teacher
from msd_sweeps.sweep.worker_groups import WorkerGroups

TEACHERS = "teachers"


class Distillation:
    """What trains: students learn from teachers. Tests of the platform have a class that trains nothing."""

    open_slots = WorkerGroups
    """Starts the slots of a plan."""

    def __init__(self) -> None:
        self._resources, self._device = Resources(), choose_device()
        self.device = ""
        """The device's name, for the ledger; known once it is prepared."""
        self.pack: int | None = None
        """Students to pack into a slot, where that was measured on this machine."""
        self._store: StorePath | None = None
        self._data: dict[str, DataRecord] = {}
        self._teachers: dict[str, teacher.Teacher] = {}

    def prepare(self, run: Run) -> list[DataRecord | TeacherRecord]:
        """Make data and teachers ready, and measure a GPU's pack; what to record. Raises InputError, SweepStopped."""
        self._store, sweep = run.options.store, run.sweep
        self._resources = sweep.space.resources
        self._device = device = _slots_device(self._resources.use_gpu, joined=bool(run.options.address))
        known = list(run.trials.values())
        # A mended loss is other code than that of the trials that had finished; the tables say so.
        mended = ("own code",) if run.options.retry_failed else ()
        if not run.options.allow_mixed:
            check_fingerprints(known, self.fingerprint, mended)  # before a teacher is trained for nothing
        corners = sweep.search_corners() if sweep.space.design == "search" else ()
        planned = [planned.trial for planned in (*sweep.fixed_trials, *corners)]
        records: list[DataRecord | TeacherRecord] = []
        for trial in [sweep.base, *planned, *(trial.configuration for trial in known)]:
            if not run.options.address:
                choose_dtype(trial.recipe.precision, device)
            data_key, teacher_key = _data_key(trial), teacher.cache_key(trial)
            try:
                if data_key not in self._data:
                    self._data[data_key] = _data_record(trial)
                    records.append(self._data[data_key])
                if teacher_key not in self._teachers:
                    self._teachers[teacher_key] = prepare_teacher(trial, run.options.storage, run.say, self._store)
                    records.append(self._teachers[teacher_key])
            except data.DataError as error:
                raise InputError(str(error)) from error
            except (StoreError, checkpoint.CheckpointError) as error:
                raise SweepStopped(str(error)) from error
        if not run.options.allow_mixed:
            check_fingerprints(known, self.fingerprint, mended)
        self.device = device_name(device) if device.type == choose_device().type else "the cluster's GPUs"
        if device.type == choose_device().type == "cuda" and sweep.space.resources.pack == "auto":
            share = min(1.0, sweep.space.resources.resources_per_worker.get("GPU", 1.0))
            self.pack = measure_pack(largest_trial(sweep), MOST, share)
            run.say(f"packs of {self.pack}: more students gain little on {self.device}")
            torch.cuda.empty_cache()  # the slots need it
        return records

    def inputs(self, trial: Trial) -> Inputs:
        """The data and the teacher of a trial."""
        ready, store = self._teachers[teacher.cache_key(trial)], self._store
        weights = ready.weights.resolve() if store is None else store / TEACHERS / ready.key / ready.weights.name
        hashes = self._data[_data_key(trial)].sha256, str(weights), ready.weights_sha256
        return Inputs(*hashes, self.fingerprint(trial), tuple(own_code.SOURCES.values()))

    def fingerprint(self, trial: Trial) -> Fingerprint:
        """The facts that decide the numbers of a trial, as far as they are known: data and teacher may not be ready."""
        resources, is_cpu = self._resources, self._device.type == "cpu"
        facts = code_of(trial) | {"device": self._device.type, "precision": trial.recipe.precision}
        facts["workers"] = str(resources.num_workers)
        if is_cpu or torch.cuda.is_available():
            facts["processor"] = processor_of(self._device)
        if is_cpu:
            facts["threads of a student"] = str(resources.threads_per_student)
        else:
            facts["arithmetic"] = fix_arithmetic()
        if data_ready := self._data.get(key := _data_key(trial)):
            facts[f"data {trial.data.name} {identity(key)[:4]}"] = data_ready.sha256[:12]
        if trial.method.needs_teacher and (ready := self._teachers.get(teacher.cache_key(trial))):
            name = f"teacher {trial.teacher.model} {identity(teacher_identity(trial))[:4]}"
            facts[name] = ready.weights_sha256[:12]
        return facts


def _slots_device(use_gpu: bool | str, joined: bool) -> torch.device:
    """The kind of device that slots will train on. joined: whether the nodes of a cluster count, not this machine."""
    has_gpu = any(node.get("GPU") for node in nodes()) if joined else torch.cuda.is_available()
    return torch.device("cuda" if use_gpu is True or (use_gpu == "auto" and has_gpu) else "cpu")


def _data_key(trial: Trial) -> str:
    return json.dumps(trial.data.identified, sort_keys=True)


def _data_record(trial: Trial) -> DataRecord:
    """Load a trial's data: what the ledger keeps of it. Raises data.DataError."""
    splits = data.load(trial.data)
    return DataRecord(
        name=trial.data.name,
        num_classes=trial.data.facts.num_classes,
        train=len(splits.train),
        val=len(splits.val) if splits.val else 0,
        test=len(splits.test),
        sha256=data.content_hash(splits),
    )


def prepare_teacher(
    trial: Trial, storage: Path, say: Callable[[str], None], store: StorePath | None = None
) -> teacher.Teacher:
    """One teacher: from the cache in `storage`, imported from its file, or trained now.

    say: shows the user a line. store: the object store, where it is looked for first and kept for the workers. Raises
    InputError or DataError for a teacher's file or data that cannot be used, StoreError.
    """
    epochs = trial.teacher.recipe.epochs
    last = time.monotonic()

    def progress(result: EpochResult) -> None:
        nonlocal last
        if time.monotonic() - last > 10 or result.epoch == epochs:
            last = time.monotonic()
            loss = result.metrics.get("train_loss", float("nan"))
            say(f"teacher {trial.teacher.model}: epoch {result.epoch} of {epochs}, training loss {loss:.3f}")

    local = storage / TEACHERS / teacher.cache_key(trial)
    kept = None if store is None else store / TEACHERS / local.name
    if kept is not None:
        fetch_teacher(kept, local)
    try:
        ready = teacher.prepare(trial, local.parent, choose_device(), progress, kept)
    except StoreError:
        raise
    except OSError as error:
        reason = f"{error.filename or local}: {error.strerror or error}"
        raise InputError(f"{reason}; the teacher {local} cannot be read or written; mend that, or delete it") from error
    if kept is not None:
        keep_teacher(local, kept)
    on = f"on the test set of {trial.data.name}, {ready.precision}"
    say(f"teacher {ready.model} ({ready.source}): {ready.test_top1:.2f} % top-1 {on}")
    return ready
