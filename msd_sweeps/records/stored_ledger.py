"""A sweep's ledger in an object store.

Stores cannot append to a file, and not every store publishes a file only when it is whole. So the ledger is kept in two
copies: one is whole while the other is written, and the longer one counts.
"""

import time
from contextlib import suppress
from pathlib import Path

from msd_sweeps.records.files import write_whole
from msd_sweeps.records.ledger import FILE_NAME
from msd_sweeps.records.object_store import StorePath

COPIES = (FILE_NAME, "ledger.second.jsonl")


class StoredLedger:
    """The ledger in a sweep's folder in a store. All methods raise StoreError."""

    def __init__(self, folder: StorePath):
        self.folder, self._copies = folder, [folder / name for name in COPIES]

    def size(self) -> int | None:
        """Bytes of the longer copy; None where there is no ledger."""
        return max((size for copy in self._copies if (size := copy.size()) is not None), default=None)

    def read(self) -> bytes:
        """The whole lines of the longer copy; empty where there is no ledger."""
        found = [b""]
        for copy in self._copies:
            with suppress(FileNotFoundError):
                found.append(whole_lines(copy.read_bytes()))
        return max(found, key=len)

    def write(self, content: bytes, both: bool = False) -> None:
        """Write the ledger over the shorter copy; over both, one after the other, when nothing more will come."""
        sizes = [copy.size() or 0 for copy in self._copies]
        order = sorted((0, 1), key=sizes.__getitem__)
        for index in order if both else order[:1]:
            if sizes[index] != len(content):
                self._copies[index].write_bytes(content)

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
            message = (
                f"{path} has records that {self.folder} lacks, and other drivers went on there: it was set aside as "
                f"{aside.name}"
            )
        write_whole(path, stored)
        return message


def whole_lines(content: bytes) -> bytes:
    """The content without a last line that is not complete."""
    return content[: content.rfind(b"\n") + 1]
