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

from msd_sweeps.records.object_store import StorePath
from msd_sweeps.space.errors import InputError

CLAIM = "driver.json"
CLAIM_SECONDS = 60.0
"""A claim that was not renewed for so long is taken over."""
_RENEWED_SECONDS = 15.0


@contextmanager
def locked(folder: Path, name: str) -> Iterator[None]:
    """Hold a sweep's folder; the lock goes with the process. Raises InputError that says who holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            raise InputError(
                f"the sweep '{name}' is being run by {file.read().strip() or 'another process'}"
            ) from error
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        with suppress(OSError):  # on a full disk the lock holds all the same
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()} since {since}\n")
            file.flush()
        yield


class Claim:
    """This driver's claim on a sweep in a store, renewed every few seconds for as long as it runs."""

    def __init__(self, store: StorePath, folder: Path):
        """store: the sweep's folder in the store. folder: the same on this machine, whose lock is held."""
        self._store, self._file, self._own = store, store / CLAIM, folder / CLAIM
        self._content = {
            "token": uuid.uuid4().hex,
            "host": socket.gethostname(),
            "process": os.getpid(),
            "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        }
        self._renewed = 0.0

    def take(self) -> None:
        """Take the sweep. Raises InputError that says who holds it, StoreError."""
        held = self._read()
        # One that was made from this folder is of a driver that has died: the folder's lock is ours.
        if held.get("token") != self._made_here():
            age = time.time() - float(held.get("seen", 0))
            if abs(age) < CLAIM_SECONDS:
                raise InputError(
                    f"the sweep '{self._store.name}' is being run by {_who(held)}, which was seen {max(0, age):.0f} s "
                    f"ago ({self._file}); if that machine is lost, try again in {CLAIM_SECONDS:.0f} s"
                )
        with suppress(OSError):  # without it a driver after this one waits for the claim to run out
            self._own.write_text(json.dumps(self._content))
        self._write()

    def renew(self) -> str | None:
        """Tell others that this driver lives, every few seconds; who has taken the sweep over, if someone has.

        Raises StoreError.
        """
        if time.monotonic() - self._renewed < _RENEWED_SECONDS:
            return None
        held = self._read()
        if held.get("token") != self._content["token"]:
            return _who(held) if held else "a driver that has ended"
        self._write()
        return None

    def release(self) -> None:
        """Raises StoreError."""
        self._file.unlink(missing_ok=True)

    def _write(self) -> None:
        self._file.write_bytes(json.dumps({**self._content, "seen": round(time.time(), 1)}).encode())
        self._renewed = time.monotonic()

    def _made_here(self) -> str | None:
        try:
            return str(json.loads(self._own.read_text())["token"])
        except (OSError, ValueError, KeyError):
            return None

    def _read(self) -> dict[str, Any]:
        """The claim in the store; empty where there is none, or one that is torn."""
        try:
            content = json.loads(self._file.read_bytes())
        except (FileNotFoundError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}


def _who(held: dict[str, Any]) -> str:
    return f"process {held.get('process')} on {held.get('host')} since {held.get('since')}"
