"""From a checked sweep to a full ledger: the folder and its lock, data and teacher, Ray, the trials."""

import platform
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from msd_sweeps import __version__
from msd_sweeps.distill import checkpoint
from msd_sweeps.plan.machine import local_cpus
from msd_sweeps.plan.plan import Plan
from msd_sweeps.records import ledger
from msd_sweeps.records.header import CloseRecord, Header, Launch, header_of
from msd_sweeps.records.ledger import Ledger, Record
from msd_sweeps.records.mlflow_sync import Mirror, choose_uri, is_synced
from msd_sweeps.records.object_store import Place, StoreError, StorePath
from msd_sweeps.records.provenance import commit
from msd_sweeps.records.step_times import record_step_seconds
from msd_sweeps.records.trial_record import TrialRecord, trials_of
from msd_sweeps.space.designs import Sweep
from msd_sweeps.space.durations import duration
from msd_sweeps.space.schema import Tracking
from msd_sweeps.sweep.lock import locked
from msd_sweeps.sweep.resume import as_grown, refuse_another_space
from msd_sweeps.sweep.stopping import Interrupted, Signals, SweepStopped, noted_signals
from msd_sweeps.sweep.store_sync import StoreSync, checkpoints_of, fetch_others
from msd_sweeps.sweep.trainer import Prepared, Trainer, distilling

_PACKAGES = ("torch", "ray", "optuna", "mlflow", "numpy")
_MIRROR_SECONDS = 20.0
_HURRIED_SECONDS = 6.0
_COPY_SECONDS = 20.0
_HURRIED_COPY_SECONDS = 3.0
"""Who has sent a signal waits for 30 s at most, and the slots have a share of it."""
_SYNC_SECONDS = 60.0


class Options(NamedTuple):
    """How to run, as the command line says; nothing here decides a number."""

    storage: Path
    address: str | None = None
    num_cpus: int | None = None
    verbose: bool = False
    fresh: bool = False
    """Train everything here, also what another sweep of the store has finished."""
    store: StorePath | None = None
    """The object store that `storage` is this machine's working folder of."""
    again: str = "the same command"
    """The command that goes on with the sweep."""


class Outcome(NamedTuple):
    """What a launch left behind."""

    ledger: Path
    trained: int
    """Trials that were started by this launch."""
    taken_over: int
    """Trials that it took over from other sweeps of the store."""
    unsent: int
    """Records that MLflow has not taken."""
    tracking: str
    """The URI of the MLflow store."""
    uncopied: str | None = None
    """Why the object store lacks a part of the ledger, if it does."""


def launch(sweep: Sweep, options: Options, trainer: Trainer | None = None) -> Outcome:
    """Run what is missing of a sweep. A sweep that is complete is left as it is.

    trainer: what trains; by default this package's own. Raises InputError for a name that is taken by another space,
    a missing teacher or data, impossible resources; Interrupted after a signal; SweepStopped.
    """
    folder = options.storage / sweep.name
    path = folder / ledger.FILE_NAME
    uri = choose_uri(folder, sweep.space.tracking.uri)
    with noted_signals() as signals, locked(folder, sweep.name), _kept(options, sweep.name, signals) as keeper:
        history = list(ledger.read(path)) if path.exists() else []
        launches = header_of(path, history).launches
        refuse_another_space(sweep, launches)
        sweep = as_grown(sweep, launches)
        trials = trials_of(history)
        if is_complete(sweep, trials) and is_synced(folder, len(history), uri):
            return Outcome(path, 0, 0, 0, uri, _finish(keeper, signals))
        if keeper is None:
            remove_left_over(folder, trials)
        else:
            remove_left_over(keeper.store, trials, keeper.remove_later)
        mirror = Mirror(uri, sweep.space.tracking.experiment, sweep.name, folder, len(history))
        del history  # of a long sweep it takes as much memory as all the rest
        book = Ledger(path)
        try:
            known = set(trials)
            if not is_complete(sweep, trials):
                _run(sweep, options, folder, trials, book, mirror, trainer, signals, keeper)
        finally:
            book.close()
            uncopied = _finish(keeper, signals)
            unsent = mirror.close(_HURRIED_SECONDS if signals.received else _MIRROR_SECONDS)
        if keeper is not None and uncopied is None and is_complete(sweep, trials):
            keeper.remove_checkpoints()
        record_step_seconds(options.storage, [trial for trial in trials.values() if not trial.source])
        new = [trial for name, trial in trials.items() if name not in known]
        taken_over = sum(bool(trial.source) for trial in new)
        return Outcome(path, len(new) - taken_over, taken_over, unsent, uri, uncopied)


@contextmanager
def _kept(options: Options, name: str, signals: Signals) -> Iterator[StoreSync | None]:
    """Keep the ledger in the object store, if there is one; what the store lacks in the end is told."""
    if options.store is None:
        yield None
        return
    keeper = StoreSync(options.store / name, options.storage / name)
    keeper.begin()
    try:
        yield keeper
    finally:
        if _finish(keeper, signals) is not None:
            hint = (
                f"\n{keeper.store} lacks a part of the ledger, which is whole in {keeper.folder}. "
                f"To complete the copy, from this machine:\n  {options.again}"
            )
            print(f"error: {keeper.trouble}{'' if keeper.taken else hint}", file=sys.stderr)


def _finish(keeper: StoreSync | None, signals: Signals) -> str | None:
    """Copy the rest of the ledger; why the store lacks some of it, if it does."""
    if keeper is None:
        return None
    keeper.finish(_HURRIED_COPY_SECONDS if signals.received else _COPY_SECONDS)
    return keeper.trouble


