"""The ledger: an append-only file of every attempt of every trial. Everything else is compiled from it.

One JSON object a line, each with a checksum, flushed to disk before anyone acts on it. One process writes.
"""

import contextlib
import errno
import itertools
import json
import os
import time
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Record = dict[str, Any]

FILE_NAME = "ledger.jsonl"
_BLOCK = 65536
_START = b'{"crc":"'
FINAL_STATES = ("finished", "stopped", "diverged", "failed", "out_of_memory")
"""States that a resume leaves alone. Any other trial goes on from its last checkpoint."""
_PARTS: dict[str, Record] = {}
"""The parts of configurations, such as a recipe, by their text."""


class LedgerError(Exception):
    """A ledger cannot be read or written; the message names the file."""


def _encode(record: Record) -> bytes:
    text = json.dumps(record, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    # Half a character (from a file name that is no text) is written as JSON escapes it, and read back the same.
    body = text.encode(errors="backslashreplace")[1:]
    return _START + b'%08x",' % zlib.crc32(body) + body + b"\n"


def decode(line: bytes) -> Record | None:
    """The record of one line, or None where the line is torn or altered."""
    if not (line.startswith(_START) and line.endswith(b"}\n")):
        return None
    body = line[18:-1]
    if b"%08x" % zlib.crc32(body) != line[8:16]:
        return None
    return json.loads(b"{" + body)


def _records_in(line: bytes) -> Iterator[Record]:
    """The record of a line; of one that is whole and altered, those that can be saved."""
    record = decode(line)
    if record is not None:
        yield record
    elif line.endswith(b"\n"):
        yield from _salvage(line)


def _salvage(line: bytes) -> Iterator[Record]:
    """The records in a line that is none: an altered line end has joined it with the next."""
    starts = [index for index in range(len(line)) if line.startswith(_START, index)]
    for start, end in itertools.pairwise([*starts, len(line)]):
        record = decode(line[start : end - 1] + b"\n")
        if record is not None:
            yield record


def read(path: Path) -> Iterator[Record]:
    """The records of a ledger, in order. What does not match its checksum is passed over.

    Raises LedgerError if the file is absent or cannot be read.
    """
    try:
        with path.open("rb") as file:
            for line in file:
                yield from _records_in(line)
    except FileNotFoundError as error:
        raise LedgerError(f"{path}: no ledger here; is the name of the sweep right?") from error
    except OSError as error:
        raise LedgerError(f"{path}: cannot be read: {error.strerror}") from error


def follow(path: Path) -> Iterator[Record | None]:
    """The records of a ledger that grows, in order, without end; None whenever there is none yet.

    Raises OSError.
    """
    with path.open("rb") as file:
        while True:
            line = file.readline()
            if not line.endswith(b"\n"):  # being written, or about to be cut off
                file.seek(-len(line), os.SEEK_CUR)
                yield None
            else:
                yield from _records_in(line)


def write(path: Path, records: Iterable[Record]) -> None:
    """Write a ledger anew, its records as they stand: a copy, whose original is elsewhere."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.writelines(_encode(_finite(record)) for record in records)


class Ledger:
    """Appends records; each is on disk when `append` returns. A torn last line is cut off when opened."""

    def __init__(self, path: Path):
        """Raises LedgerError where the file cannot be opened for writing."""
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            is_new = not path.exists()
            self._file = path.open("ab+", buffering=0)
            size = os.fstat(self._file.fileno()).st_size
            self._end = self._end_of_whole_lines(size)
            if self._end != size:
                self._file.truncate(self._end)
            if is_new:
                _sync_folder(path.parent)
        except OSError as error:
            raise LedgerError(f"{path}: cannot be written: {error.strerror}") from error

    def _end_of_whole_lines(self, size: int) -> int:
        """Where the last whole line ends."""
        start = size
        while start > 0:
            start = max(0, start - _BLOCK)
            self._file.seek(start)
            found = self._file.read(_BLOCK).rfind(b"\n")
            if found >= 0:
                return start + found + 1
        return 0

    def append(self, event: str, **fields: Any) -> Record:
        """Write one record durably and return it. Non-finite numbers are written as null.

        Raises LedgerError where the disk refuses (full, read-only); the file stays readable, and a later call tries
        again.
        """
        record: Record = {"event": event, "time": round(time.time(), 3), **_finite(fields)}
        line = _encode(record)
        try:
            if self._file.seek(0, os.SEEK_END) != self._end:
                self._file.truncate(self._end)
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._file.fileno())
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.truncate(self._end)
            raise LedgerError(
                f"{self.path}: {len(line)} bytes could not be written: {error.strerror}; free some space and run the "
                "same command again"
            ) from error
        self._end += len(line)
        return record

    def close(self) -> None:
        self._file.close()


def _sync_folder(folder: Path) -> None:
    """A new file is there after a power cut only once its folder is on disk, too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


@dataclass
class TrialRecord:
    """One trial as its records tell it."""

    trial: str
    cell: str
    label: str
    phase: str
    number: int
    seed: int
    config: Record
    values: Record = field(default_factory=dict)
    """What the sampler of a search chose, by parameter."""
    state: str = "running"
    reason: str = ""
    traceback: str = ""
    attempts: int = 0
    source: str = ""
    """The sweep that trained it, where it was taken over from another's ledger; empty for one that was trained here."""
    epochs: list[Record] = field(default_factory=list)
    """One record per epoch, in order: {epoch, position, slot, seconds, metrics}; epochs count from 1. One whose line
    was lost is missing."""

    def __post_init__(self) -> None:
        self.config = _shared(self.config)

    @property
    def is_final(self) -> bool:
        return self.state in FINAL_STATES

    @property
    def has_every_epoch(self) -> bool:
        """Whether nothing is left to train of it."""
        return bool(self.epochs) and bool(self.epochs[-1]["epoch"] >= self.config["recipe"]["epochs"])

    @property
    def seconds(self) -> float:
        """What its epochs took."""
        return sum(epoch["seconds"] for epoch in self.epochs)

    @property
    def metrics(self) -> Record:
        """The metrics of the last epoch; empty before the first."""
        return self.epochs[-1]["metrics"] if self.epochs else {}

    def apply(self, record: Record) -> None:
        """Take in one more record of this trial."""
        if record["event"] == "start":
            self.attempts = record["attempt"]
            self.state, self.reason, self.traceback = "running", "", ""
            source = record.get("source", "")
            if self.source and not source:  # a take-over that broke off: it is trained here after all
                self.epochs.clear()
            self.source = source
        elif record["event"] == "epoch":
            # A worker that went back to its last checkpoint reports an epoch again; the later record counts.
            while self.epochs and self.epochs[-1]["epoch"] >= record["epoch"]:
                self.epochs.pop()
            self.epochs.append({key: record[key] for key in ("epoch", "position", "slot", "seconds", "metrics")})
        elif record["event"] == "end":
            self.state, self.reason = record["state"], record["reason"]
            self.traceback = record.get("traceback", "")


def _shared(config: Record) -> Record:
    """A configuration whose parts are those of others where they are the same: thousands of trials differ in little."""
    return {
        name: _PARTS.setdefault(json.dumps(part), part) if isinstance(part, dict) else part
        for name, part in config.items()
    }


def trials(records: Iterable[Record]) -> dict[str, TrialRecord]:
    """Every trial of a ledger by its id, in the order of first start."""
    found: dict[str, TrialRecord] = {}
    for record in records:
        if record["event"] not in ("start", "epoch", "end"):
            continue
        trial = record["trial"]
        if trial not in found:
            if record["event"] != "start":
                continue
            names = ("trial", "cell", "label", "phase", "number", "seed", "config", "values")
            found[trial] = TrialRecord(**{name: record[name] for name in names if name in record})
        found[trial].apply(record)
    return found
