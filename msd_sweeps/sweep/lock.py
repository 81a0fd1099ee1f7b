"""One driver at a time: a lock on the sweep's folder, and the words for who holds it."""

import errno
import fcntl
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from msd_sweeps.records.files import make_folder
from msd_sweeps.space.errors import InputError


@contextmanager
def locked(folder: Path, name: str) -> Iterator[None]:
    """Hold a sweep's folder; the lock ends with the process. Raises InputError that names its holder."""
    try:
        make_folder(folder)
        opened = (folder / "lock").open("a+")
    except OSError as error:
        raise InputError(f"{folder}: no sweep can be kept here: {error.strerror}; choose another --storage") from error
    with opened as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                hint = "its file system has no locks; choose a --storage on another"
                raise InputError(f"{file.name}: cannot be locked: {error.strerror}; {hint}") from error
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise InputError(f"the sweep '{name}' is being run by {holder}") from error
        with suppress(OSError):  # on a full disk the lock holds all the same
            file.truncate(0)
            file.write(f"{described(this_driver())}\n")
            file.flush()
        yield


def this_driver() -> dict[str, Any]:
    """What others are shown of this process."""
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    return {"host": socket.gethostname(), "process": os.getpid(), "since": since}


def described(driver: Mapping[str, Any]) -> str:
    """A driver in words, from what `this_driver` gave there."""
    return f"process {driver.get('process')} on {driver.get('host')} since {driver.get('since')}"
