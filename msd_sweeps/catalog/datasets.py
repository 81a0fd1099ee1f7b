"""Facts of the data sets, without torch; `distill/data` loads them."""

from pathlib import Path

from msd_sweeps.catalog import image_folders, tensor_files
from msd_sweeps.catalog.files import DataError, Dataset

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

_IMAGENET = Dataset(num_classes=1000, image_size=224, train_images=1_281_167, test_images=50_000)

_LARGEST_RESIDENT_BYTES = 16 * 2**30


def examine(name: str, root: Path, image_size: int | None) -> tuple[Dataset, str]:
    """The sizes of a data set that the user brings, and a fingerprint of its content.

    Class folders: from the names and sizes of the files. Tensor files: from headers, labels and a checksum.
    Raises DataError.
    """
    if name in TEST_FOLDERS:
        found = image_folders.find_images(root, TEST_FOLDERS[name])
        facts = Dataset(len(found.classes), image_size or 224, len(found.train.paths), len(found.test.paths))
        if name == "imagenet":
            return facts, IMAGENET if facts._replace(image_size=224) == _IMAGENET else found.fingerprint(root)
        mark = found.fingerprint(root)
    else:
        facts = tensor_files.measure(root, image_size)
        mark = tensor_files.fingerprint(root)
    size = (facts.train_images + facts.test_images) * 3 * facts.image_size**2
    if size > _LARGEST_RESIDENT_BYTES:
        raise DataError(
            f"{root}: {facts.train_images + facts.test_images:,} images of {facts.image_size} px take "
            f"{size / 2**30:.0f} GiB in memory, where {name} keeps them; use a smaller image_size, or class folders "
            "with name: imagenet, which reads images as it goes"
        )
    return facts, mark
