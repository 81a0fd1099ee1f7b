"""Checkpoints that are whole or recognised as torn: a checksum before the content, written aside and renamed.

In an object store they are written in one go, as a file appears there when it is whole; the checksum tells where that
does not hold. A store that does not answer is asked again for half a minute when something is read.

The name of a file tells what it holds, so that those who only plan need neither torch nor the content.
"""

import hashlib
import io
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from msd_sweeps.records.files import write_whole
from msd_sweeps.records.object_store import Place, StoreError, StorePath, patiently

_MAGIC = b"msd_sweeps 1\n"
_HEADER = len(_MAGIC) + 32
_NAME = re.compile(r"epoch-(\d+)-position-(\d+)\.pt")
_KEPT = 2


class CheckpointError(Exception):
    """A checkpoint cannot be written or is damaged; the message names the file."""


def save(folder: Place, epoch: int, position: int, state: dict[str, Any]) -> Place:
    """Write a state as `write` does. Raises CheckpointError."""
    import torch

    buffer = io.BytesIO()
    torch.save(state, buffer)
    return write(folder, epoch, position, buffer.getvalue())


def write(folder: Place, epoch: int, position: int, content: bytes) -> Place:
    """Write bytes durably; the checkpoint before is kept, older ones go.

    epoch: whole epochs behind the student. position: the stream's epoch that comes next. Raises CheckpointError
    where the disk or the store refuses, leaving what was there.
    """
    name = f"epoch-{epoch:06d}-position-{position:06d}.pt"
    content = _MAGIC + hashlib.sha256(content).digest() + content
    if isinstance(folder, Path):
        _write_to_disk(folder / name, content)
    else:
        _write_to_store(folder / name, content)
    with suppress(StoreError):  # they go after the next one
        kept: list[Place] = sorted(folder.glob("epoch-*.pt"))
        for old in kept[:-_KEPT]:
            old.unlink(missing_ok=True)
    return folder / name


def _write_to_disk(path: Path, content: bytes) -> None:
    try:
        write_whole(path, content)
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}; free some space and run the same command again") from error


def _write_to_store(path: StorePath, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except StoreError as error:
        raise CheckpointError(
            f"{error} ({len(content):,} bytes); run the same command again when the store takes them"
        ) from error


def load(path: Place) -> dict[str, Any]:
    """The state in a file, on the CPU. Raises CheckpointError for a damaged or foreign file, StoreError."""
    import torch

    return torch.load(io.BytesIO(read(path)), weights_only=True, map_location="cpu")


def positions(folder: Place) -> dict[int, Place]:
    """The whole checkpoints of a folder by stream position, newest first; a damaged one is renamed `*.damaged`.

    Raises StoreError.
    """
    found: dict[int, Place] = {}
    paths: list[Place] = patiently(lambda: sorted(folder.glob("epoch-*.pt"), reverse=True))
    for path in paths:
        name = _NAME.fullmatch(path.name)
        if name is None:
            continue
        try:
            read(path)
        except CheckpointError:
            with suppress(StoreError, FileNotFoundError):  # it is found damaged again, or has gone
                path.rename(str(path.with_suffix(".damaged")))
        else:
            found[int(name[2])] = path
    return found


def remove(folder: Place) -> None:
    """Delete the checkpoints of a trial that has ended. Raises StoreError."""
    paths: list[Place] = list(folder.glob("*"))
    ours = [path for path in paths if path.name.startswith("epoch-")]
    if isinstance(folder, StorePath) and len(ours) == len(paths):
        folder.remove_folder()  # one request instead of many, and no empty folder stays
        return
    for path in ours:
        path.unlink(missing_ok=True)
    if isinstance(folder, Path) and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def read(path: Place) -> bytes:
    """What was written. Raises CheckpointError for a damaged or foreign file, StoreError."""
    try:
        raw = patiently(path.read_bytes)
    except StoreError:
        raise
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error}") from error
    if not raw.startswith(_MAGIC) or hashlib.sha256(raw[_HEADER:]).digest() != raw[len(_MAGIC) : _HEADER]:
        raise CheckpointError(f"{path}: damaged (its checksum does not match)")
    return raw[_HEADER:]
