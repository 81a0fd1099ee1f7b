"""Class folders: their images in a fixed order, with a fingerprint that stays the same."""

import os

import pytest

from msd_sweeps.catalog.datasets import DataError
from msd_sweeps.catalog.image_folders import find_images


@pytest.fixture
def root(tmp_path):
    """Two classes; the images of `b` lie in a folder below it, and `a` has hidden and other files."""
    for path in ("train/b/x/2.png", "train/b/10.JPG", "train/a/1.png", "train/a/.2.png", "train/a/notes.txt"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"x" * len(path))
    (tmp_path / "val" / "b").mkdir(parents=True)
    (tmp_path / "val" / "b" / "1.png").write_bytes(b"x")
    return tmp_path


def test_images_come_by_class_and_path(root, monkeypatch):
    found = find_images(root, ("test", "val"))
    assert found.classes == ["a", "b"]
    assert found.train == (["train/a/1.png", "train/b/10.JPG", "train/b/x/2.png"], [0, 1, 1])
    assert found.test == (["val/b/1.png"], [1])
    monkeypatch.chdir(root)
    assert find_images(root.relative_to(root), ("test", "val")) == found


def test_a_fingerprint_is_what_it_was(root):
    """Trials are kept under names that contain it."""
    assert find_images(root, ("test", "val")).fingerprint(root) == "71145d9c3e2d5f0e"


def test_the_first_test_folder_that_exists_is_read(root):
    assert find_images(root, ("val", "test")).test.paths == ["val/b/1.png"]
    os.rename(root / "val", root / "elsewhere")
    with pytest.raises(DataError, match="found elsewhere, train; put the images there"):
        find_images(root, ("val", "test"))
