"""The trial queue: the one place that decides which trial runs next and what is recorded of it.

`next` gives the job of a trial, `take` takes what a slot's students gave in one epoch, `end` takes the end of a trial.
Trials come in this order: those that were interrupted, the samples of a search, then fixed trials and the confirmations
of the winners. Every decision is in the ledger before anyone acts on it, and depends on the ledger alone: what one slot
gave is recorded in the order of the trials' numbers, then a search stops trials, then it asks for new ones.
"""

import enum
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace

from msd_sweeps.records.object_store import place
from msd_sweeps.records.trial_record import EpochResult, TrialRecord
from msd_sweeps.space.designs import PlannedTrial
from msd_sweeps.space.trial import Trial
from msd_sweeps.sweep.job import Inputs, Job
from msd_sweeps.sweep.resume import is_recorded, last_round, of_each_search, reported_trials, searched
from msd_sweeps.sweep.reuse import FinishedTrials
from msd_sweeps.sweep.run_state import JOURNAL, SAME_FAILURES, Run, common_failure
from msd_sweeps.sweep.rungs import losers, rungs
from msd_sweeps.sweep.study import Searches


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
        self.searches: Searches | None = None
        self._inputs, self._reuse = inputs, reuse
        self._first_ends: list[tuple[str, str, str]] = []
        self._failures: Counter[str] = Counter()
        """How often the Tune actor of a trial has died since the trial made progress."""
        self._restarted: set[tuple[str, int]] = set()
        """Trials and attempts that began again without a checkpoint."""
        self._searched = searched(self.trials)
        if self.sweep.space.design == "search":
            self.searches = Searches(self.sweep, self.trials, run.folder / JOURNAL)
        self._round, members = last_round(self.trials)
        for trial, state, reason in self._ends(members):  # those that a killed driver did not record
            self._record_end(trial, state, reason)
            run.remove_checkpoints(run.checkpoints / trial.trial)
        self._owed = self._searched[-1].more if self._searched else 0
        """Trials that the search has yet to ask for, of those that begin together."""
        self._interrupted = [trial for trial in self.trials.values() if not trial.is_final]
        self._planned: list[PlannedTrial] | None = None
        """The trials after the search that have not begun; None before the search has ended."""
        self._began = time.monotonic()

    def next(self, free: int = 1, fewest: int = 1) -> Job | Pause:
        """The job of the next trial, whose start is recorded; or why there is none now.

        free: seats. fewest: a search asks for no fewer trials at a time, unless nothing runs, as trials that begin
        together share the teacher's passes.
        """
        trial = self._begin_next(free, fewest)
        while isinstance(trial, TrialRecord) and trial.is_final:  # copied from another sweep
            trial = self._begin_next(free, fewest)
        if isinstance(trial, Pause):
            return trial
        job = self.running[trial.trial] = self._job(trial)
        return job

    def _begin_next(self, free: int, fewest: int) -> TrialRecord | Pause:
        if self._interrupted:
            return self._resume(self._interrupted.pop(0))
        if self.searches is not None and (left := self._left(self.searches)):
            if not self._owed and (free >= fewest or not self.running):
                self._owed = min(free, sum(left.values()))
            if self._owed:
                planned = self.searches.sample(left)
                if planned is not None:
                    return self._start(planned)
                self._owed = 0
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
            return self._begin_next(free, fewest)
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
        return self.searches is not None and self._planned is None

    def _left(self, searches: Searches) -> dict[str, int]:
        """How many trials the searches have yet to ask for; the end of their time is recorded."""
        left = searches.left()
        hours = (self.run.seconds_before + time.monotonic() - self._began) / 3600
        budget = self.sweep.space.search.time_budget
        if not left or budget is None or hours < budget:
            return left
        self.trials.searched_hours = self.run.record("search_end", hours=budget)["hours"]
        return {}

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
            trial.more = self._owed
        if not self._copied(trial):
            if trial.phase == "search":
                trial.more = self._owed = self._owed - 1
            self._record_start(trial, 1)
        return trial

    def _resume(self, trial: TrialRecord) -> TrialRecord:
        now = self._inputs(trial.configuration).fingerprint
        if trial.is_retried and trial.epochs and trial.fingerprints[-1] != now:  # it begins anew, as with a mended loss
            trial.apply(self.run.record("retry", trial=trial.trial))
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
            self._record_epoch(trial, replace(epoch, attempt=1, round=0, more=0))
        self._record_end(trial, found.state)
        return True

    def _found(self, trial: Trial) -> TrialRecord | None:
        """The trial as another sweep has finished it, with the same fingerprint."""
        return None if self._reuse is None else self._reuse.find(trial.id, self._inputs(trial).fingerprint)

    def _job(self, trial: TrialRecord) -> Job:
        """All that a worker needs."""
        planned, is_search = trial.configuration, trial.phase == "search"
        return Job(
            trial=trial.trial,
            config=planned.placed.model_dump_json(),
            stream=planned.stream_key,
            folder=str(self.run.checkpoints / trial.trial),
            inputs=self._inputs(planned),
            keep=self._kept_in(trial),
            submission=trial.attempts,
            attempt=trial.attempts,
            reported=len(trial.epochs),
            rungs=rungs(self.sweep.space.scheduler, planned.recipe.epochs) if is_search else None,
        )

    def _kept_in(self, trial: TrialRecord) -> str:
        """Where the weights of a trial are kept; empty where the space keeps none of it."""
        is_kept = self.sweep.space.keep in (("all",) if trial.phase == "search" else ("all", "reported"))
        return str(self.run.weights / trial.trial) if is_kept else ""

    def take(self, results: Iterable[EpochResult]) -> list[Job]:
        """Record a round: what the students of one slot gave in an epoch. Returns the jobs that are stopped early.

        The order of the results does not matter. What is of trials that do not run is left out.
        """
        known = [result for result in results if result.trial in self.running]
        known.sort(key=lambda result: self.trials[result.trial].number)
        learned = [result for result in known if result.state in ("running", "finished")]
        for result in known:
            self.run.show_printed(result)
            if result not in learned:
                if result.state == "interrupted":  # its workers cannot go on, and no others could
                    self.trouble = self.trouble or result.reason
                self.end(result.trial, result.state, result.reason, result.traceback)
        if again := [one for one in learned if one.attempt > self.trials[one.trial].attempts]:
            self.run.say(f"workers have died; {len(again)} of their trials went on in slot {again[0].slot}")
        self._round += bool(learned)
        for more, result in zip(reversed(range(len(learned))), learned, strict=True):
            self._record_epoch(self.trials[result.trial], replace(result, round=self._round, more=more))
        ends = [
            (state, self.end(trial.trial, state, reason))
            for trial, state, reason in self._ends([self.trials[result.trial] for result in learned])
        ]
        return [job for state, job in ends if state == "stopped" and job is not None]

    def _ends(self, arrived: list[TrialRecord]) -> list[tuple[TrialRecord, str, str]]:
        """The ends of trials after a round, with states and reasons: those with every epoch, and those that lost."""
        done = [(trial, "finished", "") for trial in arrived if trial.has_every_epoch]
        if self.sweep.space.scheduler.type != "asha":
            return done
        arrived = [trial for trial in arrived if trial.phase == "search" and not trial.has_every_epoch]
        for name, of_one in of_each_search(self.sweep, self.trials).items():
            of_search = [trial for trial in arrived if self.sweep.search_of(trial.values) == name]
            done += [(trial, "stopped", "by asha") for trial in losers(self.sweep.space, of_one, of_search)]
        return done

    def end(self, name: str, state: str, reason: str = "", traceback: str = "") -> Job | None:
        """Record how a trial ended and delete its checkpoints if nothing needs them; its job, or None if it had ended.

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
        if not trial.needs_checkpoints:
            self.run.remove_checkpoints(place(job.folder))
        return job

    def retry(self, name: str, reason: str) -> Job | None:
        """Interrupt a trial, which goes on before anything new; after too many failures without progress it has failed.

        Gives what `end` does.
        """
        self._failures[name] += 1
        if self._failures[name] > self.sweep.space.resources.max_failures:
            return self.end(name, "failed", f"{reason} {self._failures[name]} times without progress")
        job = self.end(name, "interrupted", reason)
        if job is not None:
            self._interrupted.append(self.trials[name])
        return job

    def _record_start(self, trial: TrialRecord, attempt: int, **source: str) -> None:
        facts = {"fingerprint": self._inputs(trial.configuration).fingerprint, **source}
        trial.apply(self.run.record("start", attempt=attempt, **trial.start_fields(), **facts))

    def _record_epoch(self, trial: TrialRecord, result: EpochResult) -> None:
        if result.attempt > trial.attempts:  # its workers died in between
            self._record_start(trial, result.attempt)
        if result.afresh and (trial.trial, trial.attempts) not in self._restarted:
            self._restarted.add((trial.trial, trial.attempts))
            self.run.record("restart", trial=trial.trial, attempt=trial.attempts, epochs_lost=len(trial.epochs))
        if trial.phase == "search":  # only reported trials keep what they predicted
            result = replace(result, predictions=None)
        self._failures.pop(trial.trial, None)
        trial.apply(self.run.record("epoch", trial=trial.trial, attempt=trial.attempts, **result.recorded()))

    def _record_end(self, trial: TrialRecord, state: str, reason: str = "", traceback: str = "") -> None:
        fields = {"trial": trial.trial, "attempt": trial.attempts, "state": state, "reason": reason}
        trial.apply(self.run.record("end", **fields, **({"traceback": traceback} if traceback else {})))
        if trial.phase == "search" and self.searches is not None:
            self.searches.show(trial)
