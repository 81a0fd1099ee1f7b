"""A sweep in an object store: one driver's claim on it, its ledger and its teachers."""

import json
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from msd_sweeps.distill import checkpoint
from msd_sweeps.records.files import write_whole
from msd_sweeps.records.ledger import FILE_NAME
from msd_sweeps.records.object_store import Place, StoreError, StorePath, patient
from msd_sweeps.records.stored_ledger import StoredLedger, whole_lines
from msd_sweeps.space.errors import InputError
from msd_sweeps.sweep.lock import described, locked, this_driver

CHECKPOINTS, CLAIM, CARD, WEIGHTS = "checkpoints", "driver.json", "teacher.json", "weights.safetensors"
CLAIM_SECONDS = 60.0
"""A claim that was not renewed for so long is taken over."""
_PAUSE = 10
"""Copying takes a tenth of the time at most: after an upload of a second, ten seconds pass without one."""


class Claim:
    """This driver's claim on a sweep in a store; it has to be renewed several times in CLAIM_SECONDS.

    Object stores have no locks, so it is advisory, and keeps people from starting a sweep twice. Which driver counts is
    decided by the generations of the ledger. Its methods raise StoreError.
    """

    def __init__(self, store: StorePath, folder: Path):
        """store: the sweep's folder in the store. folder: the same on this machine, whose lock is held."""
        self._store, self._file, self._own = store, store / CLAIM, folder / CLAIM
        self._content = {"token": uuid.uuid4().hex, **this_driver()}

    def take(self) -> None:
        """Take the sweep. Raises InputError that names the driver that has it."""
        held = _read(self._file)
        age = time.time() - float(held.get("seen", 0))
        # A claim that was made from this folder is of a driver that has died: the folder's lock is held here.
        if held.get("token") != _read(self._own).get("token") and abs(age) < CLAIM_SECONDS:
            raise InputError(
                f"the sweep '{self._store.name}' is being run by {described(held)}, which was seen {max(0, age):.0f} s "
                f"ago ({self._file}); if that machine is lost, try again in {CLAIM_SECONDS:.0f} s"
            )
        with suppress(OSError):  # without it a driver after this one waits for the claim to run out
            self._own.write_text(json.dumps(self._content))
        self.renew()

    @property
    def holder(self) -> str:
        """Who has the sweep now, in words."""
        held = _read(self._file)
        return described(held) if held else "a driver that has ended"

    def release(self) -> None:
        self._file.unlink(missing_ok=True)

    def renew(self) -> None:
        """Show other drivers that this one lives."""
        self._file.write_bytes(json.dumps({**self._content, "seen": round(time.time(), 1)}).encode())


def _read(claim: Place) -> dict[str, Any]:
    """The content of a claim; empty where there is none, or a torn one. Raises StoreError."""
    with suppress(FileNotFoundError, ValueError):
        content = json.loads(claim.read_bytes())
        return content if isinstance(content, dict) else {}
    return {}


