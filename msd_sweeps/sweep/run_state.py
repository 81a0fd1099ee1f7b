"""What the parts of one launch share: the sweep, its folder and its ledger, and how the launch ends early."""

import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msd_sweeps.distill import checkpoint
from msd_sweeps.records.kept import FOLDER as WEIGHTS
from msd_sweeps.records.ledger import Ledger, Record
from msd_sweeps.records.mlflow_sync import Mirror
from msd_sweeps.records.object_store import Place, StoreError
from msd_sweeps.records.trial_record import FAILURES, EpochResult, Trials
from msd_sweeps.space.console import silence
from msd_sweeps.space.designs import Sweep
from msd_sweeps.sweep.options import Options
from msd_sweeps.sweep.resume import is_complete
from msd_sweeps.sweep.store_sync import CHECKPOINTS, StoreSync

JOURNAL = "optuna.journal"
"""The file of Optuna's study in a sweep's folder."""
_CLOSE_SECONDS, _HURRIED_CLOSE_SECONDS = (20.0, 20.0), (3.0, 6.0)
"""The patience with the object store and with MLflow: after a signal the command ends within 30 s, slots included."""
ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
SAME_FAILURES = 3
"""The sweep stops when this many trials, the first to end, fail in the same way."""
_PLACE = re.compile(r'^  File "(.+)", line (\d+)', re.MULTILINE)


