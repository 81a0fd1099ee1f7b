"""What a ledger says about its sweep as a whole: the launches, the data, the teachers, and how each launch ended."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from pydantic import ConfigDict, Field, ValidationError

from msd_sweeps.records import ledger
from msd_sweeps.records.ledger import LAYOUT, LedgerError, Record
from msd_sweeps.records.predictions import Predictions
from msd_sweeps.space.designs import Sweep
from msd_sweeps.space.own_code import stand_in
from msd_sweeps.space.schema import Space
from msd_sweeps.space.settings import Settings
from msd_sweeps.space.trial import Trial


class Entry(Settings):
    """A record about the whole sweep; `event` is its kind in the ledger."""

    model_config = ConfigDict(extra="ignore")

    event: ClassVar[str]
    time: float = 0.0
    """Seconds since 1970; the ledger sets it when the record is written."""

    def record(self) -> Record:
        """The fields to append to a ledger, of plain JSON types."""
        return self.model_dump(mode="json", exclude={"time"})


class Launch(Entry):
    """A launch of the sweep: what was asked for, where it ran, and with which code."""

    event: ClassVar[str] = "sweep"
    name: str
    """The name of the sweep."""
    id: str = Field("", pattern="^[0-9a-f]*$")
    """Made when the ledger is begun, the same in all its launches: two sweeps of one name differ in it."""
    space: Space
    """The space, with every default filled in."""
    base: Trial
    command: list[str]
    versions: dict[str, str]
    """Versions of Python and of the packages that matter."""
    commit: str | None
    """The git commit of the code; None where it is unknown."""
    dirty: bool
    """Whether the code differed from the commit."""
    host: str
    device: str
    own: dict[str, Any] = {}
    """The sources of one's own code, and what they have registered (`space.own_code.recorded`)."""
    layout: int = LAYOUT
    """The layout of the ledger's records."""

    @property
    def sweep(self) -> Sweep:
        """The sweep as it was launched."""
        return Sweep(self.name, self.space, self.base)


class DataRecord(Entry):
    """A data set that trials use, with its numbers of images."""

    event: ClassVar[str] = "data"
    name: str
    num_classes: int
    train: int
    val: int
    test: int
    sha256: str
    """Hash of the images and labels of all splits."""


class TeacherRecord(Entry):
    """A teacher that trials learn from."""

    event: ClassVar[str] = "teacher"
    key: str
    """Names the teacher in the cache."""
    model: str
    source: str
    """trained, or imported."""
    weights_sha256: str
    test_top1: float
    """Percent, in the precision that students learn from."""
    precision: str
    seconds: float
    """The time that its training took."""
    predictions: Predictions | None = None
    """Of the test images."""


class CloseRecord(Entry):
    """The end of a launch."""

    event: ClassVar[str] = "close"
    outcome: str
    """complete, interrupted or failed."""
    seconds: float


@dataclass
class Header:
    """What the ledger at `path` says about its sweep as a whole; each list in the order of the records."""

    path: Path
    launches: list[Launch] = field(default_factory=list)
    data: list[DataRecord] = field(default_factory=list)
    teachers: list[TeacherRecord] = field(default_factory=list)
    closes: list[CloseRecord] = field(default_factory=list)
    damaged: Counter[str] = field(default_factory=Counter)
    """Records that were passed over, by kind."""

    @property
    def damage(self) -> str:
        """What was passed over, in words; empty where nothing was."""
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.damaged.items()) if count)
        lost = "a trial without its start is missing, and one without its last epoch is trained again by --resume"
        return f"{self.damaged.total()} damaged records were passed over ({kinds}); {lost}" if kinds else ""

    @property
    def id(self) -> str:
        """The id of the sweep; empty where no record has one."""
        return next((launch.id for launch in self.launches if launch.id), "")

    @property
    def is_open(self) -> bool:
        """Whether the last launch has no end: it runs, or was killed."""
        return bool(self.launches) and (not self.closes or self.closes[-1].time < self.launches[-1].time)

    @property
    def launch(self) -> Launch:
        """The last launch. Raises LedgerError where there is none."""
        if not self.launches:
            raise LedgerError(f"{self.path}: the sweep stopped before it began; start it with --space")
        return self.launches[-1]

    def add(self, record: Record) -> bool:
        """Take in a record; False where it is not about the whole sweep.

        Raises LedgerError where its content does not fit this version's models.
        """
        lists: dict[str, tuple[type[Entry], list[Any]]] = {
            "sweep": (Launch, self.launches),
            "data": (DataRecord, self.data),
            "teacher": (TeacherRecord, self.teachers),
            "close": (CloseRecord, self.closes),
        }
        if record["event"] not in lists:
            return False
        kind, entries = lists[record["event"]]
        if record.get("own"):
            stand_in(record["own"])
        try:
            entries.append(kind.model_validate_json(json.dumps(record)))
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"]))
            raise LedgerError(
                f"{self.path}: the '{record['event']}' record does not fit this msd_sweeps: {key}: {first['msg']}; "
                "use the version that wrote it, choose another --name, or remove its folder"
            ) from error
        return True


def header_of(path: Path, records: Iterable[Record] | None = None) -> Header:
    """The header of the ledger at `path`, whose records are read unless they are given. Raises LedgerError."""
    header = Header(path)
    for record in ledger.read(path, header.damaged) if records is None else records:
        header.add(record)
    return header
