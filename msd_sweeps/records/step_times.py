"""How long a step of a pair of networks takes, and how far its trials spread, as earlier sweeps of a store had it."""

import contextlib
import json
import math
import statistics
from collections.abc import Iterable
from pathlib import Path

from msd_sweeps.records.files import write_whole
from msd_sweeps.records.trial_record import TrialRecord
from msd_sweeps.space.trial import Trial

_TIMINGS = "timings.json"
_START_UP = "start-up"


def _timing_key(trial: Trial) -> str:
    pair = f"{trial.teacher.model} -> {trial.student.model}, batch {trial.recipe.batch_size}"
    return f"{trial.data.name} at {trial.data.facts.image_size} px: {pair}"


def recorded_step_seconds(storage: Path, trial: Trial) -> float | None:
    """Seconds per student and step of this pair, as the last sweep in this store measured them."""
    return _known_times(storage).get(_timing_key(trial))


def recorded_start_seconds(storage: Path) -> float | None:
    """Seconds from the start of Ray to the first epoch's end, as the last sweep in this store measured them."""
    return _known_times(storage).get(_START_UP)


def recorded_spread(storage: Path, trial: Trial, metric: str) -> float | None:
    """Standard deviation of trials of this pair and length around row and seed, as the last sweep in this store had it.

    metric: such as test_top1, in its unit.
    """
    return _known_times(storage).get(_spread_key(trial, metric))


def _spread_key(trial: Trial, metric: str) -> str:
    return f"spread of {metric}, {_timing_key(trial)}, {trial.recipe.epochs} epochs"


def record_spread(storage: Path, base: Trial, metric: str, trials: Iterable[TrialRecord]) -> None:
    """Keep how far reported trials spread around row and seed, for later plans; of rows with every seed, two or more.

    Where the disk refuses, plans do without.
    """
    rows: dict[str, dict[int, float]] = {}
    for one in trials:
        if one.phase != "search" and one.state == "finished" and metric in one.metrics:
            rows.setdefault(one.label, {})[one.seed] = one.metrics[metric]
    seeds = max(map(len, rows.values()), default=0)
    whole = [row for row in rows.values() if row.keys() == max(rows.values(), key=len).keys()]
    if len(whole) < 2 or seeds < 2:
        return
    of_seed = {seed: statistics.fmean(row[seed] for row in whole) for seed in whole[0]}
    around = [statistics.variance(row[seed] - of_seed[seed] for seed in row) for row in whole]
    spread = math.sqrt(statistics.fmean(around) * len(whole) / (len(whole) - 1))
    _keep(storage, {_spread_key(base, metric): spread})


def record_step_seconds(storage: Path, trials: Iterable[TrialRecord], start_seconds: float | None = None) -> None:
    """Keep the median step time of each pair for later plans; where the disk refuses, they do without.

    start_seconds: from the start of Ray to the first epoch's end; None where no epoch was trained.
    """
    measured: dict[str, list[float]] = {}
    for trial in trials:
        epochs = [] if trial.source else trial.epochs  # what was taken over may have been trained elsewhere
        times = [time for epoch in epochs if (time := epoch.metrics.get("step_seconds"))]
        measured.setdefault(_timing_key(trial.configuration), []).extend(times)
    medians = {key: statistics.median(times) for key, times in measured.items() if times}
    _keep(storage, medians | ({_START_UP: start_seconds} if start_seconds else {}))


def _keep(storage: Path, figures: dict[str, float]) -> None:
    with contextlib.suppress(OSError):
        text = json.dumps(_known_times(storage) | figures, indent=1, sort_keys=True)
        write_whole(storage / _TIMINGS, (text + "\n").encode())


def _known_times(storage: Path) -> dict[str, float]:
    """What a storage folder's file of times holds; nothing where it is absent or damaged."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        items = json.loads((storage / _TIMINGS).read_text()).items()
        return {key: time for key, time in items if isinstance(time, float) and time > 0}
    return {}
