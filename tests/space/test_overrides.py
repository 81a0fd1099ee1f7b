"""Overrides touch their path alone."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msd_sweeps.space.errors import InputError
from msd_sweeps.space.load import load
from msd_sweeps.space.settings import flatten, overlap
from msd_sweeps.space.trial import Trial, changed
from tests.space.spaces import BASE

SETTABLE = {
    "recipe.epochs": st.integers(1, 500),
    "recipe.lr": st.floats(1e-6, 10),
    "recipe.flip": st.booleans(),
    "recipe.milestones": st.lists(st.integers(1, 240), max_size=3),
    "recipe.schedule": st.sampled_from(["step", "cosine"]),
    "data.split_seed": st.integers(0, 99),
    "data.root": st.text("abc/", min_size=1, max_size=5),
    "teacher.seed": st.integers(0, 99),
    "teacher.recipe.epochs": st.integers(1, 9),
    "method.scales": st.sampled_from([[1], [2], [1, 2], [1, 2, 4]]),
    "method.sample_weight": st.floats(0.1, 9),
    "method.stride": st.sampled_from(["window", "half"]),
    "data_seed": st.none() | st.integers(0, 99),
}


def flat(trial: Trial) -> dict:
    return flatten(trial.model_dump(mode="json"))


@settings(max_examples=60, deadline=None)
@given(data=st.data(), chosen=st.lists(st.sampled_from(sorted(SETTABLE)), unique=True))
def test_overrides_touch_their_paths_alone(data, chosen):
    changes = {path: data.draw(SETTABLE[path]) for path in chosen}
    before, after = flat(BASE), flat(changed(BASE, changes))
    if after["method.scales"] == [1] and "method.stride" in changes:
        changes["method.stride"] = "window"  # one window has no stride
    assert {path: after[path] for path in changes} == changes
    assert {path: value for path, value in after.items() if path not in changes} == {
        path: value for path, value in before.items() if path not in changes
    }


def test_a_whole_section_is_replaced_not_merged():
    trial = changed(BASE, {"teacher": {"model": "resnet56"}})
    assert trial.teacher.recipe.epochs == 240
    assert BASE.teacher.recipe.epochs != 240


def test_a_path_may_follow_the_method_that_has_it():
    trial = changed(BASE, {"method": {"name": "kd"}, "method.temperature": 2.0})
    assert (trial.method.name, trial.method.temperature) == ("kd", 2.0)
    with pytest.raises(InputError, match="not a setting"):
        changed(BASE, {"method.attention_weight": 2.0})


def test_changes_that_only_fit_together_are_checked_together():
    changes = {"student.model": "ShuffleNetV2", "method.projector": "linear", "method.scales": [1, 2]}
    assert changed(BASE, changes).student.model == "ShuffleNetV2"
    assert load("ablation", settings=[f"{path}={json.dumps(value)}" for path, value in changes.items()])


def test_settings_reach_a_parameter_whose_name_has_dots():
    sweep = load("scales", settings=["parameters.method.scales.choices=[[1], [4]]", "search.num_samples=3"])
    assert sweep.space.parameters["method.scales"].choices == [[1], [4]]
    assert sweep.space.search.num_samples == 3


def test_a_flat_tree_has_the_values_by_their_paths():
    tree = {"a": {"b": {"c": 1}, "d": [{"e": 2}]}, "f": None, "g": {}}
    assert flatten(tree) == {"a.b.c": 1, "a.d": [{"e": 2}], "f": None}


def test_paths_overlap_where_one_holds_the_other():
    assert overlap("recipe", "recipe.lr")
    assert overlap("recipe.lr", "recipe")
    assert overlap("recipe.lr", "recipe.lr")
    assert not overlap("recipe.lr", "recipe.lrate")
