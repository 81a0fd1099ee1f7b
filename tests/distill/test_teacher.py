"""A teacher is trained once: it goes on after an interruption, is found again, and is not kept where it failed."""

import json

import pytest
import torch

from msd_sweeps.distill import teacher
from msd_sweeps.distill.teacher import TeacherError
from msd_sweeps.records.trial_record import EpochResult
from msd_sweeps.space.trial import Trial
from tests.distill.conftest import CPU, make_trial


def trial_with_teacher(**recipe: object) -> Trial:
    full = {"epochs": 2, "batch_size": 256, "lr": 0.05, "schedule": "cosine", "precision": "float32"} | recipe
    return make_trial(teacher={"model": "resnet8", "recipe": full})


def test_training_goes_on_where_it_was_interrupted(tmp_path):
    trial = trial_with_teacher()
    whole = teacher.prepare(trial, tmp_path / "whole", CPU)
    seen: list[int] = []

    def interrupt(result: EpochResult) -> None:
        seen.append(result.epoch)
        if len(seen) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        teacher.prepare(trial, tmp_path / "broken", CPU, interrupt)
    resumed = teacher.prepare(trial, tmp_path / "broken", CPU, interrupt)
    assert seen == [1, 2]
    assert resumed.weights_sha256 == whole.weights_sha256
    assert resumed.test_top1 == whole.test_top1
    folder = tmp_path / "broken" / teacher.cache_key(trial)
    assert sorted(path.name for path in folder.iterdir()) == ["lock", "teacher.json", "weights.safetensors"]
    assert json.loads((folder / "teacher.json").read_text())["weights_sha256"] == whole.weights_sha256


def test_a_teacher_in_the_cache_is_not_trained_again(tmp_path):
    trial = trial_with_teacher(epochs=1)
    made = teacher.prepare(trial, tmp_path, CPU)

    def refuse(result: EpochResult) -> None:
        raise AssertionError("it is trained again")

    assert teacher.prepare(trial, tmp_path, CPU, refuse) == made
    network = teacher.load(trial, made.weights)
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_training_that_fails_leaves_nothing_to_go_on_from(tmp_path):
    trial = trial_with_teacher(lr=1e30)
    for _ in range(2):
        with pytest.raises(TeacherError, match="training the teacher resnet8 failed: the training loss of epoch 1 is"):
            teacher.prepare(trial, tmp_path, CPU)
        assert not list(tmp_path.rglob("*.pt"))


def test_an_imported_teacher_has_the_numbers_of_its_file(tmp_path):
    made = teacher.prepare(trial_with_teacher(epochs=1), tmp_path, CPU)
    imported = teacher.prepare(
        make_trial(teacher={"model": "resnet8", "weights": str(made.weights)}), tmp_path / "other", CPU
    )
    assert imported.source == "imported"
    assert imported.seconds == 0
    assert imported.test_top1 == made.test_top1
    first, second = (teacher.read_weights(one.weights) for one in (made, imported))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
