"""The driver's book: which trial of Tune's is which of ours, what a job says of it, and how it ends."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from msd_sweeps.distill import checkpoint
from msd_sweeps.records.object_store import Place, StoreError, place
from msd_sweeps.records.trial_record import EpochResult, TrialRecord
from msd_sweeps.space.designs import Sweep
from msd_sweeps.sweep.dispatcher import MOST_ATTEMPTS, Job
from msd_sweeps.sweep.stopping import FirstFailures, Signals
from msd_sweeps.sweep.store_sync import StoreSync, checkpoints_of
from msd_sweeps.sweep.trainer import Prepared
from msd_sweeps.sweep.trial_queue import Agenda, Pause


class Running(NamedTuple):
    """A trial that Tune has, and what its slot is told."""

    trial: TrialRecord
    job: Job


class Book:
    """What Tune's searcher, scheduler and callback share: which Tune trial is which of ours.

    Tune writes its parts to disk with pickle; this one stays in the driver.
    """

    def __init__(
        self,
        sweep: Sweep,
        agenda: Agenda,
        folder: Path,
        prepared: Prepared,
        dispatcher: Any,
        signals: Signals,
        keeper: StoreSync | None,
    ):
        self.sweep, self.agenda, self.keeper = sweep, agenda, keeper
        self.checkpoints = checkpoints_of(folder.resolve() if keeper is None else keeper.store)
        self.prepared, self.dispatcher, self.signals = prepared, dispatcher, signals
        self.running: dict[str, Running] = {}
        """By Tune's name of the trial."""
        self.trouble: str | None = None
        """Why the sweep cannot go on."""
        self._first_failures = FirstFailures()

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[()]]:
        return object, ()

    @property
    def is_ending(self) -> bool:
        """Whether nothing new is begun: after a signal, a trouble, or where another driver has the sweep."""
        if self.keeper is not None and self.keeper.taken:
            self.trouble = self.trouble or self.keeper.taken
        return bool(self.signals.received or self.trouble)

    @property
    def why_ending(self) -> str:
        if self.trouble:
            return "the sweep was stopped"
        return signal.Signals(self.signals.received[0]).name

    def start(self, tune_name: str) -> Job | Pause:
        """The next trial's job for a trial of Tune's, or why there is none now."""
        trial = self.agenda.next()
        if isinstance(trial, Pause):
            return trial
        try:
            job = self._job(trial)
        except StoreError as error:
            self.trouble = self.trouble or str(error)
            self.agenda.end(trial, "interrupted", self.trouble)
            return Pause.WAIT
        self.running[tune_name] = Running(trial, job)
        self.dispatcher.submit.remote(job)
        return job

    def _job(self, trial: TrialRecord) -> Job:
        planned = trial.configuration
        folder = self.checkpoints / trial.trial
        positions: list[int] | None = list(checkpoint.positions(folder))
        if not positions:
            # One that lost its checkpoints starts afresh where it joined, for the same numbers.
            positions = [trial.epochs[0].position] if trial.epochs else None
            if trial.epochs:
                self.agenda.lost_checkpoints(trial)
        return {
            "trial": trial.trial,
            "config": planned.placed.model_dump_json(),
            "key": planned.stream_key,
            "weights": self.prepared.weights(trial),
            "folder": str(folder),
            "reported": len(trial.epochs),
            "launch": trial.attempts,
            "attempt": trial.attempts,
            "positions": positions,
            **self.prepared.hashes(trial),
        }

    def result(self, tune_name: str, result: EpochResult) -> None:
        """Record what a slot has reported."""
        trial = self.running[tune_name].trial
        if result.state in ("running", "finished"):
            self.agenda.epoch(trial, result)
        if result.state == "interrupted":  # its workers cannot go on, and nor can others
            self.trouble = self.trouble or result.reason
        if result.state != "running":
            self.end(tune_name, result.state, result.reason, result.traceback)

    def end(self, tune_name: str, state: str, reason: str, traceback: str = "") -> None:
        """Record how a trial ended and let its slot and its checkpoints go; one that has ended is left alone."""
        running = self.running.pop(tune_name, None)
        if running is None:
            return
        self.agenda.end(running.trial, state, reason, traceback)
        self.trouble = self.trouble or self._first_failures.told(state, reason, traceback)
        self.dispatcher.drop.remote(running.trial.trial, running.job["launch"])
        if running.trial.is_final:
            self._remove(place(running.job["folder"]))

    def _remove(self, of_trial: Place) -> None:
        if self.keeper is None:
            checkpoint.remove(of_trial)
        else:
            self.keeper.remove_later(of_trial)

    def lost_actor(self, tune_name: str) -> None:
        """The process that passes a trial's results on has died; the trial goes on from its checkpoint."""
        running = self.running.get(tune_name)
        if running is None:
            return
        if running.trial.attempts >= MOST_ATTEMPTS:
            self.end(tune_name, "failed", f"its Tune actor died {MOST_ATTEMPTS} times")
            return
        self.end(tune_name, "interrupted", "its Tune actor died")
        self.agenda.retry(running.trial)
