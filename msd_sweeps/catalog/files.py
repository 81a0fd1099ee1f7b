"""Data sets that the user brings: their sizes, the checksum of a file, and the error for unusable files."""

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


_HASHES: dict[tuple[str, int, int], str] = {}


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, remembered while its size and time stamp stay; "absent" where there is none."""
    try:
        status = path.stat()
    except OSError:
        return "absent"
    key = (str(path), status.st_size, status.st_mtime_ns)
    if key not in _HASHES:
        with path.open("rb") as file:
            _HASHES[key] = hashlib.file_digest(file, "sha256").hexdigest()
    return _HASHES[key]
