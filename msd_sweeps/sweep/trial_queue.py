"""The trial queue: the one place that decides which trial runs next and what is recorded of it.

`next` gives the job of a trial, `result` takes what an epoch of it gave, `end` takes its end. Trials come in this
order: those that were interrupted, the samples of a search, then fixed trials and the confirmations of the winners.
Every decision is in the ledger before anyone acts on it, so a sweep goes on from the ledger alone.
"""

import enum
from collections.abc import Callable
from dataclasses import replace

import optuna

from msd_sweeps.distill import checkpoint
from msd_sweeps.records.object_store import StoreError, place
from msd_sweeps.records.ranking import values_of
from msd_sweeps.records.trial_record import EpochResult, TrialRecord
from msd_sweeps.space.designs import PlannedTrial
from msd_sweeps.space.errors import InputError
from msd_sweeps.space.trial import Trial
from msd_sweeps.sweep.dispatcher import MOST_ATTEMPTS, Inputs, Job
from msd_sweeps.sweep.resume import every_search_trial, is_recorded, reported_trials, searched
from msd_sweeps.sweep.reuse import FinishedTrials
from msd_sweeps.sweep.run_state import JOURNAL, SAME_FAILURES, Run, common_failure
from msd_sweeps.sweep.study import Study

_MOST_REPEATS = 25


class Pause(enum.Enum):
    """Why no trial comes now: others have to end first, or all is done."""

    WAIT = enum.auto()
    DONE = enum.auto()


