"""Images in class folders, found without torch: `train/<class>/...` and `test/<class>/...` or `val/<class>/...`."""

import hashlib
import os
from pathlib import Path
from typing import NamedTuple

from msd_sweeps.catalog.files import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
"""Files with other endings, and hidden files, are passed over."""


class ImageList(NamedTuple):
    """Images of one split in a fixed order: by class, then by path."""

    paths: list[str]
    """Relative to the root, with forward slashes."""
    labels: list[int]
    """Positions among the sorted names of the training classes."""


class ClassFolders(NamedTuple):
    """What lies in the class folders of a root."""

    classes: list[str]
    train: ImageList
    test: ImageList

    def fingerprint(self, root: Path) -> str:
        """A hash of all relative paths and file sizes: cheap, and enough to notice added, lost and cut files.

        An image that is replaced by another of exactly the same size is not noticed.
        """
        digest = hashlib.sha256()
        for path in (*self.train.paths, *self.test.paths):
            digest.update(f"{path}\0{(root / path).stat().st_size}\0".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()[:16]


def split_folders(root: Path, test_names: tuple[str, ...]) -> tuple[Path, Path]:
    """The folders of the training and the test images; the first of `test_names` that is there.

    Raises DataError where one is missing.
    """
    tests = " or ".join(f"{name}/<class>/*.png" for name in test_names)
    expected = f"expected {root}/train/<class>/*.png (or .jpg and the like) and {tests} beside it"
    advice = "put the images there, or point data.root at their folder (--set data.root=FOLDER)"
    if not root.is_dir():
        found = "is a file" if root.exists() else "no such folder"
        raise DataError(f"{root}: {found}; {expected}; {advice}")
    train = root / "train"
    test = next((root / name for name in test_names if (root / name).is_dir()), None)
    if not train.is_dir() or test is None:
        names = sorted(path.name for path in root.iterdir())
        shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "") if names else "nothing"
        raise DataError(f"{root}: {expected}, found {shown}; {advice}")
    return train, test


def class_names(folder: Path) -> list[str]:
    """The sorted names of the class folders in a split's folder. Raises DataError where it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error}") from error


def find_images(root: Path, test_names: tuple[str, ...]) -> ClassFolders:
    """All images of both splits.

    Raises DataError for missing folders, fewer than two classes, a class without images, and a test class that
    is not among the training classes.
    """
    train_folder, test_folder = split_folders(root, test_names)
    classes = class_names(train_folder)
    if len(classes) < 2:
        found = f"only the class '{classes[0]}'" if classes else "no folder at all"
        raise DataError(f"{train_folder}: expected one folder for each of two or more classes, found {found}")
    test_classes = class_names(test_folder)
    unknown = sorted(set(test_classes) - set(classes))
    if unknown:
        raise DataError(
            f"{test_folder / unknown[0]}: a class that {train_folder} lacks; the classes there are "
            f"{', '.join(classes[:5])}{', ...' if len(classes) > 5 else ''}; rename the folder, or add training images"
        )
    train = _list(train_folder, classes, classes)
    empty = sorted(set(range(len(classes))) - set(train.labels))
    if empty:
        raise DataError(
            f"{train_folder / classes[empty[0]]}: no images here (files that end in {', '.join(SUFFIXES)}); "
            "add some, or remove the folder"
        )
    test = _list(test_folder, test_classes, classes)
    if not test.paths:
        raise DataError(f"{test_folder}: no images in its class folders; the test set needs some")
    return ClassFolders(classes, train, test)


def _list(folder: Path, names: list[str], classes: list[str]) -> ImageList:
    label_of = {name: label for label, name in enumerate(classes)}
    paths: list[str] = []
    labels: list[int] = []
    for name in names:
        place = folder / name
        found = _images_below(place)
        # Plain text, not Path: ImageNet has more than a million.
        start, cut = f"{folder.name}/{name}", len(str(place))
        paths += [start + path[cut:].replace(os.sep, "/") for path in found]
        labels += [label_of[name]] * len(found)
    return ImageList(paths, labels)


def _images_below(folder: Path) -> list[str]:
    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename}: cannot be read: {error}") from error

    found = []
    for parent, _, names in os.walk(folder, onerror=refuse):
        images = (name for name in names if name.lower().endswith(SUFFIXES) and not name.startswith("."))
        found += [os.path.join(parent, name) for name in images]
    return sorted(found)
