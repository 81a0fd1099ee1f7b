"""The ledger: an append-only file of every attempt of every trial. Everything else is compiled from it.

One JSON object a line, each with a checksum, flushed to disk before anyone acts on it. One process writes.
"""

import contextlib
import errno
import gzip
import itertools
import json
import mmap
import os
import re
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msd_sweeps.records.files import make_folder, sync_folder

Record = dict[str, Any]

FILE_NAME = "ledger.jsonl"
PACKED = ".gz"
"""The suffix of a ledger that is kept beside its report."""
_START = b'{"crc":"'
_EVENT = re.compile(rb'"event":"(\w+)"')
_TRIAL = {"trial": str}
_PLANNED = _TRIAL | {"label": str, "levels": list, "search_trial": str}
_NUMBER = (int, float)
FIELDS: dict[str, dict[str, Any]] = {
    "start": _PLANNED
    | {"cell": str, "phase": str, "number": int, "seed": int, "config": dict, "attempt": int}
    | {"more": int},
    "label": _PLANNED,
    "epoch": _TRIAL
    | {"epoch": int, "round": int, "more": int, "slot": int, "seconds": _NUMBER, "metrics": dict, "attempt": int},
    "end": _TRIAL | {"state": str, "reason": str},
    "restart": _TRIAL | {"attempt": int, "epochs_lost": int},
    "retry": _TRIAL,
    "look": {"trials": int, "undecided": list},
    "search_end": {"hours": _NUMBER},
}
"""What readers count on, by the event of a record. Records about the whole sweep are models (header)."""
LAYOUT = 4
"""The layout of the records, which every "sweep" record names; a ledger of another layout is refused."""


class LedgerError(Exception):
    """A ledger cannot be read or written; the message names the file."""


class LayoutError(LedgerError):
    """A file is no ledger, or was written by a version of msd_sweeps with another layout of records."""


def encode(record: Record) -> bytes:
    """The line of a record. Raises ValueError for numbers that are not finite."""
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
    try:
        record = json.loads(b"{" + body)
    except (ValueError, RecursionError):
        return None
    return record if _fits(record) else None


def _fits(record: Record) -> bool:
    """Whether a record has the types that readers count on; one of an older layout is for `is_current` to refuse."""
    event = record.get("event")
    if not isinstance(event, str) or not isinstance(record.get("time", 0), _NUMBER):
        return False
    if event == "start" and "levels" not in record:
        return True
    if not all(isinstance(record.get(name), kind) for name, kind in FIELDS.get(event, {}).items()):
        return False
    if event == "start":
        parts = [record["config"].get(name) for name in ("data", "teacher", "student", "method", "recipe")]
        epochs = parts[-1].get("epochs") if isinstance(parts[-1], dict) else None
        return all(isinstance(part, dict) for part in parts) and isinstance(epochs, int) and epochs > 0
    values = record["metrics"].values() if event == "epoch" else ()
    return all(value is None or isinstance(value, _NUMBER) for value in values)


def _parts_of(line: bytes) -> Iterator[Record | str]:
    """The record of a line; several, where an altered line end has joined it with the next.

    In place of a damaged record stands its kind, "unknown" where that is damaged too.
    """
    record = decode(line)
    if record is not None:
        yield record
        return
    starts = [index for index in range(len(line)) if line.startswith(_START, index)]
    for start, end in itertools.pairwise(dict.fromkeys([0, *starts, len(line)])):
        part = line[start:end]
        record = decode(part[:-1] + b"\n") if line.endswith(b"\n") else None
        kind = _EVENT.search(part)
        yield record if record is not None else kind[1].decode() if kind else "unknown"


def read(path: Path, damaged: Counter[str] | None = None) -> Iterator[Record]:
    """The records of a ledger, in order. What does not match its checksum, or has wrong types, is passed over.

    damaged: counts what was passed over, by kind. A last line that is torn is no damage: its writer was killed.
    Raises LedgerError if the file is absent or cannot be read, LayoutError if it is no ledger, or has another layout.
    """
    damaged = Counter() if damaged is None else damaged
    found, first = False, b""
    try:
        with gzip.open(path) if path.suffix == PACKED else path.open("rb") as file:
            for line in file:
                first = first or line
                for record in _parts_of(line):
                    if isinstance(record, str):
                        damaged[record] += line.endswith(b"\n")
                        continue
                    found = True
                    if not is_current(record):
                        layout = record.get("layout", "unnumbered")
                        age = "a newer" if isinstance(layout, int) and layout > LAYOUT else "an older"
                        raise LayoutError(
                            f"{path}: written by {age} msd_sweeps (layout {layout}, this one reads {LAYOUT}); choose "
                            "another --name, or remove its folder"
                        )
                    yield record
        is_foreign = not found and set(damaged) <= {"unknown"}  # an altered byte spares the start or the event
        if is_foreign and first and not first.startswith(_START) and not _START.startswith(first):
            raise LayoutError(f"{path}: no ledger: none of its lines is a record; move it away")
    except FileNotFoundError as error:
        raise LedgerError(f"{path}: no ledger here; is the name of the sweep right?") from error
    except IsADirectoryError as error:
        raise LayoutError(f"{path}: no ledger but a folder; move it away") from error
    except (OSError, EOFError, zlib.error) as error:
        raise LedgerError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error


def is_current(record: Record) -> bool:
    """Whether a record has this version's layout, as far as one record shows it."""
    if record["event"] == "sweep":
        return record.get("layout") == LAYOUT
    return record["event"] != "start" or "levels" in record


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
                yield from (part for part in _parts_of(line) if not isinstance(part, str))


class Ledger:
    """Appends records; each is on disk when `append` returns. A torn last line is cut off when opened."""

    def __init__(self, path: Path):
        """Raises LedgerError where the file cannot be opened for writing."""
        self.path = path
        try:
            make_folder(path.parent)
            is_new = not path.exists()
            self._file = path.open("ab+", buffering=0)
            self._end = 0
            """Where the last whole line ends."""
            if os.fstat(self._file.fileno()).st_size:
                with mmap.mmap(self._file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ) as content:
                    self._end = content.rfind(b"\n") + 1
                self._file.truncate(self._end)
            if is_new:
                sync_folder(path.parent)
        except OSError as error:
            raise LedgerError(f"{path}: cannot be written: {error.strerror}") from error

    def append(self, event: str, **fields: Any) -> Record:
        """Write one record durably and return it. Non-finite numbers are written as null.

        Raises LedgerError where the disk refuses (full, read-only); the file stays readable, and a later call tries
        again.
        """
        record: Record = {"event": event, "time": round(time.time(), 3), **_finite(fields)}
        line = encode(record)
        if not self._is_in_place():
            raise LedgerError(
                f"{self.path}: was deleted or replaced while the sweep runs, and what was recorded until now with it; "
                "the sweep was stopped; put the folder back if you can, and run the same command again"
            )
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

    def _is_in_place(self) -> bool:
        """Whether the path still names the file that is open."""
        with contextlib.suppress(OSError):
            return os.path.samestat(self.path.stat(), os.fstat(self._file.fileno()))
        return False

    def close(self) -> None:
        self._file.close()


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
