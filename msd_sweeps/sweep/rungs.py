"""Successive halving in lockstep (ASHA, Li et al. 2020, arXiv:1810.05934): which trials of a search are stopped early.

The students of a slot reach a rung together, and all of them are judged at once, beside every earlier trial that has
been there. What is decided follows from the ledger alone, and not from who reports first.
"""

import math
from collections.abc import Iterable, Sequence

from msd_sweeps.records.trial_record import TrialRecord
from msd_sweeps.space.schema import Scheduler, Space


def rungs(scheduler: Scheduler, epochs: int) -> tuple[int, ...]:
    """The epochs after which a trial of so many epochs may be stopped: grace period times powers of the factor."""
    found, rung = [], scheduler.grace_period
    while scheduler.type == "asha" and rung < epochs:
        found.append(rung)
        rung *= scheduler.reduction_factor
    return tuple(found)


def losers(space: Space, searched: Iterable[TrialRecord], arrived: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Those of the trials that have just `arrived` at a rung that are not in its best 1/`reduction_factor`.

    searched: every trial of the search. A trial is compared with those of as many epochs in all, as the learning rate
    of shorter ones has fallen further. Equal trials go on together.
    """
    metric, factor = space.metrics[0], space.scheduler.reduction_factor
    sign = 1 if metric.mode == "max" else -1
    known = list(searched)

    def score(trial: TrialRecord, rung: int) -> float | None:
        """What the trial gave at the rung, more is better; None where it has not been there."""
        values = [epoch.metrics.get(metric.name) for epoch in trial.epochs if epoch.epoch == rung]
        if not values:
            return None
        return sign * values[0] if values[0] is not None and math.isfinite(values[0]) else -math.inf

    found = []
    for trial in arrived:
        epochs, rung = trial.config["recipe"]["epochs"], trial.epochs[-1].epoch
        if rung in rungs(space.scheduler, epochs):
            beside = [score(other, rung) for other in known if other.config["recipe"]["epochs"] == epochs]
            scores = sorted((value for value in beside if value is not None), reverse=True)
            own = score(trial, rung)
            if own is not None and own < scores[math.ceil(len(scores) / factor) - 1]:
                found.append(trial)
    return found
