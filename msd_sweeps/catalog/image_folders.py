"""Images in class folders, found without torch: `train/<class>/...` and `test/<class>/...` or `val/<class>/...`."""

import hashlib
import itertools
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from msd_sweeps.catalog.datasets import DataError
from msd_sweeps.catalog.file_hashes import file_hashes

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
"""Files with other endings, and hidden files, are passed over."""


class ImageList(NamedTuple):
    """Images of one split in a fixed order: by class, then by path."""

    paths: list[str]
    """Relative to the root, with forward slashes."""
    labels: list[int]
    """Positions among the sorted names of the training classes."""


class ClassFolders(NamedTuple):
    """The images in the class folders of a root."""

    classes: list[str]
    train: ImageList
    test: ImageList

    def fingerprint(self, root: Path) -> str:
        """A hash of all paths and contents."""
        return hash_of_images(root, [*self.train.paths, *self.test.paths])[:16]


def hash_of_images(root: Path, paths: Sequence[str]) -> str:
    """A hash of the paths and contents of images. paths: relative to `root`."""
    digest = hashlib.sha256()
    for path, content in zip(paths, file_hashes([root / path for path in paths]), strict=True):
        digest.update(f"{path}\0{content}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def find_images(root: Path, test_names: tuple[str, ...]) -> ClassFolders:
    """All images of both splits; tests lie in the first of `test_names` that exists. Raises DataError."""
    train_folder, test_folder = _split_folders(root, test_names)
    train, test = _images_by_class(train_folder), _images_by_class(test_folder)
    if len(train) < 2:
        found = f"only the class '{min(train)}'" if train else "no folder at all"
        raise DataError(f"{train_folder}: expected one folder for each of two or more classes, found {found}")
    for name in test:
        if name not in train:
            known = f"the classes there are {_some(list(train))}; rename the folder, or add training images"
            raise DataError(f"{test_folder / name}: a class that {train_folder} lacks; {known}")
    for name, paths in train.items():
        if not paths:
            wanted = f"files that end in {', '.join(SUFFIXES)}"
            raise DataError(f"{train_folder / name}: no images here ({wanted}); add some, or remove the folder")
    if not any(test.values()):
        raise DataError(f"{test_folder}: no images in its class folders; the test set needs some")
    return ClassFolders(list(train), _listed(train, train), _listed(test, train))


def _split_folders(root: Path, test_names: tuple[str, ...]) -> tuple[Path, Path]:
    train, test = root / "train", next((root / name for name in test_names if (root / name).is_dir()), None)
    if train.is_dir() and test:
        return train, test
    tests = " or ".join(f"{name}/<class>/*.png" for name in test_names)
    expected = f"expected {root}/train/<class>/*.png (or .jpg and the like) and {tests} beside it"
    advice = "put the images there, or point data.root at their folder (--set data.root=FOLDER)"
    if root.is_dir():
        raise DataError(f"{root}: {expected}, found {_some(sorted(path.name for path in root.iterdir()))}; {advice}")
    raise DataError(f"{root}: {'is a file' if root.exists() else 'no such folder'}; {expected}; {advice}")


def _images_by_class(folder: Path) -> dict[str, list[str]]:
    """The sorted paths of the images in each class folder of a split, relative to the root."""

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename}: cannot be read: {error}") from error

    cut = len(str(folder)) - len(folder.name)  # plain text, not Path: ImageNet has more than a million
    return {
        name: sorted(
            os.path.join(parent, file)[cut:].replace(os.sep, "/")
            for parent, _, files in os.walk(folder / name, onerror=refuse)
            for file in files
            if file.lower().endswith(SUFFIXES) and not file.startswith(".")
        )
        for name in sorted(next(os.walk(folder, onerror=refuse))[1])
        if not name.startswith(".")
    }


def _listed(images: dict[str, list[str]], classes: Iterable[str]) -> ImageList:
    labels = {name: label for label, name in enumerate(classes)}
    return ImageList([*itertools.chain(*images.values())], [labels[name] for name in images for _ in images[name]])


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + ", ..." * (len(names) > 5) or "nothing"
