"""What a launch trains with. Tests and benchmarks of the platform put a simulated trainer in its place."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from rich.console import Console

from msd_sweeps.plan.slots import SlotPlan
from msd_sweeps.records.header import DataRecord, TeacherRecord
from msd_sweeps.records.object_store import StorePath
from msd_sweeps.records.trial_record import TrialRecord
from msd_sweeps.space.designs import Sweep


class Prepared(NamedTuple):
    """records: what the ledger is told of data and teachers. weights: the path or URI of a trial's teacher.
    hashes: SHA-256 of the files that workers must see too: data_sha256, and weights_sha256 where there is a teacher.
    pack: students that were found to be worth packing on this machine's GPU."""

    records: list[DataRecord | TeacherRecord]
    weights: Callable[[TrialRecord], str | None]
    device: str
    hashes: Callable[[TrialRecord], dict[str, str]] = lambda record: {}
    pack: int | None = None


class OpenSlots(Protocol):
    """Slots that ask a dispatcher for trials until they are closed."""

    def close(self, timeout: float) -> bool:
        """Send the slots home and wait; true when all have ended in time."""


class Trainer(NamedTuple):
    """prepare: makes data and teachers of a sweep ready, given what its ledger holds, the storage folder, a console,
    and the object store where workers find the teachers, if there is one. open_slots: starts the slots of a plan, given
    the dispatcher and a folder for what they leave behind."""

    prepare: Callable[[Sweep, dict[str, TrialRecord], Path, Console, StorePath | None], Prepared]
    open_slots: Callable[[SlotPlan, Any, Path], OpenSlots]


def distilling() -> Trainer:
    """The trainer of this package: torch in the workers of Ray Train."""
    from msd_sweeps.sweep.prepare import prepare
    from msd_sweeps.sweep.worker import serve
    from msd_sweeps.sweep.worker_groups import Slots

    return Trainer(prepare, lambda plan, dispatcher, folder: Slots(plan, dispatcher, folder, serve))
