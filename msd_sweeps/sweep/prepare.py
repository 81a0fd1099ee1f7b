"""What a sweep needs before its first trial: the data checked, every teacher made ready and measured."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from msd_sweeps.distill import checkpoint, teacher
from msd_sweeps.distill.data import loading as data
from msd_sweeps.distill.device import choose_device, device_name
from msd_sweeps.distill.timing import measure_pack
from msd_sweeps.plan.slots import MOST, SlotPlan, largest_trial
from msd_sweeps.records.header import DataRecord, TeacherRecord
from msd_sweeps.records.object_store import StoreError, StorePath
from msd_sweeps.records.trial_record import EpochResult
from msd_sweeps.space.designs import Sweep
from msd_sweeps.space.errors import InputError
from msd_sweeps.space.trial import Trial
from msd_sweeps.sweep.job import Inputs
from msd_sweeps.sweep.run_state import OpenSlots, Run
from msd_sweeps.sweep.stopping import SweepStopped
from msd_sweeps.sweep.store_sync import fetch_teacher, keep_teacher

TEACHERS = "teachers"
_QUIET_SECONDS = 10.0

Say = Callable[[str], None]
"""Shows the user a line."""


class Distillation:
    """The Trainer of this package: students learn from teachers, in worker groups of Ray Train."""

    def __init__(self) -> None:
        self.device = ""
        self.pack: int | None = None
        self._store: StorePath | None = None
        self._hashes: dict[str, str] = {}
        """The hash of each data set's content."""
        self._teachers: dict[str, teacher.Teacher] = {}

    def prepare(self, run: Run) -> list[DataRecord | TeacherRecord]:
        """Make data and teachers of every trial ready, and measure the pack of this machine's GPU.

        Raises InputError, SweepStopped.
        """
        self._store = run.options.store
        device = choose_device(run.sweep.space.resources.use_gpu)
        records: list[DataRecord | TeacherRecord] = []
        for trial in [*_reachable(run.sweep), *(known.configuration for known in run.trials.values())]:
            data_key, teacher_key = _data_key(trial), teacher.cache_key(trial)
            try:
                if data_key not in self._hashes:
                    checked = data_record(trial)
                    self._hashes[data_key] = checked.sha256
                    records.append(checked)
                if teacher_key not in self._teachers:
                    ready = prepare_teacher(trial, run.options.storage, run.say, self._store)
                    self._teachers[teacher_key] = ready
                    fields = {name: value for name, value in ready._asdict().items() if name != "weights"}
                    records.append(TeacherRecord(**fields))
            except (data.DataError, teacher.TeacherError) as error:
                raise InputError(str(error)) from error
            except (StoreError, checkpoint.CheckpointError) as error:
                raise SweepStopped(str(error)) from error
        self.device = device_name(device)
        self.pack = _measured_pack(run.sweep, device, run.say)
        return records

    def inputs(self, trial: Trial) -> Inputs:
        """The data and the teacher of a trial."""
        ready, store = self._teachers[teacher.cache_key(trial)], self._store
        weights = ready.weights.resolve() if store is None else store / TEACHERS / ready.key / ready.weights.name
        return Inputs(self._hashes[_data_key(trial)], str(weights), ready.weights_sha256)

    def open_slots(self, plan: SlotPlan, dispatcher: Any, folder: Path) -> OpenSlots:
        """Start the worker groups of a plan."""
        from msd_sweeps.sweep.worker import serve
        from msd_sweeps.sweep.worker_groups import WorkerGroups

        return WorkerGroups(plan, dispatcher, folder, serve)


def _measured_pack(sweep: Sweep, device: torch.device, say: Say) -> int | None:
    """The best pack on this machine's GPU where the space leaves it open; None without a GPU."""
    if device.type != "cuda" or sweep.space.resources.pack != "auto":
        return None
    pack = measure_pack(largest_trial(sweep), MOST)
    say(f"{time.strftime('%H:%M:%S')}  packs of {pack}: more students gain little on {device_name(device)}")
    torch.cuda.empty_cache()  # the slots need it
    return pack


def _data_key(trial: Trial) -> str:
    return json.dumps(trial.data.identified, sort_keys=True)


def data_record(trial: Trial) -> DataRecord:
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


def prepare_teacher(trial: Trial, storage: Path, say: Say, store: StorePath | None = None) -> teacher.Teacher:
    """One teacher: from the cache in `storage`, imported from its file, or trained now.

    store: the object store, where it is looked for first and kept for the workers. Raises data.DataError,
    teacher.TeacherError, StoreError.
    """
    epochs = trial.teacher.recipe.epochs
    last = time.monotonic()

    def say_now(text: str) -> None:
        say(f"{time.strftime('%H:%M:%S')}  {text}")

    def progress(result: EpochResult) -> None:
        nonlocal last
        if time.monotonic() - last > _QUIET_SECONDS or result.epoch == epochs:
            last = time.monotonic()
            loss = result.metrics.get("train_loss", float("nan"))
            say_now(f"teacher {trial.teacher.model}: epoch {result.epoch} of {epochs}, training loss {loss:.3f}")

    kept = None if store is None else store / TEACHERS / teacher.cache_key(trial)
    if kept is not None:
        fetch_teacher(kept, storage / TEACHERS / kept.name)
    ready = teacher.prepare(trial, storage / TEACHERS, choose_device(), progress, kept)
    if kept is not None:
        keep_teacher(storage / TEACHERS / kept.name, kept)
    on = f"on the test set of {trial.data.name}, {ready.precision}"
    say_now(f"teacher {ready.model} ({ready.source}): {ready.test_top1:.2f} % top-1 {on}")
    return ready


def _reachable(sweep: Sweep) -> Iterator[Trial]:
    """Trials that stand for all data and teachers that the sweep can reach."""
    yield sweep.base
    for planned in sweep.fixed_trials:
        yield planned.trial
    if sweep.space.design == "search":
        yield from (planned.trial for planned in sweep.search_corners())
