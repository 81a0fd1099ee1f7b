"""What runs next: trials that were interrupted, the samples of a search, fixed trials, confirmations of winners."""

import contextlib
import enum
import functools
from collections.abc import Callable
from dataclasses import replace

from msd_sweeps.records.ledger import Record
from msd_sweeps.records.ranking import best_first, measured, values_of
from msd_sweeps.records.trial_record import EpochResult, TrialRecord
from msd_sweeps.space.choices import Values, every_choice
from msd_sweeps.space.designs import PlannedTrial, Sweep
from msd_sweeps.space.errors import InputError
from msd_sweeps.sweep.study import Study

_MOST_REPEATS = 25


class Pause(enum.Enum):
    """Why no trial comes now: others must end first, or all is done."""

    WAIT = enum.auto()
    DONE = enum.auto()


def end_whole(records: dict[str, TrialRecord], record: Callable[..., Record]) -> None:
    """Finish the trials whose last epoch is recorded and whose end is not: a driver can be killed in between.

    There is nothing left to train of them. Called before a Study and an Agenda are made of the records.
    """
    for trial in records.values():
        if not trial.is_final and trial.has_every_epoch:
            end = record("end", trial=trial.trial, attempt=trial.attempts, state="finished", reason="")
            trial.apply(end)


class Agenda:
    """The order of a sweep's trials. Every decision is recorded in the ledger before it is acted upon.

    record: appends to the ledger. records: what the ledger holds already. elsewhere: a trial of this id that another
    sweep has finished, to be taken over instead of training it again.
    """

    def __init__(
        self,
        sweep: Sweep,
        records: dict[str, TrialRecord],
        study: Study | None,
        record: Callable[..., Record],
        elsewhere: Callable[[str], TrialRecord | None] = lambda trial: None,
    ):
        self.sweep, self.trials, self.study, self._record = sweep, records, study, record
        self._elsewhere = elsewhere
        self._numbers: dict[str, int] = {}
        """The Optuna number of each search trial that is under way."""
        self._interrupted = [trial for trial in records.values() if not trial.is_final]
        self._searched = [trial for trial in records.values() if trial.phase == "search"]
        self._planned: list[PlannedTrial] | None = None

    def next(self) -> TrialRecord | Pause:
        """The next trial to run, its start recorded; or why there is none now."""
        while self._interrupted:
            trial = self._again(self._interrupted.pop(0))
            if not trial.is_final:
                return trial
        while self.study is not None and len(self._searched) < self._wanted:
            sampled = self._sample()
            if sampled is None:
                break
            if not sampled.is_final:
                return sampled
        if self._planned is None:
            if not all(trial.is_final for trial in self._searched):
                return Pause.WAIT
            self._planned = self._fixed()
        while self._planned:
            planned = self._planned.pop(0)
            if planned.trial.id not in self.trials:
                trial = self._start(planned)
                if not trial.is_final:
                    return trial
        return Pause.DONE

    def take_over(self) -> None:
        """Take over what other sweeps have finished, as far as it is known without asking the sampler."""
        for planned in self.sweep.fixed_trials:
            if planned.trial.id not in self.trials and self._elsewhere(planned.trial.id) is not None:
                self._start(planned)

    def epoch(self, trial: TrialRecord, result: EpochResult) -> None:
        """Record an epoch, and the attempt it belongs to if its workers died in between."""
        if result.attempt > trial.attempts:
            self._record_start(trial, result.attempt)
            if result.afresh:
                self.lost_checkpoints(trial)
        trial.apply(self._record("epoch", trial=trial.trial, attempt=trial.attempts, **result.recorded()))
        if trial.trial in self._numbers and self.study is not None:
            value = trial.metrics.get(self.sweep.space.metrics[0].name)
            self.study.report(self._numbers[trial.trial], result.epoch, value)

    def retry(self, trial: TrialRecord) -> None:
        """Let a trial that was interrupted go on in this launch, before anything new."""
        self._interrupted.append(trial)

    def lost_checkpoints(self, trial: TrialRecord) -> None:
        """Record that a trial begins anew: none of its checkpoints is whole."""
        self._record("restart", trial=trial.trial, attempt=trial.attempts, epochs_lost=len(trial.epochs))

    def end(self, trial: TrialRecord, state: str, reason: str = "", traceback: str = "") -> None:
        """Record how a trial ended and tell Optuna."""
        told = {"traceback": traceback} if traceback else {}
        trial.apply(self._record("end", trial=trial.trial, attempt=trial.attempts, state=state, reason=reason, **told))
        number = self._numbers.pop(trial.trial, None)
        if number is not None and self.study is not None and trial.is_final:
            self.study.tell(number, state, *values_of(self.sweep.space.metrics, trial))

    @property
    def is_searching(self) -> bool:
        """Whether the next trial may depend on what those that run will give."""
        return self.study is not None and self._planned is None

    @property
    def is_complete(self) -> bool:
        """Whether everything that the sweep asks for has ended; nothing is asked of the sampler."""
        if any(not trial.is_final for trial in self.trials.values()):
            return False
        if self.sweep.space.design == "search" and len(self._searched) < self._wanted:
            return False
        winners = self.sweep.confirm_trials(self.winners()) if self.sweep.space.design == "search" else []
        wanted = [*self.sweep.fixed_by_id, *(planned.trial.id for planned in winners)]
        return all(name in self.trials for name in wanted)

    def winners(self) -> list[PlannedTrial]:
        """The best finished search trials by the metric's last value, best first, one of each configuration.

        Of several metrics: the trials of their Pareto front, the best by the first metric first.
        """
        metrics = self.sweep.space.metrics
        trials, points = measured(metrics, self._searched)
        best = best_first(points, metrics)[: self.sweep.space.confirm.top_k]
        return [PlannedTrial(t.configuration, "", "search", tuple(t.levels)) for t in (trials[index] for index in best)]

    def _fixed(self) -> list[PlannedTrial]:
        fixed = list(self.sweep.fixed_trials)
        if self.sweep.space.design == "search":
            fixed += self.sweep.confirm_trials(self.winners())
            # Seed by seed: what shares a stream runs side by side.
            fixed.sort(key=lambda planned: planned.trial.seed)
        return fixed

    @functools.cached_property
    def _wanted(self) -> int:
        """How many search trials there will be: as many as asked for, or all that there are."""
        asked = self.sweep.space.search.num_samples
        return asked if self._every is None else min(asked, len(self._every))

    @functools.cached_property
    def _every(self) -> dict[str, tuple[PlannedTrial, Values]] | None:
        """All search trials by their id where they are few; None where the sampler will hardly run out."""
        every = every_choice(self.sweep.space, self.sweep.conditions, 2 * self.sweep.space.search.num_samples)
        if every is None:
            return None
        found: dict[str, tuple[PlannedTrial, Values]] = {}
        for values in every:
            with contextlib.suppress(InputError):
                planned = self.sweep.search_trial(values)
                found.setdefault(planned.trial.id, (planned, values))
        return found

    def _sample(self) -> TrialRecord | None:
        """A new configuration from the sampler, or at random or what is left where it only repeats what was tried.

        None when nothing is left.
        """
        assert self.study is not None
        for attempt in range(2 * _MOST_REPEATS):
            number, values = self.study.ask(at_random=attempt >= _MOST_REPEATS)
            try:
                planned = self.sweep.search_trial(values)
            except InputError:  # between bounds that were checked; the sampler learns to keep away
                self.study.tell(number, "failed")
                continue
            known = self.trials.get(planned.trial.id)
            if known is None:
                self._numbers[planned.trial.id] = number
                return self._start(planned)
            self.study.tell(number, known.state, *values_of(self.sweep.space.metrics, known))
        for name, (planned, values) in (self._every or {}).items():
            if name not in self.trials:
                self._numbers[name] = self.study.ask_again(values)
                return self._start(planned)
        return None

    def _start(self, planned: PlannedTrial) -> TrialRecord:
        """A trial that begins; final where another sweep has finished it."""
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
        if not self._taken_over(trial):
            self._record_start(trial, 1)
        return trial

    def _again(self, trial: TrialRecord) -> TrialRecord:
        if trial.phase == "search" and self.study is not None:
            self._numbers[trial.trial] = self.study.ask_again(trial.values)
        # Only a take-over that broke off is looked for again: other trials go on from their own checkpoints.
        if not (trial.source and self._taken_over(trial)):
            self._record_start(trial, trial.attempts + 1)
        return trial

    def _taken_over(self, trial: TrialRecord) -> bool:
        """Copy what another sweep has recorded of this trial; false where none has finished it."""
        found = self._elsewhere(trial.trial)
        if found is None:
            return False
        self._record_start(trial, 1, source=found.source)
        for epoch in found.epochs:
            self.epoch(trial, replace(epoch, attempt=1))
        self.end(trial, found.state)
        return True

    def _record_start(self, trial: TrialRecord, attempt: int, **source: str) -> None:
        trial.apply(self._record("start", attempt=attempt, **trial.start_fields(), **source))