class Interrupted(Exception):
    """A signal ended the sweep; it can be resumed."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.signal_number = number


class SweepStopped(Exception):
    """The sweep cannot go on as it is; the message says why and what to do."""


@dataclass
class Signals:
    """The signals that have come to this process."""

    received: list[int] = field(default_factory=list)
    are_held: bool = False
    """Whether a signal is only noted; otherwise it raises Interrupted in the main thread."""
    ends_process: bool = True
    """Whether a second signal ends the process; in a notebook it is passed over."""

    def note(self, number: int, frame: Any) -> None:
        """Handle a signal. A second one ends the process at once; the sweep can be resumed all the same."""
        if self.received:
            if self.ends_process:
                os._exit(128 + number)
            return
        self.received.append(number)
        if number == signal.SIGHUP:  # the terminal is gone: what is printed must not end the process
            silence()
        if not self.are_held:
            raise Interrupted(number)


@contextmanager
def noted_signals(ends_process: bool = True) -> Iterator[Signals]:
    """Note the signals that end a sweep for as long as the context lasts, in the main thread alone."""
    signals = Signals(ends_process=ends_process)
    is_main = threading.current_thread() is threading.main_thread()
    ignored = {signal.SIGHUP} if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else set()  # as nohup wants it
    numbers = [number for number in ENDING_SIGNALS if number not in ignored]
    before = {number: signal.signal(number, signals.note) for number in numbers} if is_main else {}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass
class Run:
    """One launch of a sweep."""

    sweep: Sweep
    folder: Path
    """The sweep's folder on this machine; its lock is held."""
    trials: Trials
    """The ledger's trials; the trial queue adds to them."""
    ledger: Ledger
    options: Options = field(default_factory=Options)
    signals: Signals = field(default_factory=Signals)
    store_sync: StoreSync | None = None
    """Copies the ledger into the object store, where there is one."""
    mirror: Mirror | None = None
    """Sends the records to MLflow; None where MLflow has all that there will be."""
    say: Callable[[str], None] = print
    """Shows the user a line."""
    show: Callable[[Record], None] = lambda record: None
    """Shows the user a record that was just written."""
    id: str = ""
    """The id of the sweep in its ledger."""
    show_printed: Callable[[EpochResult], None] = lambda result: None
    """Shows the user what a trial's own loss has printed."""
    seconds_before: float = 0.0
    """How long earlier launches of the sweep took."""
    unsent: int = 0
    """Records that MLflow had not taken in the end."""

    started: dict[str, str] = field(default_factory=dict)
    """Trials that this launch began or continued; the sweep that each was copied from, empty where it was trained."""

    waiting: Collection[str] = ()
    """Trials that began and wait for a seat in a slot."""
    first_trained: float | None = None
    """When the first epoch was recorded that this launch trained, in seconds since 1970."""

    @property
    def copied(self) -> int:
        """Trials that this launch copied from other sweeps of the storage."""
        return sum(map(bool, self.started.values()))

    @property
    def is_complete(self) -> bool:
        """Whether everything that the sweep asks for has ended."""
        return is_complete(self.sweep, self.trials)

    @property
    def is_stored(self) -> bool:
        """Whether the object store, if there is one, has the whole ledger."""
        return self.store_sync is None or self.store_sync.trouble is None

    def record(self, event: str, **fields: Any) -> Record:
        """Write one record to the ledger, and then show it and send it to MLflow. Raises LedgerError."""
        written = self.ledger.append(event, **fields)
        if event == "start":
            self.started[fields["trial"]] = fields.get("source", "")
        elif event == "epoch" and not self.started.get(fields["trial"]):
            self.first_trained = self.first_trained or time.time()
        if self.mirror is not None:
            self.mirror.more()
        self.show(written)
        self.print_event(written)
        return written

    def print_event(self, event: Record) -> None:
        """Print a record as a line of JSON, where --json asks for that."""
        if self.options.events is not None:
            print(json.dumps(event), file=self.options.events, flush=True)

    def retry_failed(self) -> None:
        """Let the trials that have failed go on."""
        for trial in self.trials.values():
            if trial.state in FAILURES:
                trial.apply(self.record("retry", trial=trial.trial, keeps_epochs=True))

    @property
    def checkpoints(self) -> Place:
        """The folder with a folder of checkpoints for each trial: in the object store where there is one."""
        return self._kept_in / CHECKPOINTS

    @property
    def weights(self) -> Place:
        """The folder with a folder of final weights for each trial that keeps them."""
        return self._kept_in / WEIGHTS

    @property
    def _kept_in(self) -> Place:
        return self.folder.resolve() if self.store_sync is None else self.store_sync.store

    def remove_checkpoints(self, of_trial: Place) -> None:
        """Delete the checkpoints of a trial that has ended, in a store once the store's ledger has that end."""
        if self.store_sync is None:
            checkpoint.remove(of_trial)
        else:
            self.store_sync.remove_later(of_trial)

    def remove_left_over_checkpoints(self) -> None:
        """Delete the checkpoints of trials that have ended: a driver can be killed before it does that."""
        with suppress(StoreError):  # the next launch tries again
            left: list[Place] = list(self.checkpoints.glob("*"))
            for folder in left:
                trial = self.trials.get(folder.name)
                if trial is not None and not trial.needs_checkpoints:
                    self.remove_checkpoints(folder)

    def close(self) -> None:
        """Close the ledger, copy the rest of it and send the rest to MLflow; after a signal in a hurry."""
        copy_seconds, mirror_seconds = _HURRIED_CLOSE_SECONDS if self.signals.received else _CLOSE_SECONDS
        self.ledger.close()
        if self.store_sync is not None:
            self.store_sync.finish(copy_seconds)
        if self.mirror is not None:
            self.unsent = self.mirror.close(mirror_seconds)
        is_over = self.is_complete and not any(trial.needs_checkpoints for trial in self.trials.values())
        if self.store_sync is not None and self.is_stored and is_over:
            self.store_sync.remove_checkpoints()


def common_failure(ends: Sequence[tuple[str, str, str]]) -> str | None:
    """The message for the user where the first SAME_FAILURES ends are failures of one kind; None otherwise.

    ends: state, reason and traceback of each trial that has ended, in order.
    """
    first = ends[:SAME_FAILURES]
    ways = {way(*end) for end in first}
    if len(first) < SAME_FAILURES or len(ways) > 1 or "" in ways:
        return None
    _, reason, traceback = first[0]
    return (
        f"the first {SAME_FAILURES} trials failed in the same way, so the sweep was stopped; they stay failed "
        f"under this name. The first of them:\n{(traceback or reason).rstrip()}"
    )


def way(state: str, reason: str, traceback: str) -> str:
    """The exception of a failure and where it was raised; empty for an end that is no failure."""
    if state not in FAILURES:
        return ""
    places = _PLACE.findall(traceback)
    if not places:
        return reason
    kind = traceback.strip().splitlines()[-1].partition(":")[0]
    return f"{kind} {places[-1]}"
