"""The ledger: an append-only file of every attempt of every trial. Everything else is compiled from it.

One JSON object a line, each with a checksum, flushed to disk before anyone acts on it. One process writes.
"""

import contextlib
import errno
import itertools
import json
import mmap
import os
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msd_sweeps.records.files import sync_folder

Record = dict[str, Any]

FILE_NAME = "ledger.jsonl"
_START = b'{"crc":"'
LAYOUT = 4
"""The layout of the records, which every "sweep" record names; a ledger of another layout is refused."""


class LedgerError(Exception):
    """A ledger cannot be read or written; the message names the file."""


class LayoutError(LedgerError):
    """A ledger was written by a version of msd_sweeps with another layout of records."""


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
    return json.loads(b"{" + body)


def _records_in(line: bytes) -> Iterator[Record]:
    """The record of a line; several, where an altered line end has joined it with the next."""
    record = decode(line)
    if record is not None:
        yield record
    elif line.endswith(b"\n"):
        starts = [index for index in range(len(line)) if line.startswith(_START, index)]
        for start, end in itertools.pairwise([*starts, len(line)]):
            record = decode(line[start : end - 1] + b"\n")
            if record is not None:
                yield record


def read(path: Path) -> Iterator[Record]:
    """The records of a ledger, in order. What does not match its checksum is passed over.

    Raises LedgerError if the file is absent or cannot be read, LayoutError if its records have another layout.
    """
    try:
        with path.open("rb") as file:
            for line in file:
                for record in _records_in(line):
                    if not is_current(record):
                        layout = record.get("layout", "unnumbered")
                        age = "a newer" if isinstance(layout, int) and layout > LAYOUT else "an older"
                        raise LayoutError(
                            f"{path}: written by {age} msd_sweeps (layout {layout}, this one reads {LAYOUT}); choose "
                            "another --name, or remove its folder"
                        )
                    yield record
    except FileNotFoundError as error:
        raise LedgerError(f"{path}: no ledger here; is the name of the sweep right?") from error
    except OSError as error:
        raise LedgerError(f"{path}: cannot be read: {error.strerror}") from error


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
                yield from _records_in(line)


class Ledger:
    """Appends records; each is on disk when `append` returns. A torn last line is cut off when opened."""

    def __init__(self, path: Path):
        """Raises LedgerError where the file cannot be opened for writing."""
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
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


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
