"""Optuna: the distributions of a space and its samplers. What a search asks for next follows from the ledger alone.

Each question has a study and a sampler of its own, made from the records of the search so far. The study in the journal
is for optuna-dashboard, and nothing is asked of it.
"""

import json
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from msd_sweeps.records.ranking import values_of
from msd_sweeps.records.trial_record import TrialRecord, Trials
from msd_sweeps.space.combinations import Conditions, Values
from msd_sweeps.space.designs import PlannedTrial, Sweep
from msd_sweeps.space.errors import InputError
from msd_sweeps.space.levels import on_step, steps_of
from msd_sweeps.space.schema import Choices, Parameter, Search, Space
from msd_sweeps.space.trial import Trial
from msd_sweeps.sweep.resume import every_search_trial, of_each_search, still_to_sample

optuna.logging.set_verbosity(optuna.logging.ERROR)

_MOST_START_UP, _FEWEST_START_UP, _START_UP_SHARE = 10, 4, 4
_MOST_REPEATS = 25


class _QuasiRandom(optuna.samplers.QMCSampler):
    """The point of a Sobol sequence with a given index; Optuna's own counts in a study."""

    def __init__(self, seed: int, index: int, distributions: dict[str, BaseDistribution]):
        super().__init__(seed=seed, scramble=True, warn_independent_sampling=False)
        self._index, self._distributions = index, distributions

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._distributions

    def _find_sample_id(self, study: optuna.Study, search_space: dict[str, BaseDistribution]) -> int:
        return self._index


