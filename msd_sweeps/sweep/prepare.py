"""What a sweep needs before its first trial: the data checked, every teacher made ready and measured."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from rich.console import Console

from msd_sweeps.distill import teacher
from msd_sweeps.distill.data import loading as data
from msd_sweeps.distill.device import choose_device, device_name
from msd_sweeps.distill.timing import measure_pack
from msd_sweeps.plan.packing import MOST, largest_trial
from msd_sweeps.records.header import DataRecord, TeacherRecord
from msd_sweeps.records.object_store import StorePath
from msd_sweeps.records.trial_record import EpochResult, TrialRecord
from msd_sweeps.space.designs import Sweep
from msd_sweeps.space.errors import InputError
from msd_sweeps.space.trial import Trial
from msd_sweeps.sweep.stored_teachers import fetch_teacher, keep_teacher
from msd_sweeps.sweep.trainer import Prepared

TEACHERS = "teachers"


def prepare(
    sweep: Sweep, trials: dict[str, TrialRecord], storage: Path, console: Console, store: StorePath | None = None
) -> Prepared:
    """Make data and teachers ready, once for the sweep, where storage and, if there is one, the object store are.

    Raises InputError, StoreError.
    """
    device = choose_device(sweep.space.resources.use_gpu)
    records: list[DataRecord | TeacherRecord] = []
    seen: dict[str, str] = {}
    teachers: dict[str, teacher.Teacher] = {}
    reachable = [*_reachable(sweep), *(trial.configuration for trial in trials.values())]
    for trial in reachable:
        try:
            seen_as = _data_key(trial)
            if seen_as not in seen:
                splits = data.load(trial.data)
                seen[seen_as] = data.content_hash(splits)
                records.append(
                    DataRecord(
                        name=trial.data.name,
                        num_classes=trial.data.facts.num_classes,
                        train=len(splits.train),
                        val=len(splits.val) if splits.val else 0,
                        test=len(splits.test),
                        sha256=seen[seen_as],
                    )
                )
            key = teacher.cache_key(trial)
            if key in teachers:
                continue
            ready = prepare_teacher(trial, storage, console, store)
        except (data.DataError, teacher.TeacherError) as error:
            raise InputError(str(error)) from error
        teachers[key] = ready
        fields = {name: value for name, value in ready._asdict().items() if name != "weights"}
        records.append(TeacherRecord(**fields))

    def of(record: TrialRecord) -> teacher.Teacher:
        return teachers[teacher.cache_key(record.configuration)]

    def hashes(record: TrialRecord) -> dict[str, str]:
        data_sha256 = seen[_data_key(record.configuration)]
        return {"data_sha256": data_sha256, "weights_sha256": of(record).weights_sha256}

    def weights(record: TrialRecord) -> str:
        ready = of(record)
        return str(ready.weights.resolve() if store is None else store / TEACHERS / ready.key / ready.weights.name)

    return Prepared(records, weights, device_name(device), hashes, _worthwhile_pack(sweep, device, console))


def _worthwhile_pack(sweep: Sweep, device: torch.device, console: Console) -> int | None:
    """The pack to have on this machine's GPU where the space leaves it open; None where there is none to try."""
    if device.type != "cuda" or sweep.space.resources.pack != "auto":
        return None
    pack = measure_pack(largest_trial(sweep), MOST)
    console.print(f"{time.strftime('%H:%M:%S')}  packs of {pack}: more students gain little on {device_name(device)}")
    torch.cuda.empty_cache()  # the slots need it
    return pack


def _data_key(trial: Trial) -> str:
    return json.dumps(trial.data.identified, sort_keys=True)


def prepare_teacher(trial: Trial, storage: Path, console: Console, store: StorePath | None = None) -> teacher.Teacher:
    """One teacher from the cache, its file, or trained now, with what is done and measured told on the console.

    store: where it is looked for first, and kept for the workers. Raises data.DataError, teacher.TeacherError,
    StoreError.
    """
    epochs = trial.teacher.recipe.epochs
    last = time.monotonic()

    def say(text: str) -> None:
        console.print(f"{time.strftime('%H:%M:%S')}  {text}", markup=False, soft_wrap=True)

    def told(result: EpochResult) -> None:
        nonlocal last
        if time.monotonic() - last > 10 or result.epoch == epochs:
            last = time.monotonic()
            loss = result.metrics.get("train_loss", float("nan"))
            say(f"teacher {trial.teacher.model}: epoch {result.epoch} of {epochs}, training loss {loss:.3f}")

    kept = None if store is None else store / TEACHERS / teacher.cache_key(trial)
    if kept is not None:
        fetch_teacher(kept, storage / TEACHERS / kept.name)
    ready = teacher.prepare(trial, storage / TEACHERS, choose_device(), told, kept)
    if kept is not None:
        keep_teacher(storage / TEACHERS / kept.name, kept)
    on = f"on the test set of {trial.data.name}, {ready.precision}"
    say(f"teacher {ready.model} ({ready.source}): {ready.test_top1:.2f} % top-1 {on}")
    return ready


def _reachable(sweep: Sweep) -> Iterator[Trial]:
    """Trials that stand for all data and teachers that the sweep can reach."""
    yield sweep.base
    for planned in sweep.fixed_trials:
        yield planned.trial
    if sweep.space.design == "search":
        yield from (planned.trial for planned in sweep.search_corners())
