"""How long a sweep still takes, from the epochs that this launch has trained."""

import math
import statistics
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator
from itertools import pairwise

from msd_sweeps.records.ledger import Record
from msd_sweeps.records.trial_record import Trials
from msd_sweeps.space.designs import PlannedTrial, Sweep
from msd_sweeps.sweep.resume import every_search_trial, reported_trials
from msd_sweeps.sweep.rungs import rungs

_ROUNDS = 1000
"""Rounds of a slot that tell its pace."""
_SILENT_ROUNDS = 3
"""A slot that has given nothing for as long as so many of its epochs take is not counted on."""


class TimeLeft:
    """Adds up the epochs that are left, and what they cost so far by cell, by method, or on average.

    The cost of an epoch is the time that its student would take alone, as it does not depend on its neighbours. What
    costs take on the clock is measured: it is less where students step side by side, more where a slot waits.
    """

    def __init__(self, sweep: Sweep, trials: Trials):
        self.sweep, self.trials, self._planned = sweep, trials, _planned(sweep.fixed_trials)
        every = every_search_trial(sweep).values() if sweep.space.design == "search" else ()
        self._samples = sum(min(sweep.space.search.num_samples, len(known) if known else math.inf) for known in every)
        self._costs: Counter[str] = Counter()
        self._epochs: Counter[str] = Counter()
        """Costs and number of the epochs of this launch, by cell, method, phase, and of all."""
        self._slots: defaultdict[int, deque[tuple[float, float]]] = defaultdict(lambda: deque(maxlen=_ROUNDS))
        """Of each slot the latest whole rounds: when it was recorded, and cost."""
        self._begun: Counter[int] = Counter()
        """Of each slot the cost of the records of a round that is not whole yet."""
        self._newest = self._seconds = 0.0
        """When the last epoch was recorded; the sum of the students' shares of the time of their slots."""

    def update(self, record: Record) -> None:
        """Take in a record that was just written."""
        if record["event"] == "look":
            self._planned = _planned(reported_trials(self.sweep, self.trials))
        if record["event"] != "epoch" or not record["round"]:  # an epoch that was taken over took no time
            return
        trial, cost = self.trials[record["trial"]], record["metrics"].get("alone_seconds", record["seconds"])
        for kind in (trial.cell, trial.config["method"]["name"], trial.phase, ""):
            self._costs[kind] += cost
            self._epochs[kind] += 1
        self._newest = record["time"]
        self._seconds += record["seconds"]
        self._begun[record["slot"]] += cost
        if not record["more"]:
            self._slots[record["slot"]].append((self._newest, self._begun.pop(record["slot"])))

    def seconds(self, now: float) -> float | None:
        """The seconds that are left, now in seconds since 1970; None before the first epoch."""
        if not self._epochs:
            return None
        slots, paces = 0, []
        for rounds in map(list, list(self._slots.values())):
            took, silent = rounds[-1][0] - rounds[0][0], self._newest - rounds[-1][0]
            if len(rounds) == 1 or silent * (len(rounds) - 1) <= _SILENT_ROUNDS * took:
                slots += 1
                paces += [sum(cost for _, cost in rounds[1:]) / took] if took else []
        pace = statistics.fmean(paces or [self._costs[""] / (self._seconds or 1.0)]) * max(1, slots)
        return max(0.0, sum(self._left()) / (pace or 1.0) - (now - self._newest))

    def _left(self) -> Iterator[float]:
        """The costs of what is left."""
        space, base, known = self.sweep.space, self.sweep.base, list(self.trials.values())
        for one in known:
            if not one.is_final:
                cost = self._cost(one.cell, one.config["method"]["name"])
                yield cost * self._expected(one.config["recipe"]["epochs"], one.phase == "search", len(one.epochs))
        for name, (cell, method, epochs) in self._planned.items():
            if name not in self.trials:
                yield self._cost(cell, method) * epochs
        winners = sum(bool(one.search_trial) for one in known)
        if space.design == "search" and not winners and not self.trials.searched_hours:
            begun = sum(one.phase == "search" for one in known)
            yield max(0, self._samples - begun) * self._cost("search") * self._expected(base.recipe.epochs, True)
        yield max(0, self.sweep.confirmed_count - winners) * self._cost("search") * base.recipe.epochs

    def _expected(self, epochs: int, is_search: bool, done: int = 0) -> float:
        """Epochs to expect after `done`: at each rung, a search lets 1/`reduction_factor` of its trials go on."""
        scheduler = self.sweep.space.scheduler
        stops = [rung for rung in rungs(scheduler, epochs) if rung > done] if is_search else []
        parts = enumerate(pairwise([done, *stops, epochs]))
        return sum((end - begin) / scheduler.reduction_factor**passed for passed, (begin, end) in parts)

    def _cost(self, *kinds: str) -> float:
        """The mean cost of an epoch, of the first kind that has been trained."""
        kind = next((kind for kind in kinds if self._epochs[kind]), "")
        return self._costs[kind] / self._epochs[kind]


def _planned(trials: Iterable[PlannedTrial]) -> dict[str, tuple[str, str, int]]:
    """Cell, method and epochs of trials by their ids, which take long to compute."""
    return {one.trial.id: (one.trial.cell, one.trial.method.name, one.trial.recipe.epochs) for one in trials}