def remove_left_over(
    folder: Place, trials: dict[str, TrialRecord], remove: Callable[[Place], None] = checkpoint.remove
) -> None:
    """Delete checkpoints of trials that have ended: a driver can be killed between the record and the deletion."""
    with suppress(StoreError):  # the next launch tries again
        left: list[Place] = list(checkpoints_of(folder).glob("*"))
        for of_trial in left:
            trial = trials.get(of_trial.name)
            if trial is not None and (trial.is_final or trial.has_every_epoch):
                remove(of_trial)


def sync_mlflow(name: str, storage: Path) -> tuple[str, int]:
    """Send MLflow what it has missed of a sweep's ledger: the store's URI, and how many records it has not taken.

    Raises InputError while a driver runs the sweep, LedgerError.
    """
    folder = storage / name
    path = folder / ledger.FILE_NAME
    with locked(folder, name):
        header, count = Header(path), 0
        for record in ledger.read(path):
            count += 1
            header.add(record)
        tracking = header.launches[-1].space.tracking if header.launches else Tracking()
        mirror = Mirror(choose_uri(folder, tracking.uri), tracking.experiment, name, folder, count)
        return mirror.uri, mirror.close(_SYNC_SECONDS, while_it_takes=True)


def is_complete(sweep: Sweep, trials: dict[str, TrialRecord]) -> bool:
    """Whether everything that a sweep asks for has ended."""
    from msd_sweeps.sweep.trial_queue import Agenda

    return bool(trials) and Agenda(sweep, trials, None, _no_record).is_complete


def _no_record(event: str, **fields: Any) -> Record:
    raise AssertionError("a finished agenda records nothing")


def _run(
    sweep: Sweep,
    options: Options,
    folder: Path,
    trials: dict[str, TrialRecord],
    book: Ledger,
    mirror: Mirror,
    trainer: Trainer | None,
    signals: Signals,
    keeper: StoreSync | None,
) -> None:
    from msd_sweeps.sweep.progress import Progress

    started, known = time.time(), len(trials)
    with Progress(sweep, trials, Plan(sweep).trials) as progress:

        def record(event: str, **fields: Any) -> Record:
            written = book.append(event, **fields)
            mirror.more()
            progress.update(written)
            return written

        def say(text: str) -> None:
            progress.console.print(text, markup=False, soft_wrap=True)

        # Imported late: a plan or a complete sweep needs none of it.
        trainer = trainer or distilling()
        if keeper is not None:
            keeper.say = say
        try:
            prepared = trainer.prepare(sweep, trials, options.storage, progress.console, options.store)
        except (StoreError, checkpoint.CheckpointError) as error:
            raise SweepStopped(str(error)) from error
        for entry in (_launch(sweep, prepared.device), *prepared.records):
            record(entry.event, **entry.record())
        outcome = "failed"
        try:
            _run_on_ray(sweep, options, folder, trials, record, prepared, trainer, signals, say, keeper)
            outcome = "complete"
        except BaseException as error:
            outcome = "interrupted" if isinstance(error, Interrupted | KeyboardInterrupt) else "failed"
            raise
        finally:
            close = CloseRecord(outcome=outcome, seconds=round(time.time() - started, 1))
            record(close.event, **close.record())
            new = list(trials.values())[known:]
            begun = sum(not trial.source for trial in new)
            taken = f", {len(new) - begun} taken over" * (begun < len(new))
            progress.console.print(f"{begun} trials started{taken} in {duration(time.time() - started)}")


def _run_on_ray(
    sweep: Sweep,
    options: Options,
    folder: Path,
    trials: dict[str, TrialRecord],
    record: Any,
    prepared: Prepared,
    trainer: Trainer,
    signals: Signals,
    say: Callable[[str], None],
    keeper: StoreSync | None,
) -> None:
    from msd_sweeps.sweep.reuse import Elsewhere
    from msd_sweeps.sweep.study import Study
    from msd_sweeps.sweep.trial_queue import Agenda, end_whole

    end_whole(trials, record)
    study = None
    if sweep.space.design == "search":
        searched = [trial for trial in trials.values() if trial.phase == "search"]
        study = Study(sweep.space, sweep.name, folder / "optuna.journal", searched, sweep.base)
    if options.fresh:
        agenda = Agenda(sweep, trials, study, record)
    else:
        if options.store is not None:
            fetch_others(options.store, options.storage, sweep.name)
        agenda = Agenda(sweep, trials, study, record, Elsewhere(options.storage, sweep.name).find)
        agenda.take_over()
    if agenda.is_complete:
        return
    # Imported late: what is taken over whole needs no Ray.
    from msd_sweeps.sweep.ray_session import plan_for_cluster, session
    from msd_sweeps.sweep.tune import run_trials

    local = options.num_cpus or local_cpus()
    with session(options.address, local, options.verbose):
        plan = Plan(sweep, measured_pack=prepared.pack)
        slots = plan_for_cluster(plan, say) if options.address else plan.slots_here(local)
        run_trials(sweep, agenda, slots, folder, prepared, trainer.open_slots, signals, say, options.verbose, keeper)


def _launch(sweep: Sweep, device: str) -> Launch:
    """This launch: what runs where, and with which versions."""
    revision, dirty = commit()
    versions = {name: metadata.version(name) for name in _PACKAGES}
    return Launch(
        name=sweep.name,
        space=sweep.space,
        base=sweep.base,
        command=["python", "-m", "msd_sweeps.run", *sys.argv[1:]],
        versions=versions | {"msd-sweeps": __version__, "python": platform.python_version()},
        commit=revision,
        dirty=dirty,
        host=socket.gethostname(),
        device=device,
    )
