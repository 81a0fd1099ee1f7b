"""The progress of a sweep: a line for each trial that ends, and a summary, which a terminal shows all the time."""

import time
from collections import Counter
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from msd_sweeps.records.ledger import Record
from msd_sweeps.records.ranking import best_first, measured
from msd_sweeps.records.trial_record import EpochResult, TrialRecord, Trials, own_place
from msd_sweeps.space.console import duration
from msd_sweeps.space.designs import Sweep
from msd_sweeps.space.errors import printable
from msd_sweeps.sweep.time_left import TimeLeft


class Progress:
    """Shows trials as their records are written; `total` is how many there will be."""

    def __init__(
        self,
        sweep: Sweep,
        trials: Trials,
        total: int,
        waiting: Callable[[], Collection[str]] = tuple,
        clock: Callable[[], float] = time.time,
    ):
        """waiting: gives the trials that wait for a seat. clock: seconds since 1970, as in the records."""
        self.sweep, self.trials, self.total = sweep, trials, total
        self.console = Console(highlight=False)
        self._waiting, self._clock, self._last_line = waiting, clock, clock()
        self._time_left = TimeLeft(sweep, trials)
        self.live: AbstractContextManager[Any] = nullcontext()
        """On a terminal the summary is shown all the time inside this context."""
        if self.console.is_terminal:
            self.live = Live(console=self.console, get_renderable=lambda: Text(self.summary()))

    def say(self, text: str) -> None:
        """Show a line with the time of day."""
        self._last_line = self._clock()
        self.console.print(f"{time.strftime('%H:%M:%S')}  {printable(text)}", markup=False, soft_wrap=True)

    def update(self, record: Record) -> None:
        """Show what a record that was just written changes."""
        self._time_left.update(record)
        trial = self.trials.get(record.get("trial", ""))
        if trial is None:
            return
        epochs, name = trial.config["recipe"]["epochs"], self._name(trial)
        if record["event"] == "restart":
            lost = f"none of its checkpoints is whole; {record['epochs_lost']} epochs are trained again"
            self.say(f"{name}: {lost}")
        elif record["event"] == "end":
            state = f"{record['state']} ({record['reason']})" if record["reason"] else record["state"]
            if trial.source:
                state = f"taken over from the sweep '{trial.source}',"
            found = {metric: trial.metrics.get(metric) for metric in ("val_top1", "test_top1")}
            scores = "".join(f", {metric} {score:.2f}" for metric, score in found.items() if score is not None)
            self.say(f"{name}: {state} after {len(trial.epochs)} of {epochs} epochs{scores}")
            if record.get("traceback"):
                place = own_place(record["traceback"])
                self.say(f"{place}: " * bool(place) + record["traceback"].strip().splitlines()[-1])
        elif not (self.console.is_terminal or record.get("more")) and self._clock() - self._last_line > 60:  # seconds
            self.say(self.summary())

    def printed(self, result: EpochResult) -> None:
        """Show what a trial's own loss has printed, each line with the trial's name."""
        for line in result.printed.splitlines():
            self.say(f"{self._name(self.trials[result.trial])} prints: {line}")

    def _name(self, trial: TrialRecord) -> str:
        seed = f" seed {trial.seed}" * (trial.phase != "search")
        return f"{trial.label or trial.phase} [{trial.number + 1}/{self.total}]{seed}"

    def summary(self) -> str:
        """What is done, what runs, the best so far and the time left, in one line."""
        waiting, known = self._waiting(), list(self.trials.values())  # the screen asks from a thread of its own
        states = Counter("waiting" if one.state == "running" and one.trial in waiting else one.state for one in known)
        by_state = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
        seconds = self._time_left.seconds(self._clock())
        left = "time left unknown" if seconds is None else f"{duration(seconds)} left"
        until = " to the next look" * bool(self.sweep.space.race)
        return f"{by_state or 'starting'} of {max(self.total, len(known))}; {self._best()}{left}{until}"

    def _best(self) -> str:
        metrics = self.sweep.space.metrics
        trials, points = measured(metrics, [trial for trial in list(self.trials.values()) if trial.phase != "confirm"])
        if not trials:
            return ""
        order = best_first(points, metrics)
        best, score = trials[order[0]], points[order[0]][0]
        front = f" ({len(order)} on the Pareto front)" if len(metrics) > 1 else ""
        shown = {name: f"{value:.3g}" if isinstance(value, float) else value for name, value in best.values.items()}
        values = ", ".join(f"{name.rsplit('.', 1)[-1]}={value}" for name, value in shown.items())
        return f"best {metrics[0].name} {score:.2f}{front} with {values or best.label}; "
