"""What the parts of one launch share: the sweep's folder and its ledger, opened, and closed in the end."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from msd_sweeps.distill import checkpoint
from msd_sweeps.plan.slots import SlotPlan
from msd_sweeps.records.header import DataRecord, TeacherRecord, header_of
from msd_sweeps.records.ledger import FILE_NAME, Ledger, Record, read
from msd_sweeps.records.mlflow_sync import Mirror, choose_uri, is_synced
from msd_sweeps.records.object_store import Place, StoreError
from msd_sweeps.records.trial_record import trials_of
from msd_sweeps.space.designs import Sweep
from msd_sweeps.space.trial import Trial
from msd_sweeps.sweep.job import Inputs
from msd_sweeps.sweep.lock import locked
from msd_sweeps.sweep.options import Options
from msd_sweeps.sweep.progress import Progress
from msd_sweeps.sweep.remaining import Trials, is_complete
from msd_sweeps.sweep.resume import as_grown, refuse_another_space
from msd_sweeps.sweep.stopping import Signals
from msd_sweeps.sweep.store_sync import CHECKPOINTS, StoreSync

JOURNAL = "optuna.journal"
"""The file of Optuna's study in a sweep's folder."""
_MIRROR_SECONDS = 20.0
_HURRIED_MIRROR_SECONDS = 6.0
_COPY_SECONDS = 20.0
_HURRIED_COPY_SECONDS = 3.0
"""After a signal the whole command ends within 30 s, of which the slots need a part."""


@dataclass
class Run:
    """One launch of a sweep."""

    sweep: Sweep
    folder: Path
    """The sweep's folder on this machine; its lock is held."""
    trials: Trials
    """The ledger's trials; the trial queue adds to them."""
    ledger: Ledger
    options: Options = field(default_factory=Options)
    signals: Signals = field(default_factory=Signals)
    store_sync: StoreSync | None = None
    """Copies the ledger into the object store, where there is one."""
    mirror: Mirror | None = None
    """Sends the records to MLflow; None where MLflow has all that there will be."""
    progress: Progress | None = None
    unsent: int = 0
    """Records that MLflow had not taken in the end."""

    def __post_init__(self) -> None:
        self._known = len(self.trials)

    @property
    def copied(self) -> int:
        """Trials that this launch copied from other sweeps of the storage."""
        return sum(bool(trial.source) for trial in list(self.trials.values())[self._known :])

    @property
    def begun(self) -> int:
        """Trials that this launch began to train."""
        return len(self.trials) - self._known - self.copied

    def record(self, event: str, **fields: Any) -> Record:
        """Write one record to the ledger, and then show it and send it to MLflow. Raises LedgerError."""
        written = self.ledger.append(event, **fields)
        if self.mirror is not None:
            self.mirror.more()
        if self.progress is not None:
            self.progress.update(written)
        return written

    def say(self, text: str) -> None:
        """Show the user a line."""
        if self.progress is not None:
            self.progress.console.print(text, markup=False, soft_wrap=True)

    @property
    def is_complete(self) -> bool:
        """Whether everything that the sweep asks for has ended."""
        return is_complete(self.sweep, self.trials)

    @property
    def is_stored(self) -> bool:
        """Whether the object store, if there is one, has the whole ledger."""
        return self.store_sync is None or self.store_sync.trouble is None

    @property
    def checkpoints(self) -> Place:
        """The folder with a folder of checkpoints for each trial: in the object store where there is one."""
        return (self.folder.resolve() if self.store_sync is None else self.store_sync.store) / CHECKPOINTS

    @property
    def remove_checkpoints(self) -> Callable[[Place], None]:
        """Deletes the checkpoints of a trial that has ended, in a store once the store's ledger has that end."""
        return checkpoint.remove if self.store_sync is None else self.store_sync.remove_later

    def remove_left_over_checkpoints(self) -> None:
        """Delete the checkpoints of trials that have ended: a driver can be killed before it does that."""
        with suppress(StoreError):  # the next launch tries again
            left: list[Place] = list(self.checkpoints.glob("*"))
            for folder in left:
                trial = self.trials.get(folder.name)
                if trial is not None and (trial.is_final or trial.has_every_epoch):
                    self.remove_checkpoints(folder)

    def close(self) -> None:
        """Close the ledger, copy the rest of it and send the rest to MLflow; after a signal in a hurry."""
        is_hurried = bool(self.signals.received)
        self.ledger.close()
        if self.store_sync is not None:
            self.store_sync.finish(_HURRIED_COPY_SECONDS if is_hurried else _COPY_SECONDS)
        if self.mirror is not None:
            self.unsent = self.mirror.close(_HURRIED_MIRROR_SECONDS if is_hurried else _MIRROR_SECONDS)
        if self.store_sync is not None and self.is_stored and self.is_complete:
            self.store_sync.remove_checkpoints()


@contextmanager
def opened(sweep: Sweep, options: Options, signals: Signals) -> Iterator[Run]:
    """Lock a sweep's folder and open its ledger, fetched from the object store if there is one.

    The run's sweep has the seeds and samples that were added to it before. Raises InputError where another driver runs
    the sweep, or another space has its name; LedgerError.
    """
    folder = options.storage / sweep.name
    path = folder / FILE_NAME
    with locked(folder, sweep.name), _synced(options, sweep.name) as sync:
        history = list(read(path)) if path.exists() else []
        launches = header_of(path, history).launches
        refuse_another_space(sweep, launches)
        run = Run(as_grown(sweep, launches), folder, trials_of(history), Ledger(path), options, signals, sync)
        uri, tracking = choose_uri(folder, sweep.space.tracking.uri), sweep.space.tracking
        if not (run.is_complete and is_synced(folder, len(history), uri)):
            run.remove_left_over_checkpoints()
            run.mirror = Mirror(uri, tracking.experiment, sweep.name, folder, len(history))
        del history  # of a long sweep it takes as much memory as all the rest
        try:
            yield run
        finally:
            run.close()


@contextmanager
def _synced(options: Options, name: str) -> Iterator[StoreSync | None]:
    """Keep the ledger in the object store, if there is one; in the end say what the store lacks."""
    if options.store is None:
        yield None
        return
    sync = StoreSync(options.store / name, options.storage / name)
    sync.begin()
    try:
        yield sync
    finally:
        sync.finish(_COPY_SECONDS)  # unless the run has done that
        if sync.trouble is not None:
            hint = (
                f"\n{sync.store} lacks a part of the ledger, which is whole in {sync.folder}. "
                f"To complete the copy, from this machine:\n  {options.resume_command(name)}"
            )
            print(f"error: {sync.trouble}{'' if sync.taken else hint}", file=sys.stderr)


class OpenSlots(Protocol):
    """Slots that ask a dispatcher for jobs until they are closed."""

    def close(self, timeout: float) -> bool:
        """End the slots and wait up to `timeout` seconds; True when all have ended."""


class Trainer(Protocol):
    """What trains: `prepare.Distillation`; tests of the platform have one that trains nothing."""

    device: str
    """The device's name, for the ledger; known once it is prepared."""
    pack: int | None
    """Students to pack into a slot, where that was measured on this machine."""

    def prepare(self, run: Run) -> list[DataRecord | TeacherRecord]:
        """Make data and teachers ready; what the ledger keeps of them. Raises InputError, SweepStopped."""

    def inputs(self, trial: Trial) -> Inputs:
        """The files of a trial."""

    def open_slots(self, plan: SlotPlan, dispatcher: Any, folder: Path) -> OpenSlots:
        """Start the slots of a plan; `folder` is for what Ray leaves behind."""
