"""The schema of a space: defaults that depend on other settings, and spaces that survive the ledger."""

import pytest

from msd_sweeps.space.load import load
from msd_sweeps.space.schema import Space
from tests.space.spaces import grid_of, make


def test_whole_numbers_are_those_written_so():
    parameters = {"recipe.epochs": {"low": 2, "high": 9}, "method.kd_weight": {"low": 0.0, "high": 1.0}}
    space = make("search", parameters=parameters).space
    assert space.parameters["recipe.epochs"].is_integer
    assert not space.parameters["method.kd_weight"].is_integer
    again = Space.model_validate_json(space.model_dump_json())
    assert not again.parameters["method.kd_weight"].is_integer


def test_a_loss_is_minimised_unless_said_otherwise():
    parameters = grid_of(scales=[[1], [2]])
    assert make("search", metric={"name": "val_loss"}, parameters=parameters).space.metric.mode == "min"
    assert make("search", metric={"name": "val_top1"}, parameters=parameters).space.metric.mode == "max"
    assert make("search", parameters=parameters).space.metric.mode == "max"
    assert make("search", metric={"name": "val_loss", "mode": "max"}, parameters=parameters).space.metric.mode == "max"


@pytest.mark.parametrize("name", ["scales", "ablation", "temperatures"])
def test_a_space_survives_the_ledger(name):
    space = load(name).space
    assert Space.model_validate_json(space.model_dump_json()) == space


def test_one_metric_is_recorded_as_ever_and_several_survive_the_ledger():
    parameters = {"student.model": {"choices": ["resnet8", "resnet14"]}}
    alone = make("search", metric={"name": "val_loss"}, parameters=parameters).space
    assert alone.model_dump(mode="json")["metric"] == {"name": "val_loss", "mode": "min"}
    several = make("search", metric=[{"name": "val_top1"}, {"name": "student_parameters"}], parameters=parameters).space
    assert [(metric.name, metric.mode) for metric in several.metrics] == [
        ("val_top1", "max"),
        ("student_parameters", "min"),
    ]
    assert Space.model_validate_json(several.model_dump_json()) == several
