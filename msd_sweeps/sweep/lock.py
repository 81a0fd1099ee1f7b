"""One driver at a time: a lock on the sweep's folder, and a claim where the sweep is kept in an object store.

Object stores have no locks, so a claim is advisory: two drivers that start in the same instant may both get it.
"""

import fcntl
import json
import os
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from msd_sweeps.records.object_store import Place, StorePath
from msd_sweeps.space.strict_yaml import InputError

CLAIM = "driver.json"
CLAIM_SECONDS = 60.0
"""A claim that was not renewed for so long is taken over."""


@contextmanager
def locked(folder: Path, name: str) -> Iterator[None]:
    """Hold a sweep's folder; the lock ends with the process. Raises InputError that names its holder."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise InputError(f"the sweep '{name}' is being run by {holder}") from error
        with suppress(OSError):  # on a full disk the lock holds all the same
            file.truncate(0)
            file.write(f"{_holder(_this_driver())}\n")
            file.flush()
        yield


class Claim:
    """This driver's claim on a sweep in a store; it has to be renewed several times in CLAIM_SECONDS."""

    def __init__(self, store: StorePath, folder: Path):
        """store: the sweep's folder in the store. folder: the same on this machine, whose lock is held."""
        self._store, self._file, self._own = store, store / CLAIM, folder / CLAIM
        self._content = {"token": uuid.uuid4().hex, **_this_driver()}

    def take(self) -> None:
        """Take the sweep. Raises InputError that names the driver that has it, StoreError."""
        held = _read(self._file)
        age = time.time() - float(held.get("seen", 0))
        # A claim that was made from this folder is of a driver that has died: the folder's lock is held here.
        if held.get("token") != _read(self._own).get("token") and abs(age) < CLAIM_SECONDS:
            raise InputError(
                f"the sweep '{self._store.name}' is being run by {_holder(held)}, which was seen {max(0, age):.0f} s "
                f"ago ({self._file}); if that machine is lost, try again in {CLAIM_SECONDS:.0f} s"
            )
        with suppress(OSError):  # without it a driver after this one waits for the claim to run out
            self._own.write_text(json.dumps(self._content))
        self._write()

    def renew(self) -> str | None:
        """Show other drivers that this one lives. Returns the driver that has taken the sweep over, if one has.

        Raises StoreError.
        """
        held = _read(self._file)
        if held.get("token") != self._content["token"]:
            return _holder(held) if held else "a driver that has ended"
        self._write()
        return None

    def release(self) -> None:
        """Raises StoreError."""
        self._file.unlink(missing_ok=True)

    def _write(self) -> None:
        self._file.write_bytes(json.dumps({**self._content, "seen": round(time.time(), 1)}).encode())


def _read(claim: Place) -> dict[str, Any]:
    """The content of a claim; empty where there is none, or a torn one. Raises StoreError."""
    with suppress(FileNotFoundError, ValueError):
        content = json.loads(claim.read_bytes())
        if isinstance(content, dict):
            return content
    return {}


def _this_driver() -> dict[str, Any]:
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    return {"host": socket.gethostname(), "process": os.getpid(), "since": since}


def _holder(held: dict[str, Any]) -> str:
    return f"process {held.get('process')} on {held.get('host')} since {held.get('since')}"
