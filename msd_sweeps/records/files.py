"""Files that are whole or absent, also after a power cut; and folders that can be written."""

import os
import uuid
from contextlib import suppress
from pathlib import Path

from msd_sweeps.space.errors import InputError


def write_whole(path: Path, content: bytes) -> None:
    """Write a file, and the folders above it, so that a reader finds all of its content or the file from before.

    The content is written to a file beside it, synced to the disk and renamed; the other file has a name of its own,
    so two processes that write the same path do not share it. Raises OSError that names the path.
    """
    beside = path.with_name(f"{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.part")
    try:
        make_folder(path.parent)
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        with suppress(OSError):
            beside.unlink()
        reason = f"{len(content):,} bytes could not be written: {error.strerror}"
        raise OSError(error.errno, reason, str(path)) from error


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, so that they are still there after a power cut. Raises OSError."""
    absent = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for new in absent:
        sync_folder(new.parent)


def sync_folder(folder: Path) -> None:
    """Sync a folder's list of names to the disk: without it a new file can be missing after a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_folder(folder: Path, flag: str) -> None:
    """Raises InputError where files cannot be written into a folder, which may have to be made; `flag` names it."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        found = "is no folder" if not there.is_dir() else "cannot be written"
        raise InputError(f"{flag}: {folder} cannot be made, because {there} {found}; choose another {flag}")
