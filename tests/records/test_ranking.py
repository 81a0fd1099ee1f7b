"""What a search is judged by: the front against its definition and against Optuna's, costs against the networks'."""

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import create_trial

from msd_sweeps.catalog.networks import NETWORKS
from msd_sweeps.records.ranking import best_first, measured, values_of
from msd_sweeps.records.trial_record import EpochResult, TrialRecord
from msd_sweeps.space.load import load_base
from msd_sweeps.space.trial import Metric, changed, student_cost

TOP1 = Metric(name="val_top1")
LOSS = Metric(name="val_loss")
COST = Metric(name="student_multiply_adds")
FEW = st.integers(0, 4).map(float)


def record(config: dict, state: str = "finished", **metrics: float | None) -> TrialRecord:
    epochs = [EpochResult("t", "running", 1, 1.0, metrics)]
    return TrialRecord("t", "c", "", "search", 0, 0, config, state=state, epochs=epochs)


def trial_of(**changes: object) -> dict:
    return changed(load_base("digits"), changes).model_dump(mode="json")


@pytest.mark.parametrize("metrics", [[TOP1, COST], [LOSS, TOP1, COST]], ids=["two", "three"])
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_the_front_is_what_optuna_calls_the_best_trials(metrics, data):
    points = data.draw(st.lists(st.lists(FEW, min_size=len(metrics), max_size=len(metrics)), max_size=12))
    directions = [{"max": "maximize", "min": "minimize"}[metric.mode] for metric in metrics]
    study = optuna.create_study(directions=directions)
    study.add_trials([create_trial(values=point) for point in points])
    front = best_first(points, metrics)
    assert set(front) == {trial.number for trial in study.best_trials}
    sign = -1 if metrics[0].mode == "max" else 1
    firsts = [sign * points[index][0] for index in front]
    assert firsts == sorted(firsts)


@pytest.mark.parametrize(("metric", "order"), [(TOP1, [2, 0, 3, 1]), (LOSS, [1, 0, 3, 2])])
def test_by_one_metric_all_are_ranked_and_equal_ones_keep_their_order(metric, order):
    assert best_first([[2.0], [1.0], [3.0], [2.0]], [metric]) == order


def test_a_cost_is_the_networks_at_the_size_of_the_images():
    known = NETWORKS["resnet14"]
    small = trial_of(**{"student.model": "resnet14", "data.image_size": 32})
    large = trial_of(**{"student.model": "resnet14", "data.image_size": 64})
    assert student_cost("student_parameters", small) == student_cost("student_parameters", large)
    assert student_cost("student_parameters", small) == known.parameters
    assert student_cost("student_multiply_adds", small) == known.multiply_adds
    assert student_cost("student_multiply_adds", large) == pytest.approx(4 * known.multiply_adds)


def test_a_trial_without_a_finite_value_of_each_metric_is_not_compared():
    config = trial_of(**{"data.image_size": 32})
    whole, stopped = record(config, val_top1=50.0), record(config, "stopped", val_top1=60.0)
    silent, lost = record(config, val_top1=None), record(config, val_top1=float("nan"))
    trials, points = measured([TOP1, COST], [silent, whole, stopped, lost])
    assert (trials, points) == ([whole], [[50.0, NETWORKS[config["student"]["model"]].multiply_adds]])
    assert values_of([TOP1, LOSS], whole) == [50.0, None]
