"""How long a step of a pair of networks takes, as earlier sweeps of a store measured it."""

import contextlib
import json
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
    return _known_times(storage / _TIMINGS).get(_timing_key(trial))


def recorded_start_seconds(storage: Path) -> float | None:
    """Seconds from the start of Ray to the first epoch's end, as the last sweep in this store measured them."""
    return _known_times(storage / _TIMINGS).get(_START_UP)


def record_step_seconds(storage: Path, trials: Iterable[TrialRecord], start_seconds: float | None = None) -> None:
    """Keep the median step time of each pair for later plans; where the disk refuses, they do without.

    start_seconds: from the start of Ray to the first epoch's end; None where no epoch was trained.
    """
    path = storage / _TIMINGS
    measured: dict[str, list[float]] = {}
    for trial in trials:
        times = [time for epoch in trial.epochs if (time := epoch.metrics.get("step_seconds"))]
        measured.setdefault(_timing_key(trial.configuration), []).extend(times)
    known = _known_times(path) | {key: statistics.median(times) for key, times in measured.items() if times}
    known |= {_START_UP: start_seconds} if start_seconds else {}
    with contextlib.suppress(OSError):
        write_whole(path, (json.dumps(known, indent=1, sort_keys=True) + "\n").encode())


def _known_times(path: Path) -> dict[str, float]:
    """What a file of times holds; nothing where it is absent or damaged."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        items = json.loads(path.read_text()).items()
        return {key: time for key, time in items if isinstance(time, float) and time > 0}
    return {}
