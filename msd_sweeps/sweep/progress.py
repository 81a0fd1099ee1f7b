"""The progress of a sweep: a line for each trial that ends, and a summary, which a terminal shows all the time."""

import time
from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from msd_sweeps.records.ledger import Record
from msd_sweeps.records.ranking import best_first, measured
from msd_sweeps.records.trial_record import TrialRecord
from msd_sweeps.space.designs import Sweep
from msd_sweeps.space.durations import duration

_HEARTBEAT_SECONDS = 60.0


class Progress:
    """Shows trials as their records are written; `total` is how many there will be."""

    def __init__(self, sweep: Sweep, trials: dict[str, TrialRecord], total: int, console: Console | None = None):
        self.sweep, self.trials, self.total = sweep, trials, total
        self.console = console or Console(highlight=False)
        self.started = time.monotonic()
        self._last_line = self.started
        self._done_before = self._trials_done()
        self.live: AbstractContextManager[Any] = nullcontext()
        """On a terminal the summary is shown all the time inside this context."""
        if self.console.is_terminal:
            self.live = Live(console=self.console, get_renderable=lambda: Text(self.summary()))

    def update(self, record: Record) -> None:
        """Show what a record that was just written changes."""
        trial = self.trials.get(record.get("trial", ""))
        if trial is None:
            return
        if record["event"] == "restart":
            lost = f"none of its checkpoints is whole; {record['epochs_lost']} epochs are trained again"
            self._say(f"{self._name(trial)}: {lost}")
        elif record["event"] == "end":
            trial_state = record["state"]
            reason = f" ({record['reason']})" if record["reason"] else ""
            if trial.source:
                trial_state = f"taken over from the sweep '{trial.source}',"
                self._done_before += 1  # it took no time here
            self._say(f"{self._name(trial)}: {trial_state}{reason}{self._score(trial)}")
            if record.get("traceback"):
                self._say(record["traceback"].strip().splitlines()[-1])
        elif not self.console.is_terminal and time.monotonic() - self._last_line > _HEARTBEAT_SECONDS:
            self._say(self.summary())

    def _say(self, text: str) -> None:
        self._last_line = time.monotonic()
        self.console.print(f"{time.strftime('%H:%M:%S')}  {text}", markup=False, soft_wrap=True)

    def _name(self, trial: TrialRecord) -> str:
        name = f"{trial.label or trial.phase} [{trial.number + 1}/{self.total}]"
        return f"{name} seed {trial.seed}" if trial.phase != "search" else name

    def _score(self, trial: TrialRecord) -> str:
        found = {name: trial.metrics.get(name) for name in ("val_top1", "test_top1")}
        scores = "".join(f", {name} {score:.2f}" for name, score in found.items() if score is not None)
        epochs = trial.config["recipe"]["epochs"]
        return f" after {len(trial.epochs)} of {epochs} epochs{scores}"

    def _trials_done(self) -> float:
        """The trials that are done, each that runs by the share of its epochs."""
        trials = self.trials.values()
        return sum(1 if t.is_final else len(t.epochs) / t.config["recipe"]["epochs"] for t in trials)

    def _time_left(self) -> str:
        done = self._trials_done()
        gained = done - self._done_before
        if gained <= 0:
            return "time left unknown"
        return f"{duration((time.monotonic() - self.started) * (self.total - done) / gained)} left"

    def _best(self) -> str:
        metrics = self.sweep.space.metrics
        trials, points = measured(metrics, [trial for trial in self.trials.values() if trial.phase != "confirm"])
        if not trials:
            return ""
        order = best_first(points, metrics)
        best, score = trials[order[0]], points[order[0]][0]
        front = f" ({len(order)} on the Pareto front)" if len(metrics) > 1 else ""
        values = ", ".join(f"{name.rsplit('.', 1)[-1]}={_short(value)}" for name, value in best.values.items())
        return f"best {metrics[0].name} {score:.2f}{front} with {values or best.label}; "

    def summary(self) -> str:
        """What is done, what runs, the best so far and the time left, in one line."""
        states = Counter(trial.state for trial in self.trials.values())
        by_state = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
        return f"{by_state or 'starting'} of {self.total}; {self._best()}{self._time_left()}"


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