class StoreSync:
    """Keeps a sweep's ledger in a store in step with the driver's own between `begin` and `finish`.

    It works in a thread that delays nobody. A store that fails stops no training.
    """

    def __init__(self, store: StorePath, folder: Path, look_seconds: float = 5.0):
        """store, folder: as for Claim. look_seconds: how often the claim is renewed and the ledger looked at."""
        self.store, self.folder, self._path = store, folder, folder / FILE_NAME
        self.say: Callable[[str], None] = print
        """Shows troubles to the user; called from the thread."""
        self.trouble: str | None = None
        """Why the store does not hold the whole ledger at present."""
        self.taken: str | None = None
        """Why this driver has to end: another has taken the sweep over."""
        self._ledger, self._claim, self._look_seconds = StoredLedger(store), Claim(store, folder), look_seconds
        self._ended_trials: list[Place] = []
        self._copied_size, self._next_copy, self._deadline = 0, 0.0, 0.0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def begin(self) -> None:
        """Claim the sweep and fetch its ledger; the folder's lock is held.

        Raises InputError where another driver has it, or the store does not answer.
        """
        try:
            self._claim.take()
            message = self._ledger.fetch(self._path)
            self._ledger.begin(whole_lines(self._path.read_bytes()) if self._path.exists() else b"")
        except StoreError as error:
            raise InputError(str(error)) from error
        if message:
            self.say(message)
        self._thread.start()

    def remove_later(self, of_trial: Place) -> None:
        """Delete a trial's checkpoints once the store's ledger has its end: another driver would train it again."""
        self._ended_trials.append(of_trial)

    def remove_checkpoints(self) -> None:
        """Delete what is left of a complete sweep: checkpoints of trials that only a lost driver knew."""
        with suppress(StoreError):
            (self.store / CHECKPOINTS).remove_folder()

    def finish(self, seconds: float) -> None:
        """Copy the rest of the ledger, wait up to `seconds` for a store that does not take it, and release the sweep.

        `trouble` says afterwards what is missing. A second call returns at once.
        """
        if self._closing.is_set():
            return
        self._deadline = time.monotonic() + seconds
        self._closing.set()
        self._thread.join(seconds + 1)
        if self._thread.is_alive():
            self.trouble = self.trouble or f"{self.store}: has not answered for {seconds:.0f} s"

    def _work(self) -> None:
        """Keep the store in step until all is copied after `finish`. Troubles that come and go are shown once each."""
        while not self.taken:
            is_last, before = self._closing.is_set(), self.trouble
            try:
                self._step(is_last)
                self.trouble = self.taken
            except Exception as error:  # of any kind: the ledger is tried again, and `trouble` is shown in the end
                self.trouble = str(error)
                if before is None and not is_last:
                    self.say(f"{error}; training goes on, and the ledger is copied when the store takes it")
            if is_last and (self.trouble is None or time.monotonic() >= self._deadline):
                return
            if before and self.trouble is None:
                self.say(f"{self.store}: has the ledger again")
            if is_last:
                time.sleep(self._look_seconds / 10)
            self._closing.wait(self._look_seconds)

    def _step(self, is_last: bool) -> None:
        """Renew the claim, copy the ledger where it has grown, delete checkpoints. Raises StoreError, OSError."""
        if self._is_taken():
            return
        self._claim.renew()
        if time.monotonic() < self._next_copy and not is_last:
            return
        ended = self._ended_trials[:]  # read before the ledger is: the end of each of these trials is in it
        if self._path.exists() and (is_last or self._path.stat().st_size != self._copied_size):
            started = time.monotonic()
            content = whole_lines(self._path.read_bytes())
            self._ledger.write(content, both=is_last)
            self._copied_size = len(content)
            self._next_copy = time.monotonic() + _PAUSE * (time.monotonic() - started)
        if ended and self._is_taken():  # while the ledger was written: others may need the checkpoints
            return
        for of_trial in ended:
            with suppress(StoreError):  # what is left over is deleted by the next launch
                checkpoint.remove(of_trial)
        del self._ended_trials[: len(ended)]
        if is_last:
            with suppress(StoreError):  # it runs out by itself
                self._claim.release()

    def _is_taken(self) -> bool:
        """Whether another driver has begun after this one, which then has to end. Raises StoreError."""
        if self._ledger.is_overtaken():
            self.taken = (
                f"the sweep was taken over by {self._claim.holder} ({self.store}); what was recorded here since "
            )
            self.taken += f"then stays in {self.folder} alone"
        return self.taken is not None


def fetch_others(store: StorePath, storage: Path, name: str) -> None:
    """Fetch the ledgers of a store's other sweeps, as far as they are longer there and no driver here writes them.

    Where that fails, the local ledger counts, or none.
    """
    others: list[StorePath] = []
    with suppress(StoreError):
        others = [folder for folder in store.glob("*") if folder.name != name]
    for folder in others:
        path, stored = storage / folder.name / FILE_NAME, StoredLedger(folder)
        with suppress(StoreError, InputError):
            if (stored.size() or 0) > (path.stat().st_size if path.exists() else 0):
                with locked(path.parent, folder.name):
                    stored.fetch(path)


@patient
def fetch_teacher(stored: StorePath, folder: Path) -> None:
    """Fetch a teacher that a store has whole, in place of a local one: others have learned from the store's.

    Raises StoreError.
    """
    card = folder / CARD
    with suppress(FileNotFoundError, ValueError):  # absent, or a torn card
        content = (stored / CARD).read_bytes()
        if card.exists() and card.read_bytes() == content:
            return
        weights = (stored / WEIGHTS).read_bytes()
        if sha256(weights).hexdigest() == json.loads(content)["weights_sha256"]:
            card.unlink(missing_ok=True)
            write_whole(folder / WEIGHTS, weights)
            write_whole(card, content)


@patient
def keep_teacher(folder: Path, stored: StorePath) -> None:
    """Put a teacher into a store that lacks it. The card comes last: where it is, the weights are whole.

    Raises StoreError.
    """
    content, weights = (folder / CARD).read_bytes(), (folder / WEIGHTS).read_bytes()
    with suppress(FileNotFoundError):
        if (stored / CARD).read_bytes() == content and (stored / WEIGHTS).size() == len(weights):
            return
    (stored / WEIGHTS).write_bytes(weights)
    (stored / CARD).write_bytes(content)
