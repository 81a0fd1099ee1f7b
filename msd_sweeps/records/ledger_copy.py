"""A ledger's copy in an object store: written in turn to two files, so that one is whole while the other is written.

Not every store publishes a file only when it is whole, and none can append to one.
"""

import time
from pathlib import Path

from msd_sweeps.records.files import write_whole
from msd_sweeps.records.ledger import FILE_NAME
from msd_sweeps.records.object_store import StorePath

COPIES = (FILE_NAME, "ledger.second.jsonl")


def whole_lines(content: bytes) -> bytes:
    """Without a last line that is still being written."""
    return content[: content.rfind(b"\n") + 1]


def is_there(folder: StorePath) -> bool:
    """Whether a sweep's folder holds a ledger. Raises StoreError."""
    return any((folder / name).size() is not None for name in COPIES)


def newest(folder: StorePath) -> tuple[bytes, int]:
    """The longer copy of the ledger in a sweep's folder, and which of COPIES it is; empty where there is none.

    Raises StoreError.
    """
    found = []
    for name in COPIES:
        try:
            found.append(whole_lines((folder / name).read_bytes()))
        except FileNotFoundError:
            found.append(b"")
    return (found[0], 0) if len(found[0]) >= len(found[1]) else (found[1], 1)


def fetch(folder: StorePath, path: Path) -> str | None:
    """Bring a local ledger up to the copy in a store, unless it holds more than that already.

    Where each holds what the other does not, the store's counts, as others have gone on from it, and the local one is
    set aside; gives what to tell of that. Raises StoreError.
    """
    there, _ = newest(folder)
    here = whole_lines(path.read_bytes()) if path.exists() else b""
    if here.startswith(there):
        return None
    told = None
    if not there.startswith(here):
        aside = path.with_name(f"ledger.set-aside-{time.strftime('%Y%m%d-%H%M%S')}.jsonl")
        path.replace(aside)
        told = f"{path} has records that {folder} lacks, and others went on there: it was set aside as {aside.name}"
    write_whole(path, there)
    return told


def is_ahead(folder: StorePath, path: Path) -> bool:
    """Whether a store's copy is longer than a local ledger, by sizes alone. Raises StoreError."""
    here = path.stat().st_size if path.exists() else 0
    return max((folder / name).size() or 0 for name in COPIES) > here
