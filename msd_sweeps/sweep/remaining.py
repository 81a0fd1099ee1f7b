"""What a sweep asks for and what of it is missing: pure functions of the plan and of the records."""

import contextlib

from msd_sweeps.records.ranking import best_first, measured
from msd_sweeps.records.trial_record import TrialRecord
from msd_sweeps.space.designs import PlannedTrial, Sweep, Values
from msd_sweeps.space.errors import InputError

Trials = dict[str, TrialRecord]
"""The trials of a ledger by their ids, in the order of their first start."""


def searched(trials: Trials) -> list[TrialRecord]:
    """The trials of the search itself."""
    return [trial for trial in trials.values() if trial.phase == "search"]


def every_search_trial(sweep: Sweep) -> dict[str, tuple[PlannedTrial, Values]] | None:
    """All trials that the search can reach, by their ids; None where they are more than twice the samples asked for."""
    choices = sweep.conditions.every_choice(2 * sweep.space.search.num_samples)
    if choices is None:
        return None
    found: dict[str, tuple[PlannedTrial, Values]] = {}
    for values in choices:
        with contextlib.suppress(InputError):
            planned = sweep.search_trial(values)
            found.setdefault(planned.trial.id, (planned, values))
    return found


def winners(sweep: Sweep, trials: Trials) -> list[PlannedTrial]:
    """The best finished search trials by the metric's last value, best first, one of each configuration.

    Of several metrics: the trials of their Pareto front, the best by the first metric first.
    """
    metrics = sweep.space.metrics
    finished, points = measured(metrics, searched(trials))
    best = [finished[index] for index in best_first(points, metrics)[: sweep.space.confirm.top_k]]
    return [PlannedTrial(trial.configuration, "", "search", tuple(trial.levels)) for trial in best]


def reported_trials(sweep: Sweep, trials: Trials) -> list[PlannedTrial]:
    """The trials that tables are made from: a design's own, or baselines and winners of a search that has ended.

    A winner that is a baseline at the same time is one trial that names both: `winner 1 = kd`.
    """
    if sweep.space.design != "search":
        return list(sweep.fixed_trials)
    planned = {baseline.trial.id: baseline for baseline in sweep.fixed_trials}
    for winner in sweep.confirm_trials(winners(sweep, trials)):
        same = planned.get(winner.trial.id)
        planned[winner.trial.id] = winner if same is None else winner._replace(label=f"{winner.label} = {same.label}")
    # Seed by seed: trials that share a stream run side by side.
    return sorted(planned.values(), key=lambda trial: trial.trial.seed)


def is_recorded(planned: PlannedTrial, trials: Trials) -> bool:
    """Whether the ledger has the trial; False too where it has a winner as a mere baseline."""
    known = trials.get(planned.trial.id)
    if known is None:
        return False
    return known.phase != "confirm" or bool(known.search_trial) or not planned.search_trial


def is_complete(sweep: Sweep, trials: Trials) -> bool:
    """Whether everything that a sweep asks for has ended."""
    if not trials or not all(trial.is_final for trial in trials.values()):
        return False
    if sweep.space.design == "search" and len(searched(trials)) < sweep.space.search.num_samples:
        every = every_search_trial(sweep)
        if every is None or len(searched(trials)) < len(every):
            return False
    return all(is_recorded(planned, trials) for planned in reported_trials(sweep, trials))
