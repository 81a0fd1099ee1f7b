"""The ledger of a sweep in an object store, where every driver writes files of its own.

Stores have no locks, cannot append to a file, and may let an upload through that stood still for an hour. So a driver
begins a new generation of the ledger from what it has fetched, and nobody else writes to its files; readers choose the
newest. Not every store publishes a file only when it is whole: of the two copies of a generation one is whole while the
other is written, and the longer one counts.
"""

import re
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from msd_sweeps.records.files import write_whole
from msd_sweeps.records.object_store import StoreError, StorePath

_NAME = re.compile(r"ledger\.(\d{6})-([0-9a-f]{8})-(\d+)\.[12]\.jsonl")


class Generation(NamedTuple):
    """The files of one driver, in the order in which readers prefer them: the last one counts."""

    number: int
    token: str
    least: int
    """Bytes that it began with. It does not count before a copy has them."""

    def copies(self, folder: StorePath) -> list[StorePath]:
        """Both copies, whether they exist or not."""
        return [folder / f"ledger.{self.number:06d}-{self.token}-{self.least}.{copy}.jsonl" for copy in (1, 2)]


class StoredLedger:
    """The ledger in a sweep's folder in a store. All methods raise StoreError."""

    def __init__(self, folder: StorePath):
        self.folder = folder
        self.own: Generation | None = None
        """What this driver writes; None before `begin`."""

    def begin(self, content: bytes) -> None:
        """Begin a generation with the content, and delete those before. Raises StoreError also where another driver
        begins in the same instant."""
        before = self._generations()
        number = 1 + max((one.number for one in before), default=0)
        own = self.own = Generation(number, uuid.uuid4().hex[:8], len(content))
        self.write(content, both=True)
        if any(one.number >= number for one in self._generations() if one != own):
            for copy in own.copies(self.folder):
                copy.unlink(missing_ok=True)
            raise StoreError(f"{self.folder}: another driver began with this sweep in the same instant; try again")
        for copy in (copy for one in before for copy in one.copies(self.folder)):
            with suppress(StoreError):  # the next driver tries again
                copy.unlink(missing_ok=True)

    def is_overtaken(self) -> bool:
        """Whether a driver has begun after this one."""
        return self.own is not None and any(one > self.own for one in self._generations())

    def size(self) -> int | None:
        """Bytes of the longest copy that counts; None where there is no ledger."""
        return self._newest()[0]

    def read(self) -> bytes:
        """The whole lines of the longest copy that counts; empty where there is no ledger."""
        for _ in range(3):
            size, copy = self._newest()
            if copy is None:
                break
            with suppress(FileNotFoundError):  # a driver has begun meanwhile, and deleted it
                if len(content := copy.read_bytes()) >= (size or 0):
                    return whole_lines(content)
        return b""

    def write(self, content: bytes, both: bool = False) -> None:
        """Write the ledger over the shorter own copy; over both, one after the other, when nothing more will come."""
        assert self.own is not None, "begin() comes first"
        shorter_first = sorted(
            (-1 if (size := copy.size()) is None else size, copy) for copy in self.own.copies(self.folder)
        )
        for size, copy in shorter_first if both else shorter_first[:1]:
            if size != len(content):
                copy.write_bytes(content)

    def fetch(self, path: Path) -> str | None:
        """Bring the ledger at `path` up to the one in the store, unless it already has more.

        Where each has records that the other lacks, the store's replaces the local one, because other drivers have
        gone on from it; the local one is set aside. Returns a message about that, or None.
        """
        stored = self.read()
        local = whole_lines(path.read_bytes()) if path.exists() else b""
        if local.startswith(stored):
            return None
        message = None
        if not stored.startswith(local):
            aside = path.with_name(f"ledger.set-aside-{time.strftime('%Y%m%d-%H%M%S')}.jsonl")
            path.replace(aside)
            message = f"{path} has records that {self.folder} lacks, and other drivers went on there: it was set aside "
            message += f"as {aside.name}"
        write_whole(path, stored)
        return message

    def _generations(self) -> list[Generation]:
        """All that have a file, the oldest first."""
        names = (_NAME.fullmatch(file.name) for file in self.folder.glob("ledger.*.jsonl"))
        return sorted({Generation(int(name[1]), name[2], int(name[3])) for name in names if name})

    def _newest(self) -> tuple[int | None, StorePath | None]:
        """The longest copy of the newest generation that counts, with its size."""
        for generation in reversed(self._generations()):
            sizes = [(size, copy) for copy in generation.copies(self.folder) if (size := copy.size()) is not None]
            if sizes and max(sizes)[0] >= generation.least:
                return max(sizes)
        return None, None


def whole_lines(content: bytes) -> bytes:
    """The content without a last line that is not complete."""
    return content[: content.rfind(b"\n") + 1]
