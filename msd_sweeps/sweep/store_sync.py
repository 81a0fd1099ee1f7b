"""Keeps a sweep's ledger in an object store in step with the driver's own, from a thread that delays nobody."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from msd_sweeps.distill import checkpoint
from msd_sweeps.records.ledger import FILE_NAME
from msd_sweeps.records.ledger_copy import COPIES, fetch, is_ahead, newest, whole_lines
from msd_sweeps.records.object_store import Place, StoreError, StorePath
from msd_sweeps.space.errors import InputError
from msd_sweeps.sweep.lock import Claim, locked

CHECKPOINTS = "checkpoints"
_LOOK_SECONDS = 5.0
_SHARE = 10
"""Copying takes a tenth of the time at most: an upload that took a second is followed by ten without."""
_RETRY_SECONDS = 0.5


def checkpoints_of(folder: Place) -> Place:
    """Where a sweep's folder, on a disk or in a store, has a folder of checkpoints for each trial."""
    return folder / CHECKPOINTS


class Keeper:
    """Between `begin` and `finish` the store follows the ledger. A store that fails stops no training."""

    def __init__(self, store: StorePath, folder: Path):
        """store: the sweep's folder in the store. folder: the same on this machine."""
        self.store, self.folder = store, folder
        self.say: Callable[[str], None] = print
        """Where troubles are shown; called from the thread."""
        self.trouble: str | None = None
        """Why the store does not hold the whole ledger at present."""
        self.taken: str | None = None
        """Why this driver has to end: another has taken the sweep over."""
        self._claim = Claim(store, folder)
        self._endings: list[Place] = []
        self._size, self._turn, self._due = 0, 0, 0.0
        self._closing = threading.Event()
        self._deadline, self._is_given_up = 0.0, False
        self._thread = threading.Thread(target=self._work, daemon=True)

    def begin(self) -> None:
        """Claim the sweep and fetch its ledger; the folder's lock is held.

        Raises InputError where another driver has it, or the store does not answer.
        """
        try:
            self._claim.take()
            path = self.folder / FILE_NAME
            told = fetch(self.store, path)
            there, which = newest(self.store)
            if there:
                self._turn = 1 - which
                self._size = len(there)
        except StoreError as error:
            raise InputError(str(error)) from error
        if told:
            self.say(told)
        self._thread.start()

    def remove_later(self, of_trial: Place) -> None:
        """Delete the checkpoints of a trial that has ended, once the store knows that it has: a driver elsewhere
        would train it again."""
        self._endings.append(of_trial)

    def remove_checkpoints(self) -> None:
        """Delete what is left of a sweep that is complete: of trials that a lost driver began and its ledger did not
        know."""
        with suppress(StoreError):
            (self.store / CHECKPOINTS).remove_folder()

    def finish(self, seconds: float) -> None:
        """Copy the rest of the ledger, waiting up to `seconds` for a store that does not take it, and let the sweep
        go. `trouble` tells afterwards what is missing."""
        if self._is_given_up:
            return
        self._deadline = time.monotonic() + seconds
        self._closing.set()
        self._thread.join(seconds + _RETRY_SECONDS)
        self._is_given_up = self._thread.is_alive()
        if self._is_given_up:
            self.trouble = self.trouble or f"{self.store}: has not answered for {seconds:.0f} s"

    def _work(self) -> None:
        wait = 0.0
        while not self.taken:
            is_last = self._closing.wait(wait)
            try:
                self._step(is_last)
            except Exception as error:  # whatever it is, the ledger is tried again and the end tells of it
                if self.trouble is None and not is_last:
                    self.say(f"{error}; training goes on, and the ledger is copied when the store takes it")
                self.trouble = str(error)
                if is_last:
                    if time.monotonic() > self._deadline:
                        return
                    time.sleep(_RETRY_SECONDS)
            else:
                if self.trouble is not None and not is_last:
                    self.say(f"{self.store}: has the ledger again")
                self.trouble = self.taken
                if is_last:
                    return
            wait = _LOOK_SECONDS

    def _step(self, is_last: bool) -> None:
        holder = self._claim.renew()
        if holder is not None:
            self.taken = (
                f"the sweep was taken over by {holder} ({self.store}); what was recorded here since then stays in "
                f"{self.folder} alone"
            )
            return
        if time.monotonic() < self._due and not is_last:
            return
        # Before the ledger is read: whatever is listed here has its end in it.
        ended = self._endings[:]
        path = self.folder / FILE_NAME
        if path.exists():
            if path.stat().st_size != self._size:
                self._copy(path)
            # Who looks into the store afterwards finds the whole ledger under its usual name.
            if is_last and self._turn == 0:
                self._copy(path)
        for of_trial in ended:
            with suppress(StoreError):  # what is left over is deleted by the next launch
                checkpoint.remove(of_trial)
        del self._endings[: len(ended)]
        if is_last:
            with suppress(StoreError):  # it runs out by itself
                self._claim.release()

    def _copy(self, path: Path) -> None:
        started = time.monotonic()
        content = whole_lines(path.read_bytes())
        (self.store / COPIES[self._turn]).write_bytes(content)
        self._turn = 1 - self._turn
        self._size = len(content)
        self._due = time.monotonic() + _SHARE * (time.monotonic() - started)


def fetch_others(store: StorePath, storage: Path, name: str) -> None:
    """Fetch the ledgers of a store's other sweeps, as far as they are longer there and no driver here writes them.

    One that cannot be fetched counts as it lies here, or as empty.
    """
    try:
        others = [folder for folder in store.glob("*") if folder.name != name]
    except StoreError:
        return
    for folder in others:
        path = storage / folder.name / FILE_NAME
        with suppress(StoreError, InputError):
            if is_ahead(folder, path):
                with locked(path.parent, folder.name):
                    fetch(folder, path)
