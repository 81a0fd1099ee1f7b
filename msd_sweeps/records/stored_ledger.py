"""A sweep's ledger in an object store.

Stores cannot append to a file, and not every store publishes a file only when it is whole. So the ledger is written in
turn to two files: one is whole while the other is written, and the longer one counts.
"""

import time
from contextlib import suppress
from pathlib import Path

from msd_sweeps.records.files import write_whole
from msd_sweeps.records.ledger import FILE_NAME
from msd_sweeps.records.object_store import StorePath

COPIES = (FILE_NAME, "ledger.second.jsonl")


class StoredLedger:
    """The two copies of the ledger in a sweep's folder in a store. All methods raise StoreError."""

    def __init__(self, folder: StorePath):
        self.folder = folder
        self.length = 0
        """Bytes that were read or written last."""
        self._copies = [folder / name for name in COPIES]
        self._next = 0
        """The copy that is written next."""

    @property
    def has_usual_name(self) -> bool:
        """Whether the last copy is the one under the name of a ledger, where people look for it."""
        return self._next == 1

    def size(self) -> int | None:
        """Bytes of the longer copy; None where there is no ledger."""
        return max((size for copy in self._copies if (size := copy.size()) is not None), default=None)

    def read(self) -> bytes:
        """The whole lines of the longer copy; empty where there is no ledger. The next `write` replaces the other."""
        found = [b"", b""]
        for index, copy in enumerate(self._copies):
            with suppress(FileNotFoundError):
                found[index] = whole_lines(copy.read_bytes())
        self.length = max(map(len, found))
        if self.length:
            self._next = 1 if len(found[0]) == self.length else 0
        return found[1 - self._next]

    def write(self, content: bytes) -> None:
        """Write the ledger in place of the older copy."""
        self._copies[self._next].write_bytes(content)
        self.length, self._next = len(content), 1 - self._next

    def fetch(self, path: Path) -> str | None:
        """Bring the ledger at `path` up to the one in the store, unless it already has more.

        Where each has records that the other lacks, the store's replaces the local one, because other drivers have
        gone on from it; the local one is set aside. The answer is a message about that, or None.
        """
        stored = self.read()
        local = whole_lines(path.read_bytes()) if path.exists() else b""
        if local.startswith(stored):
            return None
        message = None
        if not stored.startswith(local):
            aside = path.with_name(f"ledger.set-aside-{time.strftime('%Y%m%d-%H%M%S')}.jsonl")
            path.replace(aside)
            message = (
                f"{path} has records that {self.folder} lacks, and other drivers went on there: it was set aside as "
                f"{aside.name}"
            )
        write_whole(path, stored)
        return message


def whole_lines(content: bytes) -> bytes:
    """The content without a last line that is not complete."""
    return content[: content.rfind(b"\n") + 1]