def start_up(search: Search) -> int:
    """How many trials a search draws at random before its sampler learns from them."""
    return max(_FEWEST_START_UP, min(_MOST_START_UP, search.num_samples // _START_UP_SHARE))


def sampler(
    search: Search, number: int, attempt: int, kind: str, distributions: dict[str, BaseDistribution]
) -> optuna.samplers.BaseSampler:
    """The sampler of a question. number: trials of the search before it. attempt: counts repeats of the question."""
    seed = int(np.random.SeedSequence((search.seed, number, attempt)).generate_state(1)[0])
    first = start_up(search)
    match kind:
        case "tpe":
            # constant_liar: trials that run count as bad, so that those of one pack differ.
            return optuna.samplers.TPESampler(
                seed=seed, n_startup_trials=first, multivariate=True, group=True, constant_liar=True
            )
        case "gp":
            return optuna.samplers.GPSampler(seed=seed, n_startup_trials=first)
        case "nsga2":
            return optuna.samplers.NSGAIISampler(seed=seed, population_size=first)
        case "qmc":
            return _QuasiRandom(search.seed, number + attempt * search.num_samples, distributions)
    return optuna.samplers.RandomSampler(seed=seed)


def distribution_of(parameter: Parameter) -> BaseDistribution:
    """The distribution of a parameter; choices are named by their JSON text or their label."""
    if isinstance(parameter, Choices):
        choices = parameter.choices
        return CategoricalDistribution(list(choices) if isinstance(choices, dict) else [*map(json.dumps, choices)])
    high, step = parameter.high, parameter.step
    if step is not None:  # Optuna wants bounds that the step divides
        high = on_step(parameter, parameter.low + steps_of(parameter) * step)
    if parameter.is_integer:
        return IntDistribution(int(parameter.low), int(high), log=parameter.log, step=int(step or 1))
    return FloatDistribution(parameter.low, high, log=parameter.log, step=step)


def _suggested(trial: optuna.Trial, name: str, distribution: Any) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    suggest: Any = trial.suggest_int if isinstance(distribution, IntDistribution) else trial.suggest_float
    return suggest(name, distribution.low, distribution.high, log=distribution.log, step=distribution.step)


def studies(sweep: Sweep, journal: Path) -> dict[str, "Study"]:
    """A study for each search of a sweep, by the names in `Sweep.searches`. journal: written anew."""
    for old in (journal, journal.with_name(journal.name + ".lock")):
        old.unlink(missing_ok=True)
    return {
        name: Study(search.space, f"{sweep.name} {name}".rstrip(), journal, search.base)
        for name, search in sweep.searches.items()
    }


class Study:
    """One search of a sweep: what to try next, and a journal of the trials that have ended."""

    def __init__(self, space: Space, name: str, journal: Path, base: Trial | None = None):
        """base: the trial whose settings the conditions of parameters may name."""
        self.space = space
        self._conditions = Conditions(space, base)
        self._distributions = {name: distribution_of(parameter) for name, parameter in space.parameters.items()}
        directions = {"max": StudyDirection.MAXIMIZE, "min": StudyDirection.MINIMIZE}
        self._directions = [directions[metric.mode] for metric in space.metrics]
        storage = JournalStorage(JournalFileBackend(str(journal)))
        self.shown = optuna.create_study(study_name=name, storage=storage, directions=self._directions)
        with warnings.catch_warnings():  # Optuna announces it as experimental
            warnings.simplefilter("ignore")
            self.shown.set_metric_names([metric.name for metric in space.metrics])

    def show(self, record: TrialRecord) -> None:
        """Add a trial that has ended to the journal."""
        state, values = self._outcome(record)
        self.shown.add_trial(self._frozen(record, state, values))

    def ask(self, records: Sequence[TrialRecord], attempt: int = 0, at_random: bool = False) -> Values:
        """What the sampler chooses after these trials, without parameters whose condition is false.

        records: every trial of the search, in the order of their numbers. at_random: not by the space's sampler.
        """
        search = self.space.search
        kind = "random" if at_random else search.sampler
        values: Values = {}
        with warnings.catch_warnings():  # Optuna announces parts of TPE as experimental on every use
            warnings.simplefilter("ignore")
            chosen = sampler(search, len(records), attempt, kind, self._distributions)
            study = optuna.create_study(sampler=chosen, directions=self._directions)
            if kind != "random":
                study.add_trials(self._told(records))
            trial = study.ask()
            for name in self._conditions.order:
                if self._conditions.counts(name, values):
                    values[name] = self._decoded(name, _suggested(trial, name, self._distributions[name]))
        return values

    def _told(self, records: Sequence[TrialRecord]) -> list[FrozenTrial]:
        """The trials as a sampler learns of them.

        One that failed counts as the worst of all. One that runs counts as one that was stopped where it is.
        """
        outcomes = [self._outcome(record) for record in records]
        seen = [values for _, values in outcomes if values is not None]
        worst = None
        if seen:
            worst = [
                (min if direction == StudyDirection.MAXIMIZE else max)(column)
                for direction, column in zip(self._directions, zip(*seen, strict=True), strict=True)
            ]
        told: list[FrozenTrial] = []
        for record, (state, values) in zip(records, outcomes, strict=True):
            if record.is_final and values is None and worst is not None:
                state, values = TrialState.COMPLETE, worst
            # NSGA-II keeps the generation of each trial beside it.
            whole = sum(one.state == TrialState.COMPLETE for one in told)
            generation = {"NSGAIISampler:generation": whole // start_up(self.space.search)}
            told.append(self._frozen(record, state, values, generation))
        return told

    def _outcome(self, record: TrialRecord) -> tuple[TrialState, list[float] | None]:
        """Optuna's state and values of a trial. Of several metrics Optuna stops nothing early."""
        known = [v for v in values_of(self.space.metrics, record) if v is not None and math.isfinite(v)]
        is_measured = len(known) == len(self.space.metrics)
        if record.state == "finished" and is_measured:
            return TrialState.COMPLETE, known
        may_be_stopped = record.state in ("stopped", "running", "interrupted") and len(self._directions) == 1
        if may_be_stopped and record.epochs and is_measured:
            return TrialState.PRUNED, known
        return TrialState.FAIL if record.is_final else TrialState.RUNNING, None

    def _frozen(
        self,
        record: TrialRecord,
        state: TrialState,
        values: list[float] | None,
        attributes: dict[str, Any] | None = None,
    ) -> FrozenTrial:
        metrics = self.space.metrics
        scores = {epoch.epoch: epoch.metrics.get(metrics[0].name) for epoch in record.epochs if len(metrics) == 1}
        return create_trial(
            state=state,
            values=values,
            params={name: json.dumps(v) if self._is_list(name) else v for name, v in record.values.items()},
            distributions={name: self._distributions[name] for name in record.values},
            user_attrs={"trial": record.trial, "number": record.number, "state": record.state},
            system_attrs=attributes,
            intermediate_values={epoch: score for epoch, score in scores.items() if score is not None},
        )

    def _is_list(self, name: str) -> bool:
        parameter = self.space.parameters[name]
        return isinstance(parameter, Choices) and isinstance(parameter.choices, list)

    def _decoded(self, name: str, value: Any) -> Any:
        return json.loads(value) if self._is_list(name) else on_step(self.space.parameters[name], value)


class Searches:
    """The searches of a sweep. All that they ask for follows from the records of the trials."""

    def __init__(self, sweep: Sweep, trials: Trials, journal: Path):
        """journal: written anew, for optuna-dashboard."""
        self._sweep, self._trials, self._every = sweep, trials, every_search_trial(sweep)
        self.studies = studies(sweep, journal)
        """By their names in `Sweep.searches`."""
        for of_one in of_each_search(sweep, trials).values():
            for trial in of_one:
                self.show(trial)

    def show(self, trial: TrialRecord) -> None:
        """Add a trial to the journal, if it has ended."""
        if trial.is_final:
            self.studies[self._sweep.search_of(trial.values)].show(trial)

    def left(self) -> dict[str, int]:
        """How many trials each search has yet to ask for, without those that have none."""
        left = still_to_sample(self._sweep, self._trials, self._every)
        return {name: count for name, count in left.items() if count}

    def sample(self, left: dict[str, int]) -> PlannedTrial | None:
        """A new trial of the search that has most to ask for, so that all go on alike; None where no search has one."""
        of_each = of_each_search(self._sweep, self._trials)
        for name in sorted(left, key=lambda name: -left[name]):
            planned = self._sample_of(name, of_each[name])
            if planned is not None:
                return planned
        return None

    def _sample_of(self, name: str, searched: Sequence[TrialRecord]) -> PlannedTrial | None:
        """A new trial of a search: a known point or one from the sampler; None when nothing is left. searched: so far.

        Where the sampler only repeats what was tried, the trial is drawn at random, or taken from all that the search
        can reach if they are few.
        """
        search = self._sweep.searches[name]
        for planned in search.first_trials:
            if planned.trial.id not in self._trials:
                return planned
        for attempt in range(2 * _MOST_REPEATS):
            values = self.studies[name].ask(searched, attempt, at_random=attempt >= _MOST_REPEATS)
            try:
                planned = search.search_trial(values)
            except InputError:  # between bounds that were checked
                continue
            if planned.trial.id not in self._trials:
                return planned
        return next((planned for one, planned in (self._every[name] or {}).items() if one not in self._trials), None)
