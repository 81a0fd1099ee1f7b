"""Keeps a sweep's ledger in an object store in step with the driver's own, from a thread that delays nobody."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from msd_sweeps.distill import checkpoint
from msd_sweeps.records.ledger import FILE_NAME
from msd_sweeps.records.object_store import Place, StoreError, StorePath
from msd_sweeps.records.stored_ledger import StoredLedger, whole_lines
from msd_sweeps.space.strict_yaml import InputError
from msd_sweeps.sweep.lock import Claim, locked

CHECKPOINTS = "checkpoints"
_PAUSE = 10
"""Copying takes a tenth of the time at most: after an upload of a second, ten seconds pass without one."""


def checkpoints_of(folder: Place) -> Place:
    """The folder of a sweep's checkpoints, which has a folder for each trial, on a disk or in a store."""
    return folder / CHECKPOINTS


class StoreSync:
    """Between `begin` and `finish` the store follows the ledger. A store that fails stops no training."""

    def __init__(self, store: StorePath, folder: Path, look_seconds: float = 5.0):
        """store: the sweep's folder in the store. folder: the same on this machine.

        look_seconds: how often the claim is renewed and the ledger looked at.
        """
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
        except StoreError as error:
            raise InputError(str(error)) from error
        if message:
            self.say(message)
        self._thread.start()

    def remove_later(self, of_trial: Place) -> None:
        """Delete the checkpoints of a trial that has ended, once the store's ledger says so: until then a driver on
        another machine would train it again."""
        self._ended_trials.append(of_trial)

    def remove_checkpoints(self) -> None:
        """Delete what is left of a sweep that is complete: checkpoints of trials that a lost driver began and the
        ledger does not have."""
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
        self._try()
        while not self.taken and not self._closing.wait(self._look_seconds):
            self._try()
        while not self.taken and not self._try(is_last=True) and time.monotonic() < self._deadline:
            time.sleep(self._look_seconds / 10)

    def _try(self, is_last: bool = False) -> bool:
        """One step; whether the store has everything. Troubles that come and go are shown once each."""
        before = self.trouble
        try:
            self._step(is_last)
            self.trouble = self.taken
        except Exception as error:  # of any kind: the ledger is tried again, and `trouble` is shown in the end
            self.trouble = str(error)
            if before is None and not is_last:
                self.say(f"{error}; training goes on, and the ledger is copied when the store takes it")
        if before is not None and self.trouble is None and not is_last:
            self.say(f"{self.store}: has the ledger again")
        return self.trouble is None

    def _step(self, is_last: bool) -> None:
        """Renew the claim, copy the ledger where it has grown, delete checkpoints. Raises StoreError, OSError."""
        holder = self._claim.renew()
        if holder is not None:
            self.taken = (
                f"the sweep was taken over by {holder} ({self.store}); what was recorded here since then stays in "
                f"{self.folder} alone"
            )
            return
        if time.monotonic() < self._next_copy and not is_last:
            return
        # Read before the ledger is: the end of each of these trials is in it.
        ended = self._ended_trials[:]
        if self._path.exists() and (is_last or self._path.stat().st_size != self._copied_size):
            started = time.monotonic()
            content = whole_lines(self._path.read_bytes())
            self._ledger.write(content, both=is_last)
            self._copied_size = len(content)
            self._next_copy = time.monotonic() + _PAUSE * (time.monotonic() - started)
        for of_trial in ended:
            with suppress(StoreError):  # what is left over is deleted by the next launch
                checkpoint.remove(of_trial)
        del self._ended_trials[: len(ended)]
        if is_last:
            with suppress(StoreError):  # it runs out by itself
                self._claim.release()


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
