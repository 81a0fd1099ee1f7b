"""A space becomes trials: overrides touch their path alone, designs are laid out as described."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msd_sweeps.space.designs import Sweep
from msd_sweeps.space.errors import InputError
from msd_sweeps.space.load import find, load, load_base, setting
from msd_sweeps.space.overrides import changed, flatten, with_sections
from msd_sweeps.space.schema import Space
from msd_sweeps.space.trial import Trial

BASE = load_base("digits")
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


def make(design: str, **sections) -> Sweep:
    return Sweep("test", Space.model_validate_json(json.dumps({"base": "digits", "design": design, **sections})), BASE)


def grid_of(**choices) -> dict:
    return {f"method.{name}": {"choices": values} for name, values in choices.items()}


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "space.yaml"
    path.write_text(text)
    return str(path)


# --- overrides


@settings(max_examples=60, deadline=None)
@given(data=st.data(), chosen=st.lists(st.sampled_from(sorted(SETTABLE)), unique=True))
def test_overrides_touch_their_paths_alone(data, chosen):
    changes = {path: data.draw(SETTABLE[path]) for path in chosen}
    before, after = flat(BASE), flat(changed(BASE, changes))
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


def test_settings_are_read_as_yaml():
    assert setting("recipe.lr=1e-4") == ("recipe.lr", 1e-4)
    assert setting("method.scales=[1, 2]") == ("method.scales", [1, 2])
    assert setting("teacher.weights=a=b.pt") == ("teacher.weights", "a=b.pt")
    assert setting("teacher.weights=") == ("teacher.weights", None)


def test_a_flat_tree_has_the_values_by_their_paths():
    tree = {"a": {"b": {"c": 1}, "d": [{"e": 2}]}, "f": None, "g": {}}
    assert flatten(tree) == {"a.b.c": 1, "a.d": [{"e": 2}], "f": None}
    assert flatten({"b": 1}, "a.") == {"a.b": 1}
    assert with_sections(flatten(tree)) == ["a", "a.b", "a.b.c", "a.d", "f"]


def test_settings_reach_a_parameter_whose_name_has_dots():
    sweep = load("scales", settings=["parameters.method.scales.choices=[[1], [4]]", "search.num_samples=3"])
    assert sweep.space.parameters["method.scales"].choices == [[1], [4]]
    assert sweep.space.search.num_samples == 3


# --- finding files


def test_a_space_is_found_by_path_then_by_name(tmp_path, monkeypatch):
    shipped = find("scales", Path("search_spaces"))
    assert shipped.name == "scales.yaml"
    monkeypatch.chdir(tmp_path)
    assert load("scales").name == "scales"  # beside the package, from anywhere
    Path("scales.yaml").write_text("base: digits\ndesign: grid\nparameters: {method.scales: {choices: [[1], [2]]}}\n")
    assert load("scales").space.design == "grid"
    assert load("scales", name="mine").name == "mine"
    assert load("scales", base="cifar100_resnet56_resnet20").name == "scales-cifar100_resnet56_resnet20"


def test_a_base_is_found_beside_its_space(tmp_path):
    (tmp_path / "mine.yaml").write_text(find("digits", Path("search_spaces/bases")).read_text())
    space = written(tmp_path, "base: mine\ndesign: grid\nparameters: {method.scales: {choices: [[1], [2]]}}\n")
    assert load(space).base == BASE


def test_a_teachers_file_is_looked_for_when_its_base_is_read(tmp_path):
    with pytest.raises(InputError, match=r"--set teacher\.weights: no such file"):
        load_base("digits", ["teacher.weights=nowhere.pt"])
    (tmp_path / "here.pt").write_bytes(b"weights")
    assert load_base("digits", [f"teacher.weights={tmp_path}/here.pt"]).teacher.weights


# --- designs


def test_a_grid_has_every_combination_on_every_seed():
    sweep = make("grid", parameters=grid_of(scales=[[1], [2]], stride=["window", "half"]), seeds=[3, 5])
    planned = sweep.fixed_trials
    assert len(planned) == 8
    assert [trial.trial.seed for trial in planned] == [3] * 4 + [5] * 4  # what shares a stream stands together
    assert {trial.label for trial in planned} == {
        f"scales={scales}, stride={stride}" for scales in ("[1]", "[2]") for stride in ("window", "half")
    }
    assert {trial.phase for trial in planned} == {"design"}


def test_one_at_a_time_varies_one_and_counts_the_base_once():
    sweep = make("one_at_a_time", parameters=grid_of(scales=[[1], [1, 2, 4]], stride=["window", "half"]))
    assert [planned.label for planned in sweep.fixed_trials] == ["base", "scales=[1]", "stride=half"]


def test_leave_one_out_leaves_each_part_out_of_the_full_configuration():
    sweep = make(
        "leave_one_out",
        full={"method.regions": "weighted"},
        without={"regions": {"method.regions": "all"}, "scales": {"method.scales": [1]}},
        also={"KD": {"method": {"name": "kd"}}},
    )
    cells = {planned.label: planned.trial.method for planned in sweep.fixed_trials}
    assert list(cells) == ["full", "without regions", "without scales", "KD"]
    assert cells["without scales"].regions == "weighted"
    assert cells["without regions"].scales == (1, 2, 4)
    assert cells["KD"].name == "kd"


def test_a_search_holds_out_and_its_confirmation_does_not():
    sweep = make("search", parameters=grid_of(scales=[[1], [2]]), search={"val_fraction": 0.2, "seed": 9})
    found = sweep.search_trial({"method.scales": [2]}).trial
    assert (found.data.val_fraction, found.seed, found.method.scales) == (0.2, 9, (2,))
    confirmed = sweep.confirm_trials([found, sweep.search_trial({"method.scales": [1]}).trial])
    assert [planned.trial.seed for planned in confirmed] == [1, 1, 2, 2, 3, 3]
    assert {planned.trial.data.val_fraction for planned in confirmed} == {0.0}
    assert {planned.label for planned in confirmed} == {"winner 1", "winner 2"}
    assert {planned.label for planned in sweep.fixed_trials} == {"none", "kd"}


def test_labelled_choices_change_several_settings():
    choices = {"small": {"method.scales": [1], "recipe.lr": 0.2}, "large": {"method.scales": [1, 2]}}
    sweep = make("grid", parameters={"size": {"choices": choices}})
    small, large = (planned.trial for planned in sweep.fixed_trials)
    assert (small.method.scales, small.recipe.lr) == ((1,), 0.2)
    assert large.recipe.lr == BASE.recipe.lr


def test_every_pair_of_levels_is_checked_however_many_combinations_there_are():
    parameters = {
        f"method.{name}": {"low": 0.1, "high": 2.0}
        for name in (
            "sample_weight",
            "feature_weight",
            "ce_weight",
            "kd_weight",
            "temperature",
            "sample_temperature",
            "feature_temperature",
            "disagree_weight",
        )
    }
    parameters |= grid_of(
        regions=["all", "agree", "weighted"],
        projector=["linear", "heads"],
        tap=["last", "stages"],
        stride=["window", "half"],
    )
    sweep = make("search", parameters=parameters)
    with pytest.raises(InputError, match="'heads' reads the last feature map only"):
        list(sweep.search_corners())
    del parameters["method.tap"]
    corners = [planned.trial for planned in make("search", parameters=parameters).search_corners()]
    assert len(corners) == 2000
    pairs = {(trial.method.regions, trial.method.projector) for trial in corners}
    assert len(pairs) == 6
    weights = {(trial.method.sample_weight, trial.method.disagree_weight) for trial in corners}
    assert weights == {(0.1, 0.1), (0.1, 2.0), (2.0, 0.1), (2.0, 2.0)}


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
