"""From a plan to a full ledger.

The folder is locked and the ledger read. Data and teachers are made ready. Then Ray is started, the slots are opened,
and the trial queue is worked off. A sweep that is complete is left as it is.
"""

import platform
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

from msd_sweeps import __version__
from msd_sweeps.distill import checkpoint
from msd_sweeps.plan.plan import Plan, duration
from msd_sweeps.records import ledger
from msd_sweeps.records.header import CloseRecord, Launch, header_of
from msd_sweeps.records.ledger import Ledger
from msd_sweeps.records.mlflow_sync import Mirror, choose_uri, is_synced
from msd_sweeps.records.object_store import Place, StoreError
from msd_sweeps.records.provenance import commit
from msd_sweeps.records.step_times import record_step_seconds
from msd_sweeps.records.trial_record import trials_of
from msd_sweeps.sweep.lock import locked
from msd_sweeps.sweep.options import Options
from msd_sweeps.sweep.progress import Progress
from msd_sweeps.sweep.remaining import is_complete
from msd_sweeps.sweep.resume import as_grown, refuse_another_space
from msd_sweeps.sweep.run_state import Run, Trainer
from msd_sweeps.sweep.stopping import Interrupted, Signals, SweepStopped
from msd_sweeps.sweep.store_sync import StoreSync, fetch_others

_PACKAGES = ("torch", "ray", "optuna", "mlflow", "numpy")
_MIRROR_SECONDS = 20.0
_HURRIED_SECONDS = 6.0
_COPY_SECONDS = 20.0
_HURRIED_COPY_SECONDS = 3.0
"""After a signal the whole command ends within 30 s, of which the slots need a part."""


@dataclass(frozen=True)
class Outcome:
    """What a launch left behind."""

    ledger: Path
    tracking: str
    """The URI of the MLflow store."""
    trained: int = 0
    """Trials that this launch began."""
    copied: int = 0
    """Trials that it copied from other sweeps of the storage."""
    unsent: int = 0
    """Records that MLflow has not taken."""
    is_stored: bool = True
    """Whether the object store, if there is one, has the whole ledger."""


def run_sweep(plan: Plan, options: Options, signals: Signals, trainer: Trainer | None = None) -> Outcome:
    """Train what is missing of a sweep.

    trainer: what trains; by default prepare.Distillation. Raises InputError for a name that another space has, for
    missing data or teachers and for resources that are not there; Interrupted after a signal; SweepStopped.
    """
    name = plan.sweep.name
    folder = options.storage / name
    path = folder / ledger.FILE_NAME
    uri = choose_uri(folder, plan.sweep.space.tracking.uri)
    with locked(folder, name), _synced(options, name, signals) as sync:
        history = list(ledger.read(path)) if path.exists() else []
        launches = header_of(path, history).launches
        refuse_another_space(plan.sweep, launches)
        plan = replace(plan, sweep=as_grown(plan.sweep, launches))
        trials = trials_of(history)
        if is_complete(plan.sweep, trials) and is_synced(folder, len(history), uri):
            return Outcome(path, uri, is_stored=_finish(sync, signals))
        if trainer is None:  # imported late: a complete sweep needs no torch
            from msd_sweeps.sweep.prepare import Distillation

            trainer = Distillation()
        run = Run(plan.sweep, folder, trials, Ledger(path), trainer, options, signals, sync)
        remove_left_over_checkpoints(run)
        run.mirror = Mirror(uri, plan.sweep.space.tracking.experiment, name, folder, len(history))
        del history  # of a long sweep it takes as much memory as all the rest
        known = set(trials)
        try:
            if not is_complete(plan.sweep, trials):
                _train(run, plan)
        finally:
            run.ledger.close()
            is_stored = _finish(sync, signals)
            unsent = run.mirror.close(_HURRIED_SECONDS if signals.received else _MIRROR_SECONDS)
        if sync is not None and is_stored and is_complete(plan.sweep, trials):
            sync.remove_checkpoints()
        record_step_seconds(options.storage, [trial for trial in trials.values() if not trial.source])
        new = [trial for key, trial in trials.items() if key not in known]
        copied = sum(bool(trial.source) for trial in new)
        return Outcome(path, uri, len(new) - copied, copied, unsent, is_stored)