class TrialQueue:
    """The trials of one launch, from the records that the ledger had when it began."""

    def __init__(self, run: Run, inputs: Callable[[Trial], Inputs], reuse: FinishedTrials | None = None):
        """inputs: gives the files of a trial. reuse: finished trials of other sweeps, to copy instead of training."""
        self.run, self.sweep, self.trials = run, run.sweep, run.trials
        self.running: dict[str, Job] = {}
        """The jobs that were given out and have not ended, by the ids of their trials."""
        self.trouble: str | None = None
        """Why the sweep cannot go on."""
        self.study: Study | None = None
        self._inputs, self._reuse = inputs, reuse
        self._first_ends: list[tuple[str, str, str]] = []
        self._asked: dict[str, optuna.Trial] = {}
        """The Optuna trial of each search trial that runs."""
        for trial in self.trials.values():
            if not trial.is_final and trial.has_every_epoch:  # a driver was killed before it recorded the end
                self._record_end(trial, "finished")
        self._interrupted = [trial for trial in self.trials.values() if not trial.is_final]
        self._searched = searched(self.trials)
        self._planned: list[PlannedTrial] | None = None
        """The trials after the search that have not begun; None before the search has ended."""
        if self.sweep.space.design == "search":
            self._every = every_search_trial(self.sweep)
            journal = run.folder / JOURNAL
            self.study = Study(self.sweep.space, self.sweep.name, journal, self._searched, self.sweep.base)

    def next(self) -> Job | Pause:
        """The job of the next trial, whose start is recorded; or why there is none now."""
        trial = self._begin_next()
        while isinstance(trial, TrialRecord) and trial.is_final:  # copied from another sweep
            trial = self._begin_next()
        if isinstance(trial, Pause):
            return trial
        try:
            job = self._job(trial)
        except StoreError as error:  # where its checkpoints are is not known, and so it goes for every other trial
            self.trouble = self.trouble or str(error)
            self._record_end(trial, "interrupted", self.trouble)
            return Pause.WAIT
        self.running[trial.trial] = job
        return job

    def _begin_next(self) -> TrialRecord | Pause:
        if self._interrupted:
            return self._resume(self._interrupted.pop(0))
        if self.study is not None and len(self._searched) < self.sweep.space.search.num_samples:
            sample = self._sample(self.study)
            if sample is not None:
                return sample
        if self._planned is None:
            if not all(trial.is_final for trial in self._searched):
                return Pause.WAIT
            self._planned = reported_trials(self.sweep, self.trials)
        while self._planned:
            planned = self._planned.pop(0)
            if planned.trial.id not in self.trials:
                return self._start(planned)
            if not is_recorded(planned, self.trials):  # a baseline that began before the search ended has won, too
                names = {"label": planned.label, "levels": list(planned.levels), "search_trial": planned.search_trial}
                self.trials[planned.trial.id].apply(self.run.record("label", trial=planned.trial.id, **names))
        if self.running:  # a trial that runs may have to be given out again
            return Pause.WAIT
        if self.sweep.space.race and self._look():
            return self._begin_next()
        return Pause.DONE

    def _look(self) -> bool:
        """Look at the results of a race; whether that asks for more trials."""
        every = reported_trials(self.sweep, self.trials)
        self._planned = [one for one in every if one.trial.id not in self.trials]
        rows = list(dict.fromkeys(one.label for one in self._planned))
        self.run.record("look", trials=len(self.trials), undecided=rows)
        return bool(rows)

    def reuse_fixed_trials(self) -> None:
        """Copy from other sweeps what they have finished of the trials that are known without a search."""
        if self._reuse is None:
            return
        for planned in self.sweep.fixed_trials:
            if planned.trial.id not in self.trials and self._found(planned.trial) is not None:
                self._start(planned)

    @property
    def is_searching(self) -> bool:
        """Whether the next trial may depend on the results of those that run."""
        return self.study is not None and self._planned is None

    def _sample(self, study: Study) -> TrialRecord | None:
        """A new trial of the search, from the sampler; None when nothing is left.

        Where the sampler only repeats what was tried, the trial is drawn at random, or taken from what is left.
        """
        if self._every is not None and len(self._searched) >= len(self._every):
            return None
        for attempt in range(2 * _MOST_REPEATS):
            asked, values = study.ask(at_random=attempt >= _MOST_REPEATS)
            try:
                planned = self.sweep.search_trial(values)
            except InputError:  # between bounds that were checked; the sampler learns to keep away
                study.tell(asked, "failed")
                continue
            known = self.trials.get(planned.trial.id)
            if known is None:
                self._asked[planned.trial.id] = asked
                return self._start(planned)
            study.tell(asked, known.state, *values_of(self.sweep.space.metrics, known))
        for name, planned in (self._every or {}).items():
            if name not in self.trials:
                self._asked[name] = study.ask_again(planned.levels[0])
                return self._start(planned)
        return None

    def _start(self, planned: PlannedTrial) -> TrialRecord:
        """Begin a trial; it is final at once where another sweep has finished it."""
        trial = TrialRecord(
            trial=planned.trial.id,
            cell=planned.trial.cell,
            label=planned.label,
            phase=planned.phase,
            number=len(self.trials),
            seed=planned.trial.seed,
            config=planned.trial.model_dump(mode="json"),
            levels=list(planned.levels),
            search_trial=planned.search_trial,
        )
        self.trials[trial.trial] = trial
        if trial.phase == "search":
            self._searched.append(trial)
        if not self._copied(trial):
            self._record_start(trial, 1)
        return trial

    def _resume(self, trial: TrialRecord) -> TrialRecord:
        if trial.phase == "search" and self.study is not None:
            self._asked[trial.trial] = self.study.ask_again(trial.values)
        # Only a copy that broke off is looked for again: other trials go on from their own checkpoints.
        if not (trial.source and self._copied(trial)):
            self._record_start(trial, trial.attempts + 1)
        return trial

    def _copied(self, trial: TrialRecord) -> bool:
        """Copy the records of a trial that another sweep has finished; False where there is none."""
        found = self._found(trial.configuration)
        if found is None:
            return False
        self._record_start(trial, 1, source=found.source)
        for epoch in found.epochs:
            self._record_epoch(trial, replace(epoch, attempt=1))
        self._record_end(trial, found.state)
        return True

    def _found(self, trial: Trial) -> TrialRecord | None:
        """The trial as another sweep has finished it, with the same fingerprint."""
        return None if self._reuse is None else self._reuse.find(trial.id, self._inputs(trial).fingerprint)

    def _job(self, trial: TrialRecord) -> Job:
        """All that a worker needs. Raises StoreError where the trial's checkpoints cannot be looked for."""
        planned = trial.configuration
        folder = self.run.checkpoints / trial.trial
        positions: tuple[int, ...] | None = tuple(checkpoint.positions(folder))
        if not positions:
            # A trial without its checkpoints begins again where it joined the stream, for the same numbers.
            positions = (trial.epochs[0].position,) if trial.epochs else None
            if trial.epochs:
                self._record_restart(trial)
        return Job(
            trial=trial.trial,
            config=planned.placed.model_dump_json(),
            stream=planned.stream_key,
            folder=str(folder),
            inputs=self._inputs(planned),
            keep=self._kept_in(trial),
            submission=trial.attempts,
            attempt=trial.attempts,
            reported=len(trial.epochs),
            positions=positions,
        )

    def _kept_in(self, trial: TrialRecord) -> str:
        """Where the weights of a trial are kept; empty where the space keeps none of it."""
        wanted = self.sweep.space.keep
        is_kept = wanted == "all" or (wanted == "reported" and trial.phase != "search")
        return str(self.run.weights / trial.trial) if is_kept else ""

    def result(self, result: EpochResult) -> None:
        """Record what a slot has reported of a trial that runs, and its end where it has ended."""
        if result.trial not in self.running:
            return
        trial = self.trials[result.trial]
        if result.state in ("running", "finished"):
            self._record_epoch(trial, result)
        if result.state == "interrupted":  # its workers cannot go on, and no others could
            self.trouble = self.trouble or result.reason
        if result.state != "running":
            self.end(trial.trial, result.state, result.reason, result.traceback)

    def end(self, name: str, state: str, reason: str = "", traceback: str = "") -> Job | None:
        """Record how a trial ended and delete its checkpoints if it is final; its job, or None if it had ended.

        The sweep is in trouble once the first trials have all failed in the same way.
        """
        job = self.running.pop(name, None)
        if job is None:
            return None
        trial = self.trials[name]
        self._record_end(trial, state, reason, traceback)
        if len(self._first_ends) < SAME_FAILURES:
            self._first_ends.append((state, reason, traceback))
            self.trouble = self.trouble or common_failure(self._first_ends)
        if trial.is_final:
            self.run.remove_checkpoints(place(job.folder))
        return job

    def retry(self, name: str, reason: str) -> Job | None:
        """Interrupt a trial, which goes on before anything new; it fails after MOST_ATTEMPTS. Gives what `end` does."""
        trial = self.trials[name]
        if trial.attempts >= MOST_ATTEMPTS:
            return self.end(name, "failed", f"{reason} {MOST_ATTEMPTS} times")
        job = self.end(name, "interrupted", reason)
        if job is not None:
            self._interrupted.append(trial)
        return job

    def _record_start(self, trial: TrialRecord, attempt: int, **source: str) -> None:
        facts = {"fingerprint": self._inputs(trial.configuration).fingerprint, **source}
        trial.apply(self.run.record("start", attempt=attempt, **trial.start_fields(), **facts))

    def _record_epoch(self, trial: TrialRecord, result: EpochResult) -> None:
        if result.attempt > trial.attempts:  # its workers died in between
            self._record_start(trial, result.attempt)
            if result.afresh:
                self._record_restart(trial)
        trial.apply(self.run.record("epoch", trial=trial.trial, attempt=trial.attempts, **result.recorded()))
        if trial.trial in self._asked and self.study is not None:
            value = trial.metrics.get(self.sweep.space.metrics[0].name)
            self.study.report(self._asked[trial.trial], result.epoch, value)

    def _record_restart(self, trial: TrialRecord) -> None:
        self.run.record("restart", trial=trial.trial, attempt=trial.attempts, epochs_lost=len(trial.epochs))

    def _record_end(self, trial: TrialRecord, state: str, reason: str = "", traceback: str = "") -> None:
        fields = {"trial": trial.trial, "attempt": trial.attempts, "state": state, "reason": reason}
        trial.apply(self.run.record("end", **fields, **({"traceback": traceback} if traceback else {})))
        asked = self._asked.pop(trial.trial, None)
        if asked is not None and self.study is not None and trial.is_final:
            self.study.tell(asked, state, *values_of(self.sweep.space.metrics, trial))
