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
from msd_sweeps.space.choices import Conditions, Values, on_step
from msd_sweeps.space.schema import Choices, Parameter, Search, Space
from msd_sweeps.space.trial import Trial

optuna.logging.set_verbosity(optuna.logging.ERROR)

STATES = {"finished": TrialState.COMPLETE, "stopped": TrialState.PRUNED}
"""How a trial's end is told to Optuna; every other end is a failure."""


def sampler(search: Search, told: int) -> optuna.samplers.BaseSampler:
    """The sampler that a space names. `told`: trials it has seen before, so that a resume draws anew."""
    seed = (search.seed + 1_000_003 * told) % 2**32
    samplers = {
        "tpe": lambda: optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True),
        "random": lambda: optuna.samplers.RandomSampler(seed=seed),
        "qmc": lambda: optuna.samplers.QMCSampler(seed=seed, warn_independent_sampling=False),
        "gp": lambda: optuna.samplers.GPSampler(seed=seed),
        "nsga2": lambda: optuna.samplers.NSGAIISampler(seed=seed),
    }
    return samplers[search.sampler]()


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """One distribution per parameter; choices are named by their JSON text or their label."""
    return {name: _distribution(parameter) for name, parameter in space.parameters.items()}


def _distribution(parameter: Parameter) -> BaseDistribution:
    if isinstance(parameter, Choices):
        labels = parameter.choices
        return CategoricalDistribution(
            list(labels) if isinstance(labels, dict) else [json.dumps(value) for value in labels]
        )
    if parameter.is_integer:
        step = int(parameter.step or 1)
        return IntDistribution(int(parameter.low), int(parameter.high), log=parameter.log, step=step)
    return FloatDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)


def _suggested(trial: optuna.Trial, name: str, distribution: BaseDistribution) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(
            name, distribution.low, distribution.high, log=distribution.log, step=distribution.step
        )
    assert isinstance(distribution, FloatDistribution)
    return trial.suggest_float(name, distribution.low, distribution.high, log=distribution.log, step=distribution.step)


def _finite(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None and math.isfinite(value)]


class Study:
    """The search of one sweep, kept in a journal file that optuna-dashboard opens.

    The ledger is the truth: the journal is written anew from it whenever a driver starts.
    """

    def __init__(
        self, space: Space, name: str, journal: Path, records: Iterable[TrialRecord] = (), base: Trial | None = None
    ):
        """base: the trial whose settings the conditions of parameters may name."""
        self.space = space
        self._conditions = Conditions(space, base)
        self._distributions = distributions(space)
        self._asked: dict[int, optuna.Trial] = {}
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
        for record in known:
            if record.is_final:
                self.study.add_trial(self._frozen(record))

    def ask(self, at_random: bool = False) -> tuple[int, Values]:
        """The number of a new Optuna trial and what it chose; what does not count is not asked for.

        at_random: without the sampler, for one that only repeats itself.
        """
        own = self.study.sampler
        if at_random:
            self.study.sampler = self._random
        try:
            trial = self.study.ask()
            self._asked[trial.number] = trial
            values: Values = {}
            for name in self._conditions.order:
                if self._conditions.counts(name, values):
                    values[name] = self._decoded(name, _suggested(trial, name, self._distributions[name]))
        finally:
            self.study.sampler = own
        return trial.number, values

    def ask_again(self, values: Values) -> int:
        """Register a choice that is under way already, from before an interruption."""
        self.study.enqueue_trial(self._encoded(values))
        return self.ask()[0]

    def report(self, number: int, epoch: int, value: float | None) -> None:
        """One intermediate value of the first metric; Optuna takes none where there are several."""
        if len(self.space.metrics) == 1 and value is not None and math.isfinite(value):
            self._asked[number].report(value, epoch)

    def tell(self, number: int, state: str, *values: float | None) -> None:
        """How a trial ended and its value of each metric; without finite values it failed, whatever its state."""
        trial = self._asked.pop(number)
        known = _finite(values)
        told = self._state(state, known)
        # A pruned trial's value is its last intermediate one.
        self.study.tell(trial, known if told == TrialState.COMPLETE else None, state=told)

    def _state(self, state: str, values: list[float]) -> TrialState:
        told = STATES.get(state, TrialState.FAIL)
        is_whole = len(values) == len(self.space.metrics)
        # Of several metrics Optuna prunes nothing.
        is_told = is_whole and (told == TrialState.COMPLETE or len(values) == 1)
        return told if is_told else TrialState.FAIL

    def _frozen(self, record: TrialRecord) -> FrozenTrial:
        metrics = self.space.metrics
        reported = {epoch.epoch: epoch.metrics.get(metrics[0].name) for epoch in record.epochs}
        intermediate = {epoch: value for epoch, value in reported.items() if value is not None}
        values = _finite(values_of(metrics, record))
        state = self._state(record.state, values)
        return create_trial(
            state=state,
            values=values if state != TrialState.FAIL else None,
            params=self._encoded(record.values),
            distributions={name: self._distributions[name] for name in record.values},
            intermediate_values=intermediate if len(metrics) == 1 else {},
        )

    def _is_list(self, name: str) -> bool:
        parameter = self.space.parameters[name]
        return isinstance(parameter, Choices) and isinstance(parameter.choices, list)

    def _decoded(self, name: str, value: Any) -> Any:
        return json.loads(value) if self._is_list(name) else on_step(self.space.parameters[name], value)

    def _encoded(self, values: Values) -> dict[str, Any]:
        return {name: json.dumps(value) if self._is_list(name) else value for name, value in values.items()}
