"""What the parts of one launch share."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from msd_sweeps.distill import checkpoint
from msd_sweeps.plan.slots import SlotPlan
from msd_sweeps.records.header import DataRecord, TeacherRecord
from msd_sweeps.records.ledger import Ledger, Record
from msd_sweeps.records.mlflow_sync import Mirror
from msd_sweeps.records.object_store import Place
from msd_sweeps.space.designs import Sweep
from msd_sweeps.space.trial import Trial
from msd_sweeps.sweep.job import Inputs
from msd_sweeps.sweep.options import Options
from msd_sweeps.sweep.progress import Progress
from msd_sweeps.sweep.remaining import Trials
from msd_sweeps.sweep.stopping import Signals
from msd_sweeps.sweep.store_sync import StoreSync, checkpoints_of


class OpenSlots(Protocol):
    """Slots that ask a dispatcher for jobs until they are closed."""

    def close(self, timeout: float) -> bool:
        """End the slots and wait up to `timeout` seconds; True when all have ended."""


class Trainer(Protocol):
    """What trains: `prepare.Distillation`; tests of the platform have one that trains nothing."""

    device: str
    """The device's name, for the ledger."""
    pack: int | None
    """Students to pack into a slot, where that was measured on this machine."""

    def prepare(self, run: "Run") -> list[DataRecord | TeacherRecord]:
        """Make data and teachers ready; what the ledger keeps of them. Raises InputError, StoreError."""

    def inputs(self, trial: Trial) -> Inputs:
        """The files of a trial."""

    def open_slots(self, plan: SlotPlan, dispatcher: Any, folder: Path) -> OpenSlots:
        """Start the slots of a plan; `folder` is for what Ray leaves behind."""


@dataclass
class Run:
    """One launch of a sweep. The ledger is open, and the lock on the folder is held."""

    sweep: Sweep
    folder: Path
    """The sweep's folder on this machine."""
    trials: Trials
    """The ledger's trials; the trial queue adds to them."""
    ledger: Ledger
    trainer: Trainer
    options: Options = field(default_factory=Options)
    signals: Signals = field(default_factory=Signals)
    store_sync: StoreSync | None = None
    """Copies the ledger into the object store, where there is one."""
    mirror: Mirror | None = None
    progress: Progress | None = None

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
    def checkpoints(self) -> Place:
        """The folder with a folder of checkpoints for each trial: in the object store where there is one."""
        return checkpoints_of(self.folder.resolve() if self.store_sync is None else self.store_sync.store)

    @property
    def remove_checkpoints(self) -> Callable[[Place], None]:
        """Deletes the checkpoints of a trial that has ended, in a store once the store's ledger has that end."""
        return checkpoint.remove if self.store_sync is None else self.store_sync.remove_later
