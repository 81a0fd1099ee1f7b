"""What names a trial: everything that decides its numbers, and nothing else."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msd_sweeps.space.load import load_base
from msd_sweeps.space.trial import Trial, changed, identity

BASE = load_base("digits")
DECIDING = {
    "data.train_samples": 300,
    "data.val_fraction": 0.1,
    "data.split_seed": 1,
    "teacher.model": "resnet14",
    "teacher.recipe.epochs": 9,
    "teacher.recipe.lr": 0.2,
    "teacher.seed": 1,
    "student.model": "resnet14",
    "method": {"name": "kd"},
    "method.scales": [1],
    "method.stride": "half",
    "method.regions": "agree",
    "method.sample_weight": 1.5,
    "method.sample_temperature": 0.2,
    "method.feature_weight": 0.0,
    "method.feature_temperature": 0.2,
    "method.ce_weight": 0.9,
    "method.kd_weight": 0.1,
    "method.temperature": 3.0,
    "method.negatives": "other_classes",
    "method.projector": "linear",
    "method.scale_weights": [1.0, 1.0, 2.0],
    "method.tap": "stages",
    "method.disagree_weight": 0.5,
    "recipe.epochs": 13,
    "recipe.batch_size": 16,
    "recipe.lr": 0.11,
    "recipe.momentum": 0.8,
    "recipe.nesterov": True,
    "recipe.weight_decay": 0.0,
    "recipe.schedule": "cosine",
    "recipe.milestones": [1],
    "recipe.gamma": 0.2,
    "recipe.warmup_epochs": 1.0,
    "recipe.crop_padding": 3,
    "recipe.flip": True,
    "recipe.precision": "bfloat16",
}
"""A change of every field that decides numbers."""


def shuffled(tree, order):
    """The same tree with its keys in another order."""
    if isinstance(tree, dict):
        return {key: shuffled(tree[key], order) for key in order.sample(sorted(tree), len(tree))}
    return tree


@settings(max_examples=30, deadline=None)
@given(st.randoms(use_true_random=False))
def test_the_order_of_keys_does_not_matter(order):
    tree = shuffled(BASE.model_dump(mode="json"), order)
    again = Trial.model_validate_json(json.dumps(tree))
    assert (again.id, again.cell, again.stream_key) == (BASE.id, BASE.cell, BASE.stream_key)


@pytest.mark.parametrize("path", DECIDING)
def test_every_field_that_decides_numbers_changes_id_and_cell(path):
    trial = changed(BASE, {path: DECIDING[path]})
    assert trial.id != BASE.id
    assert trial.cell != BASE.cell


def test_all_changes_have_different_ids():
    trials = [changed(BASE, {path: value}) for path, value in DECIDING.items()]
    assert len({trial.id for trial in trials}) == len(trials)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31 - 1), data_seed=st.none() | st.integers(0, 2**31 - 1))
def test_seeds_change_the_trial_and_not_its_cell(seed, data_seed):
    trial = changed(BASE, {"seed": seed, "data_seed": data_seed})
    assert trial.cell == BASE.cell
    assert (trial.id == BASE.id) == (seed == BASE.seed and data_seed is None)
    assert trial.stream_seed == (seed if data_seed is None else data_seed)


@pytest.mark.parametrize("changes", [{"data.root": "elsewhere"}, {"data.loader_workers": 9}], ids=str)
def test_where_files_lie_and_how_they_are_read_names_nothing(changes):
    trial = changed(BASE, changes)
    assert (trial.id, trial.cell, trial.stream_key) == (BASE.id, BASE.cell, BASE.stream_key)


def test_an_imported_teacher_is_named_by_its_bytes(tmp_path):
    one, other, third = (tmp_path / name for name in ("one.pt", "other.pt", "third.pt"))
    for path, content in ((one, b"same"), (other, b"same"), (third, b"different")):
        path.write_bytes(content)
    ids = [changed(BASE, {"teacher.weights": str(path)}).id for path in (one, other, third)]
    assert ids[0] == ids[1] != ids[2]
    assert BASE.id not in ids


def test_students_that_see_the_same_images_share_a_stream():
    for path in ("method.scales", "recipe.epochs", "recipe.lr", "student.model"):
        assert changed(BASE, {path: DECIDING[path]}).stream_key == BASE.stream_key
    for path in ("recipe.batch_size", "recipe.crop_padding", "recipe.precision", "data.split_seed", "teacher.seed"):
        assert changed(BASE, {path: DECIDING[path]}).stream_key != BASE.stream_key
    assert changed(BASE, {"seed": 1}).stream_key != BASE.stream_key
    assert changed(BASE, {"seed": 1, "data_seed": 0}).stream_key == BASE.stream_key


def test_an_id_is_what_it_was():
    """Results are kept under these names: a change of them trains everything again."""
    assert identity({"b": 1, "a": [1.5, None, "x"]}) == "52686768c744"
    assert (BASE.id, BASE.cell, BASE.stream_key) == ("744b23edc543", "8e53ed2c1bfd", "de2cd83d5901")
    precision = ["recipe.precision=float32", "teacher.recipe.precision=float32"]
    cifar = load_base("cifar100_resnet56_resnet20", precision)
    assert (cifar.id, cifar.cell, cifar.stream_key) == ("02b71c05f6a2", "aab5a6a7333f", "e8e55ba3b448")


def test_steps_are_whole_batches_of_the_part_that_is_trained_on():
    assert BASE.steps_per_epoch == 256 // 32
    assert changed(BASE, {"data.train_samples": None}).steps_per_epoch == 1397 // 32
    held_out = changed(BASE, {"data.train_samples": None, "data.val_fraction": 0.5})
    assert held_out.steps_per_epoch == (1397 - round(1397 * 0.5)) // 32
    few = changed(BASE, {"data.val_fraction": 0.25})
    assert (few.train_images, few.val_images, few.steps_per_epoch) == (192, 64, 6)


def test_the_ids_of_replicates_are_their_own():
    trial = load_base("digits")
    seeds = [0, 3, trial.seed, 2**31 - 1]
    assert trial.ids_of(seeds) == [trial.model_copy(update={"seed": seed}).id for seed in seeds]
