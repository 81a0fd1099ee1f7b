"""Optuna: the distributions of a space, the sampler, ask and tell; the study is rebuilt from the ledger."""

import json
import math
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from msd_sweeps.records.ranking import values_of
from msd_sweeps.records.trial_record import TrialRecord
from msd_sweeps.space.designs import Conditions, Values, on_step
from msd_sweeps.space.schema import Choices, Parameter, Search, Space
from msd_sweeps.space.trial import Trial

optuna.logging.set_verbosity(optuna.logging.ERROR)

STATES = {"finished": TrialState.COMPLETE, "stopped": TrialState.PRUNED}
"""Optuna's states for the ends of trials; every other end is a failure."""
SAMPLERS: dict[str, tuple[Any, dict[str, bool]]] = {
    "tpe": (optuna.samplers.TPESampler, {"multivariate": True, "group": True}),
    "random": (optuna.samplers.RandomSampler, {}),
    "qmc": (optuna.samplers.QMCSampler, {"warn_independent_sampling": False}),
    "gp": (optuna.samplers.GPSampler, {}),
    "nsga2": (optuna.samplers.NSGAIISampler, {}),
}
"""The samplers of a space, each with its settings."""


def sampler(search: Search, known: int) -> optuna.samplers.BaseSampler:
    """The sampler that a space names. known: trials of the search so far, so that a resume draws new ones."""
    kind, settings = SAMPLERS[search.sampler]
    return kind(seed=(search.seed + 1_000_003 * known) % 2**32, **settings)


def distribution_of(parameter: Parameter) -> BaseDistribution:
    """The distribution of a parameter; choices are named by their JSON text or their label."""
    if isinstance(parameter, Choices):
        choices = parameter.choices
        return CategoricalDistribution(list(choices) if isinstance(choices, dict) else [*map(json.dumps, choices)])
    if parameter.is_integer:
        step = int(parameter.step or 1)
        return IntDistribution(int(parameter.low), int(parameter.high), log=parameter.log, step=step)
    return FloatDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)


def _suggested(trial: optuna.Trial, name: str, distribution: Any) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    suggest: Any = trial.suggest_int if isinstance(distribution, IntDistribution) else trial.suggest_float
    return suggest(name, distribution.low, distribution.high, log=distribution.log, step=distribution.step)


class Study:
    """The search of one sweep, in a journal for optuna-dashboard, which is written anew from the ledger's records."""

    def __init__(
        self, space: Space, name: str, journal: Path, records: Iterable[TrialRecord] = (), base: Trial | None = None
    ):
        """base: the trial whose settings the conditions of parameters may name."""
        self.space = space
        self._conditions = Conditions(space, base)
        self._distributions = {name: distribution_of(parameter) for name, parameter in space.parameters.items()}
        for old in (journal, journal.with_name(journal.name + ".lock")):
            old.unlink(missing_ok=True)
        known = list(records)
        directions = {"max": StudyDirection.MAXIMIZE, "min": StudyDirection.MINIMIZE}
        with warnings.catch_warnings():
            # Optuna announces multivariate sampling as experimental on every use.
            warnings.simplefilter("ignore", category=optuna.exceptions.ExperimentalWarning)
            self.study = optuna.create_study(
                study_name=name,
                storage=JournalStorage(JournalFileBackend(str(journal))),
                sampler=sampler(space.search, len(known)),
                directions=[directions[metric.mode] for metric in space.metrics],
            )
        self._random = sampler(space.search.model_copy(update={"sampler": "random"}), len(known))
        self.study.add_trials([self._frozen(record) for record in known if record.is_final])

    def ask(self, at_random: bool = False) -> tuple[optuna.Trial, Values]:
        """A new Optuna trial and the values that it chose, without parameters whose condition is false.

        at_random: at random instead of by the sampler.
        """
        own = self.study.sampler
        if at_random:
            self.study.sampler = self._random
        try:
            trial = self.study.ask()
            values: Values = {}
            for name in self._conditions.order:
                if self._conditions.counts(name, values):
                    values[name] = self._decoded(name, _suggested(trial, name, self._distributions[name]))
        finally:
            self.study.sampler = own
        return trial, values

    def ask_again(self, values: Values) -> optuna.Trial:
        """Register a choice that was made already, before an interruption; its new Optuna trial."""
        self.study.enqueue_trial(self._encoded(values))
        return self.ask()[0]

    def report(self, asked: optuna.Trial, epoch: int, value: float | None) -> None:
        """One intermediate value of the first metric; Optuna takes none of a study with several metrics."""
        if len(self.space.metrics) == 1 and value is not None and math.isfinite(value):
            asked.report(value, epoch)

    def tell(self, asked: optuna.Trial, state: str, *values: float | None) -> None:
        """How a trial ended, with its value of each metric."""
        optuna_state, known = self._outcome(state, values)
        # A pruned trial's value is its last intermediate one.
        self.study.tell(asked, known if optuna_state == TrialState.COMPLETE else None, state=optuna_state)

    def _outcome(self, state: str, values: Iterable[float | None]) -> tuple[TrialState, list[float] | None]:
        """Optuna's state and values of a trial that ended; a failure where it lacks a finite value of a metric.

        Of several metrics Optuna prunes nothing.
        """
        known = [value for value in values if value is not None and math.isfinite(value)]
        found = STATES.get(state)
        if found is None or len(known) < len(self.space.metrics) or (found == TrialState.PRUNED and len(known) > 1):
            return TrialState.FAIL, None
        return found, known

    def _frozen(self, record: TrialRecord) -> FrozenTrial:
        metrics = self.space.metrics
        scores = {epoch.epoch: epoch.metrics.get(metrics[0].name) for epoch in record.epochs if len(metrics) == 1}
        state, values = self._outcome(record.state, values_of(metrics, record))
        return create_trial(
            state=state,
            values=values,
            params=self._encoded(record.values),
            distributions={name: self._distributions[name] for name in record.values},
            intermediate_values={epoch: score for epoch, score in scores.items() if score is not None},
        )

    def _is_list(self, name: str) -> bool:
        parameter = self.space.parameters[name]
        return isinstance(parameter, Choices) and isinstance(parameter.choices, list)

    def _decoded(self, name: str, value: Any) -> Any:
        return json.loads(value) if self._is_list(name) else on_step(self.space.parameters[name], value)

    def _encoded(self, values: Values) -> dict[str, Any]:
        return {name: json.dumps(value) if self._is_list(name) else value for name, value in values.items()}
