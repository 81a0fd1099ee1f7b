"""Facts of the data sets, without torch: `distill/data` loads them; the error for unusable files; a file's checksum."""

import hashlib
from pathlib import Path
from typing import NamedTuple


class Dataset(NamedTuple):
    """Sizes of one data set; images are [3, image_size, image_size]."""

    num_classes: int
    image_size: int
    train_images: int
    test_images: int


class DataError(ValueError):
    """The files of a data set are absent, damaged or of another shape; the message names them and the remedy."""


DATASETS = {
    "digits": Dataset(num_classes=10, image_size=16, train_images=1397, test_images=400),
    "cifar10": Dataset(num_classes=10, image_size=32, train_images=50_000, test_images=10_000),
    "cifar100": Dataset(num_classes=100, image_size=32, train_images=50_000, test_images=10_000),
}
"""Data sets whose bytes are known, wherever they lie."""

TEST_FOLDERS = {"folder": ("test", "val"), "imagenet": ("val", "test")}
"""Where the test images of class folders lie: the first of these that is there. ImageNet's `test` has no labels."""

IMAGENET = "ILSVRC2012"
"""Stands for the fingerprint of the whole ImageNet, whose million files are counted, but not measured."""

_HASHES: dict[tuple[str, int, int, int, int], str] = {}


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, remembered while its size, times and inode stay; "absent" where there is none."""
    try:
        status = path.stat()
    except OSError:
        return "absent"
    key = (str(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
    if key not in _HASHES:
        with path.open("rb") as file:
            _HASHES[key] = hashlib.file_digest(file, "sha256").hexdigest()
    return _HASHES[key]
