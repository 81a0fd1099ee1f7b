"""What the trials of a search are compared by: measured metrics, what their students cost, and which none beats."""

import math
import operator
from collections.abc import Iterable, Sequence

from msd_sweeps.records.trial_record import TrialRecord
from msd_sweeps.space.trial import COSTS, Metric, student_cost


def values_of(metrics: Sequence[Metric], trial: TrialRecord) -> list[float | None]:
    """A trial's value of each metric after its last epoch; None where it has none."""
    return [
        student_cost(metric.name, trial.config) if metric.name in COSTS else trial.metrics.get(metric.name)
        for metric in metrics
    ]


def measured(metrics: Sequence[Metric], trials: Iterable[TrialRecord]) -> tuple[list[TrialRecord], list[list[float]]]:
    """The finished ones of some trials that have a finite value of each metric, and these values."""
    found, points = [], []
    for trial in trials:
        values = [value for value in values_of(metrics, trial) if value is not None and math.isfinite(value)]
        if trial.state == "finished" and len(values) == len(metrics):
            found.append(trial)
            points.append(values)
    return found, points


def best_first(points: Sequence[Sequence[float]], metrics: Sequence[Metric]) -> list[int]:
    """The indices of all points by a single metric; of several metrics, those of the Pareto front by the first.

    The front: the points that no other is as good as in every metric and better than in one. Of equal points all
    stay, in their order.
    """
    signs = [-1 if metric.mode == "max" else 1 for metric in metrics]
    less_is_better = [tuple(sign * value for sign, value in zip(signs, point, strict=True)) for point in points]
    order = sorted(range(len(points)), key=lambda index: less_is_better[index])
    if len(metrics) == 1:
        return order
    front: list[int] = []
    for index in order:  # in which no later point beats an earlier one
        point, better = less_is_better[index], (less_is_better[other] for other in front)
        if not any(other != point and all(map(operator.le, other, point)) for other in better):
            front.append(index)
    return front