@contextmanager
def _synced(options: Options, name: str, signals: Signals) -> Iterator[StoreSync | None]:
    """Keep the ledger in the object store, if there is one; in the end say what the store lacks."""
    if options.store is None:
        yield None
        return
    sync = StoreSync(options.store / name, options.storage / name)
    sync.begin()
    try:
        yield sync
    finally:
        if not _finish(sync, signals):
            hint = (
                f"\n{sync.store} lacks a part of the ledger, which is whole in {sync.folder}. "
                f"To complete the copy, from this machine:\n  {options.resume_command(name)}"
            )
            print(f"error: {sync.trouble}{'' if sync.taken else hint}", file=sys.stderr)


def _finish(sync: StoreSync | None, signals: Signals) -> bool:
    """Copy the rest of the ledger; whether the store has all of it."""
    if sync is None:
        return True
    sync.finish(_HURRIED_COPY_SECONDS if signals.received else _COPY_SECONDS)
    return sync.trouble is None


def remove_left_over_checkpoints(run: Run) -> None:
    """Delete the checkpoints of trials that have ended: a driver can be killed between the record and the deletion."""
    with suppress(StoreError):  # the next launch tries again
        left: list[Place] = list(run.checkpoints.glob("*"))
        for folder in left:
            trial = run.trials.get(folder.name)
            if trial is not None and (trial.is_final or trial.has_every_epoch):
                run.remove_checkpoints(folder)


def _train(run: Run, plan: Plan) -> None:
    """Record the launch, train, and record how the launch ended."""
    started, known = time.time(), len(run.trials)
    run.progress = Progress(run.sweep, run.trials, plan.trials)
    with run.progress.live:
        if run.store_sync is not None:
            run.store_sync.say = run.say
        try:
            entries = run.trainer.prepare(run)
        except (StoreError, checkpoint.CheckpointError) as error:
            raise SweepStopped(str(error)) from error
        for entry in (_this_launch(run), *entries):
            run.record(entry.event, **entry.record())
        outcome = "failed"
        try:
            _work_off(run, replace(plan, measured_pack=run.trainer.pack))
            outcome = "complete"
        except (Interrupted, KeyboardInterrupt):
            outcome = "interrupted"
            raise
        finally:
            close = CloseRecord(outcome=outcome, seconds=round(time.time() - started, 1))
            run.record(close.event, **close.record())
            new = list(run.trials.values())[known:]
            begun = sum(not trial.source for trial in new)
            copied = f", {len(new) - begun} taken over" * (begun < len(new))
            run.say(f"{begun} trials started{copied} in {duration(time.time() - started)}")


def _work_off(run: Run, plan: Plan) -> None:
    """Train all that the trial queue has. Ray is started only if something is left to train."""
    from msd_sweeps.sweep.reuse import FinishedTrials
    from msd_sweeps.sweep.trial_queue import TrialQueue

    options, reuse = run.options, None
    if not options.fresh:
        if options.store is not None:
            fetch_others(options.store, options.storage, run.sweep.name)
        reuse = FinishedTrials(options.storage, run.sweep.name)
    queue = TrialQueue(run, reuse)
    queue.reuse_fixed_trials()
    if is_complete(run.sweep, run.trials):
        return
    from msd_sweeps.sweep.ray_session import plan_for_cluster, session
    from msd_sweeps.sweep.tune import run_trials

    with session(options.address, options.num_cpus, options.verbose):
        slots = plan_for_cluster(plan, run.say) if options.address else plan.slots_here(options.num_cpus)
        run_trials(run, queue, slots)


def _this_launch(run: Run) -> Launch:
    """What is launched where, and with which versions."""
    revision, dirty = commit()
    versions = {name: metadata.version(name) for name in _PACKAGES}
    return Launch(
        name=run.sweep.name,
        space=run.sweep.space,
        base=run.sweep.base,
        command=["python", "-m", "msd_sweeps.run", *sys.argv[1:]],
        versions=versions | {"msd-sweeps": __version__, "python": platform.python_version()},
        commit=revision,
        dirty=dirty,
        host=socket.gethostname(),
        device=run.trainer.device,
    )
