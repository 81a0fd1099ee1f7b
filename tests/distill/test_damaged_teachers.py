"""A teacher's file that is damaged, foreign or hostile is recognised, and nothing in it is run."""

import os
import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import safetensors.torch
import torch

from msd_sweeps.distill import models, teacher
from msd_sweeps.distill.teacher import TeacherError
from msd_sweeps.space.errors import InputError
from msd_sweeps.space.load import load_base
from msd_sweeps.sweep.prepare import prepare_teacher


class Hostile:
    """Runs a command when it is unpickled."""

    def __init__(self, made: Path):
        self.made = made

    def __reduce__(self):
        return os.system, (f"touch {self.made}",)


def trial(weights: Path | None = None):
    return load_base("digits", [f"teacher.weights={weights}"] if weights else [])


def whole(path: Path, model: str | None = None, classes: int | None = None) -> Path:
    base = trial()
    network = models.build(model or base.teacher.model, classes or base.data.facts.num_classes)
    torch.save(network.state_dict(), path)
    return path


def prepared(weights: Path, cache: Path) -> teacher.Teacher:
    return teacher.prepare(trial(weights), cache, torch.device("cpu"))


def test_a_pickle_that_runs_commands_runs_none(tmp_path):
    made = tmp_path / "made"
    path = tmp_path / "teacher.pt"
    path.write_bytes(pickle.dumps({"conv1.weight": Hostile(made)}))
    assert pickle.loads(path.read_bytes())  # noqa: S301  it would: the file is as hostile as it looks
    assert made.exists()
    made.unlink()
    with pytest.raises(TeacherError, match=r"teacher\.pt: cannot be read as weights, and nothing else in it"):
        prepared(path, tmp_path / "cache")
    torch.save({"conv1.weight": Hostile(made)}, path)
    with pytest.raises(TeacherError, match="cannot be read as weights"):
        prepared(path, tmp_path / "cache")
    assert not made.exists()
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


@pytest.mark.parametrize("damage", ["truncated", "empty", "text"])
def test_a_damaged_file_is_no_teacher(damage, tmp_path):
    path = whole(tmp_path / "teacher.pt")
    content = path.read_bytes()
    path.write_bytes({"truncated": content[: len(content) // 2], "empty": b"", "text": b"weights"}[damage])
    with pytest.raises(TeacherError, match=r"teacher\.pt: cannot be read as weights"):
        prepared(path, tmp_path / "cache")


def test_another_networks_weights_are_told_by_name(tmp_path):
    path = whole(tmp_path / "teacher.pt", "vgg8")
    with pytest.raises(TeacherError, match=r"not the weights of a .*: '.*' is missing"):
        prepared(path, tmp_path / "cache")


def test_a_teacher_of_other_classes_is_told_by_shape(tmp_path):
    path = whole(tmp_path / "teacher.pt", classes=100)
    with pytest.raises(TeacherError, match=r"'.*' is \[100, 64\], expected \[10, 64\]"):
        prepared(path, tmp_path / "cache")


def test_a_teacher_with_more_than_the_network_has_is_told(tmp_path):
    path = whole(tmp_path / "teacher.pt")
    torch.save(torch.load(path, weights_only=True) | {"extra.weight": torch.zeros(1)}, path)
    with pytest.raises(TeacherError, match=r"'extra\.weight' has no place in it"):
        prepared(path, tmp_path / "cache")


@pytest.mark.parametrize("damage", ["flipped", "truncated", "another's"])
def test_a_cached_teacher_that_was_altered_is_not_used(damage, tmp_path):
    made = prepared(whole(tmp_path / "teacher.pt"), tmp_path / "cache")
    content = bytearray(made.weights.read_bytes())
    if damage == "flipped":
        content[-1] ^= 1
    elif damage == "truncated":
        del content[-4:]
    else:
        tensors = safetensors.torch.load_file(made.weights)
        content = bytearray(safetensors.torch.save({name: -tensor for name, tensor in tensors.items()}))
    made.weights.write_bytes(content)
    with pytest.raises(TeacherError, match=r"damaged \(its checksum does not match\); delete .* to remake it"):
        prepared(tmp_path / "teacher.pt", tmp_path / "cache")


def test_a_folder_in_place_of_a_cached_teacher_is_told(tmp_path):
    weights = prepare_teacher(trial(whole(tmp_path / "teacher.pt")), tmp_path, print).weights
    weights.unlink()
    weights.mkdir()
    with pytest.raises(InputError, match=r"weights\.safetensors: Is a directory; the teacher .*; mend that, or delete"):
        prepare_teacher(trial(tmp_path / "teacher.pt"), tmp_path, print)


@pytest.mark.parametrize("card", [b"", b'{"key": "x', b"[1]", b'{"key": 3}', b"\xff\xfe"])
def test_a_torn_card_is_remade(card, tmp_path):
    made = prepared(whole(tmp_path / "teacher.pt"), tmp_path / "cache")
    (made.weights.parent / "teacher.json").write_bytes(card)
    assert prepared(tmp_path / "teacher.pt", tmp_path / "cache") == made


def test_one_of_two_makers_waits_for_the_other(tmp_path, monkeypatch):
    """flock is per opened file, so two threads stand for two processes."""
    path, made, read = whole(tmp_path / "teacher.pt"), [], teacher.read_weights

    def slow(path):
        made.append(path)
        time.sleep(0.5)
        return read(path)

    monkeypatch.setattr(teacher, "read_weights", slow)
    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(lambda _: prepared(path, tmp_path / "cache"), range(2)))
    assert len(made) == 1
    assert found[0].record() == found[1].record()
    assert sorted(file.name for file in found[0].weights.parent.iterdir()) == [
        "lock",
        "teacher.json",
        "weights.safetensors",
    ]


def test_a_teacher_is_on_the_disk_before_its_checkpoints_go(tmp_path, monkeypatch):
    path, order = whole(tmp_path / "teacher.pt"), []
    sync, remove = os.fsync, teacher.checkpoint.remove
    monkeypatch.setattr(
        os, "fsync", lambda number: (order.append(Path(os.readlink(f"/proc/self/fd/{number}")).name), sync(number))
    )
    monkeypatch.setattr(teacher.checkpoint, "remove", lambda folder: (order.append("remove"), remove(folder)))
    made = prepared(path, tmp_path / "cache")
    names = [name.partition(".")[0] for name in order]
    folder = made.weights.parent.name
    assert order.index("remove") == len(order) - 1
    assert names.index("weights") < names.index("teacher") < len(names) - 2
    assert names[-2] == folder
