"""What a sweep is doing: a live table on a terminal, plain lines elsewhere."""

import time
from collections import Counter
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table

from msd_sweeps.records.ledger import Record
from msd_sweeps.records.ranking import best_first, measured
from msd_sweeps.records.trial_record import TrialRecord
from msd_sweeps.space.designs import Sweep
from msd_sweeps.space.durations import duration

_HEARTBEAT_SECONDS = 60.0


class Progress:
    """Shows trials as their records come in; `total` is how many there will be."""

    def __init__(self, sweep: Sweep, trials: dict[str, TrialRecord], total: int, console: Console | None = None):
        self.sweep, self.trials, self.total = sweep, trials, total
        self.console = console or Console(highlight=False)
        self.started = time.monotonic()
        self._last_line = self.started
        self._done_before = self._epochs_done()
        self._live = (
            Live(console=self.console, refresh_per_second=4, get_renderable=self._table)
            if self.console.is_terminal
            else None
        )

    def __enter__(self) -> "Progress":
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, record: Record) -> None:
        """Take in a record that has just been written."""
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
        elif self._live is None and time.monotonic() - self._last_line > _HEARTBEAT_SECONDS:
            self._say(self.summary())

    def _say(self, text: str) -> None:
        self._last_line = time.monotonic()
        self.console.print(f"{time.strftime('%H:%M:%S')}  {text}", markup=False, soft_wrap=True)

    def _name(self, trial: TrialRecord) -> str:
        name = f"{trial.label or trial.phase} [{trial.number + 1}/{self.total}]"
        return f"{name} seed {trial.seed}" if trial.phase != "search" else name

    def _score(self, trial: TrialRecord) -> str:
        scores = [
            f"{name} {trial.metrics[name]:.2f}"
            for name in ("val_top1", "test_top1")
            if trial.metrics.get(name) is not None
        ]
        epochs = trial.config["recipe"]["epochs"]
        return f" after {len(trial.epochs)} of {epochs} epochs" + "".join(f", {score}" for score in scores)

    def _epochs_done(self) -> float:
        """Epochs that lie behind, an ended trial counting whole, as a share of one trial."""
        done = 0.0
        for trial in self.trials.values():
            done += 1 if trial.is_final else len(trial.epochs) / trial.config["recipe"]["epochs"]
        return done

    def _time_left(self) -> str:
        done = self._epochs_done()
        gained = done - self._done_before
        if gained <= 0:
            return "?"
        return duration((time.monotonic() - self.started) * (self.total - done) / gained)

    def _best(self) -> tuple[str, str]:
        metrics = self.sweep.space.metrics
        trials, points = measured(metrics, [trial for trial in self.trials.values() if trial.phase != "confirm"])
        if not trials:
            return "-", "-"
        order = best_first(points, metrics)
        best, point = trials[order[0]], points[order[0]]
        values = ", ".join(f"{name.rsplit('.', 1)[-1]}={_short(value)}" for name, value in best.values.items())
        score = f"{metrics[0].name} {point[0]:.2f}"
        front = f" ({len(order)} on the Pareto front)" * (len(metrics) > 1)
        return score + front, values or best.label

    def counts(self) -> dict[str, int]:
        """Trials by state."""
        return dict(Counter(trial.state for trial in self.trials.values()))

    def summary(self) -> str:
        """One line: what is done, what runs, the best so far, the time left."""
        told = ", ".join(f"{count} {state}" for state, count in sorted(self.counts().items()))
        best, values = self._best()
        led_by = f"best {best} with {values}; " if best != "-" else ""
        left = self._time_left()
        return f"{told or 'starting'} of {self.total}; {led_by}{f'{left} left' if left != '?' else 'time left unknown'}"

    def _table(self) -> Table:
        counts = self.counts()
        bad = sum(counts.get(state, 0) for state in ("failed", "diverged", "out_of_memory"))
        best, values = self._best()
        table = Table(title=self.sweep.name, title_justify="left", expand=False)
        for column in ("finished", "running", "stopped", "failed", "of", "best so far", "with", "time left"):
            table.add_column(column)
        table.add_row(
            str(counts.get("finished", 0)),
            str(counts.get("running", 0)),
            str(counts.get("stopped", 0)),
            str(bad),
            str(self.total),
            best,
            values,
            self._time_left(),
        )
        return table


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
