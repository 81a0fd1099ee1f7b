"""Checkpoints that are whole or recognised as torn: a checksum stands before the content.

On a disk they are written aside and renamed; most object stores show a file only when it is whole. Reading waits half a
minute for a store that does not answer. A file's name says what it holds, so that planning needs no torch.
"""

import hashlib
import io
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from msd_sweeps.records.files import write_whole
from msd_sweeps.records.object_store import Place, StoreError, patient

_MAGIC = b"msd_sweeps 1\n"
_HEADER = len(_MAGIC) + 32
_NAME = re.compile(r"epoch-(\d+)\.pt")
_KEPT, _KEPT_IN_STORE = 3, 6
"""A slot may be an epoch ahead of the ledger while it writes the next; a resumed trial begins where the ledger is. The
copy of the ledger in an object store is some seconds old."""


class CheckpointError(Exception):
    """A checkpoint cannot be written or is damaged; the message names the file."""


def save(folder: Place, epoch: int, state: dict[str, Any]) -> Place:
    """Write a state as `write` does. Raises CheckpointError."""
    import torch

    buffer = io.BytesIO()
    torch.save(state, buffer)
    return write(folder, epoch, buffer.getvalue())


def write(folder: Place, epoch: int, content: bytes) -> Place:
    """Write bytes durably; the two checkpoints before are kept (five in a store), older ones are deleted.

    epoch: whole epochs behind the student. Raises CheckpointError where the disk or the store refuses; earlier
    checkpoints stay.
    """
    path = folder / f"epoch-{epoch:06d}.pt"
    content = _MAGIC + hashlib.sha256(content).digest() + content
    try:
        write_whole(path, content) if isinstance(path, Path) else path.write_bytes(content)
    except StoreError as error:
        message = f"{error} ({len(content):,} bytes); run the same command again when the store takes them"
        raise CheckpointError(message) from error
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}; free some space and run the same command again") from error
    with suppress(StoreError):  # they are deleted after the next one
        for old in _files(folder)[: -(_KEPT if isinstance(path, Path) else _KEPT_IN_STORE)]:
            old.unlink(missing_ok=True)
    return path


def _files(folder: Place, pattern: str = "epoch-*.pt") -> list[Place]:
    """The checkpoints of a folder, the oldest first. Raises StoreError."""
    return sorted(folder.glob(pattern))


def load(path: Place) -> dict[str, Any]:
    """The state in a file, on the CPU. Raises CheckpointError for a damaged or foreign file, StoreError."""
    import torch

    return torch.load(io.BytesIO(read(path)), weights_only=True, map_location="cpu")


@patient
def newest(folder: Place, most: int | None = None) -> Place | None:
    """The newest whole checkpoint with at most `most` epochs, if there is one; a damaged one is renamed `*.damaged`.

    Raises StoreError.
    """
    for path in reversed(_files(folder)):
        name = _NAME.fullmatch(path.name)
        if name is None or (most is not None and int(name[1]) > most):
            continue
        try:
            read(path)
        except CheckpointError:
            with suppress(StoreError, FileNotFoundError):  # it is found damaged again, or another process renamed it
                path.rename(str(folder / path.name.replace(".pt", ".damaged")))
        else:
            return path
    return None


def remove(folder: Place) -> None:
    """Delete the checkpoints of a trial that has ended, and the folder if nothing else is in it. Raises StoreError."""
    for path in _files(folder, "epoch-*"):
        path.unlink(missing_ok=True)
    if isinstance(folder, Path):
        with suppress(OSError):  # it is not empty, or another process removed it
            folder.rmdir()
    elif not folder.glob("*"):
        folder.remove_folder()


@patient
def read(path: Place) -> bytes:
    """The content of a checkpoint. Raises CheckpointError for a damaged or foreign file, StoreError."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        raise CheckpointError(f"{path}: cannot be read: {error}") from error
    if not raw.startswith(_MAGIC) or hashlib.sha256(raw[_HEADER:]).digest() != raw[len(_MAGIC) : _HEADER]:
        raise CheckpointError(f"{path}: damaged (its checksum does not match)")
    return raw[_HEADER:]
