"""A checkpoint is whole or recognised as torn."""

import errno
import os
from pathlib import Path

import pytest
import torch

from msd_sweeps.distill import checkpoint
from msd_sweeps.records.object_store import StoreError, StorePath
from tests.stores import flaky_store

STATE = {"epoch": 3, "weights": {"a": torch.arange(6.0).reshape(2, 3)}, "history": [{"epoch": 1}]}


@pytest.fixture(params=["disk", "store"])
def folder(request, tmp_path):
    """A trial's folder on a disk, and one in an object store."""
    return tmp_path / "trial" if request.param == "disk" else StorePath(f"file://{tmp_path}") / "trial"


def test_what_was_saved_is_loaded(folder):
    path = checkpoint.save(folder, 3, STATE)
    state = checkpoint.load(path)
    assert torch.equal(state["weights"]["a"], STATE["weights"]["a"])
    assert (state["epoch"], state["history"]) == (3, [{"epoch": 1}])


def test_the_newest_are_kept_and_found_by_their_epochs(folder):
    """Three of them; six in a store, where the copy of the ledger is some seconds old."""
    kept = 3 if isinstance(folder, Path) else 6
    for epoch in range(1, 9):
        checkpoint.save(folder, epoch, STATE)
    found = [checkpoint.newest(folder, most) for most in (None, 8, 9 - kept, 8 - kept)]
    names = [f"epoch-00000{epoch}.pt" for epoch in (8, 8, 9 - kept)]
    assert [path and path.name for path in found] == [*names, None]


@pytest.mark.parametrize("damage", ["truncate", "flip", "foreign", "empty"])
def test_a_damaged_file_is_recognised_and_the_one_before_is_used(folder, damage):
    checkpoint.save(folder, 1, STATE)
    path = checkpoint.save(folder, 2, STATE)
    raw = bytearray(path.read_bytes())
    if damage == "flip":
        raw[len(raw) // 2] ^= 1
    content = {"truncate": raw[:-7], "flip": raw, "foreign": b"not a checkpoint", "empty": b""}[damage]
    path.write_bytes(content)
    with pytest.raises(checkpoint.CheckpointError, match=path.name):
        checkpoint.load(path)
    assert checkpoint.newest(folder).name == "epoch-000001.pt"
    assert sorted(path.name for path in folder.glob("*.damaged")) == [path.name.replace(".pt", ".damaged")]


def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, 1, STATE)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(checkpoint.CheckpointError, match=r"bytes could not be written.*No space left"):
        checkpoint.save(tmp_path, 2, STATE)
    monkeypatch.undo()
    assert checkpoint.newest(tmp_path).name == "epoch-000001.pt"
    assert [path.name for path in tmp_path.iterdir()] == ["epoch-000001.pt"]


def test_remove_leaves_nothing(folder, tmp_path):
    checkpoint.save(folder, 1, STATE)
    checkpoint.remove(folder)
    assert not (tmp_path / "trial").exists()
    checkpoint.remove(folder)


def test_remove_leaves_what_is_no_checkpoint(folder):
    checkpoint.save(folder, 1, STATE)
    (folder / "teacher.json").write_bytes(b"{}")
    checkpoint.remove(folder)
    assert [path.name for path in folder.glob("*")] == ["teacher.json"]


def test_a_store_that_does_not_answer_damages_nothing(tmp_path, monkeypatch):
    folder, wire = flaky_store(tmp_path, monkeypatch)
    checkpoint.save(folder, 1, STATE)
    wire.is_down = True
    with pytest.raises(checkpoint.CheckpointError, match=r"cannot be written: the wire is cut \([0-9,]+ bytes\)"):
        checkpoint.save(folder, 2, STATE)
    with pytest.raises(StoreError, match="cannot be listed"):
        checkpoint.newest(folder)
    wire.is_down = False
    assert checkpoint.newest(folder).name == "epoch-000001.pt"


def test_a_checkpoint_whose_writer_died_is_passed_over(tmp_path, monkeypatch):
    folder, wire = flaky_store(tmp_path, monkeypatch)
    checkpoint.save(folder, 1, STATE)
    wire.tears = True
    with pytest.raises(checkpoint.CheckpointError):
        checkpoint.save(folder, 2, STATE)
    assert checkpoint.newest(folder).name == "epoch-000001.pt"
