"""Data sets: loaded once, split by a fixed seed; small ones as uint8 tensors that live on the device."""

import hashlib
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from msd_sweeps.catalog import image_folders, tensor_files
from msd_sweeps.catalog.datasets import IMAGENET, TEST_FOLDERS, DataError
from msd_sweeps.distill.data import own
from msd_sweeps.distill.data.images import decode, rgb_squares, squares
from msd_sweeps.distill.data.splits import ImageFiles, Images, Split, Splits
from msd_sweeps.distill.models.imagenet import torchvision
from msd_sweeps.space.data import Data


def _digits(data: Data) -> tuple[Images, Images]:
    """scikit-learn's 8x8 digits, 16 grey levels, upsampled to 16x16 in three equal channels."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    grey = torch.from_numpy(digits.images.astype(np.float32)) * (255 / 16)
    large = torch.nn.functional.interpolate(grey[:, None], size=(16, 16), mode="bilinear", align_corners=False)
    images = large.round().clamp(0, 255).to(torch.uint8).expand(-1, 3, -1, -1).contiguous()
    labels = torch.from_numpy(digits.target.astype(np.int64))
    order = stratified_order(labels, seed=0)
    test, train = order.split([data.facts.test_images, data.facts.train_images])
    everything = Images(images, labels, data.image_size)
    return everything.select(train), everything.select(test)


def _cifar(data: Data) -> tuple[Images, Images]:
    dataset_class = getattr(torchvision().datasets, data.name.upper())

    def part(is_train: bool) -> Images:
        try:
            found = dataset_class(root=str(data.path), train=is_train, download=True)  # where it is not complete
        except Exception as error:  # the network's many errors, and a damaged archive's
            raise DataError(
                f"{data.path}: no complete {data.name.upper()} here ({dataset_class.base_folder}/), and it cannot be "
                f"downloaded: {error}. Put the official files there, or point data.root at them "
                "(--set data.root=FOLDER)"
            ) from error
        images = torch.from_numpy(found.data).permute(0, 3, 1, 2).contiguous()
        return Images(images, torch.tensor(found.targets), data.image_size)

    return part(True), part(False)


def _imagenet(data: Data) -> tuple[ImageFiles, ImageFiles]:
    """Class folders whose images are decoded whenever they are read."""
    root, side, threads = data.path, data.facts.image_size, data.loader_workers
    found = image_folders.find_images(root, TEST_FOLDERS[data.name])
    if data.content is not None and data.content.fingerprint != IMAGENET:  # the whole of it is counted by `load`
        _check_unchanged(data, found.fingerprint(root))

    def files(part: image_folders.ImageList) -> ImageFiles:
        return ImageFiles(root, tuple(part.paths), torch.tensor(part.labels), side, threads)

    return files(found.train), files(found.test)


def _folder(data: Data) -> tuple[Images, Images]:
    """Class folders, decoded: the shorter side scaled to `image_size`, a square cut from the centre."""

    def resident(files: ImageFiles) -> Images:
        return Images(squares(lambda path: decode(files.root / path), files.paths, files.side), files.labels)

    train, test = _imagenet(data)
    return resident(train), resident(test)


def _tensors(data: Data) -> tuple[Images, Images]:
    root, side = data.path, data.facts.image_size
    _check_unchanged(data, tensor_files.fingerprint(root))

    def part(split: str) -> Images:
        images, labels = tensor_files.read(root, split)
        if isinstance(images, list):
            named = [(image, f"{root}: {split} image {number}") for number, image in enumerate(images)]
            pixels = squares(lambda encoded: decode(*encoded), named, side)
        else:
            pixels = rgb_squares(images, side)
        return Images(pixels, torch.from_numpy(labels))

    return part("train"), part("test")


def _check_unchanged(data: Data, found: str) -> None:
    """Raises DataError where the files are not those that the trial was planned on."""
    if data.content is not None and data.content.fingerprint != found:
        raise DataError(
            f"{data.root}: the files have changed since this was planned (fingerprint {found}, expected "
            f"{data.content.fingerprint}); put them back, or start a sweep of another --name on them"
        )


LOADERS: dict[str, Callable[[Data], tuple[Split, Split]]] = {
    "digits": _digits,
    "cifar10": _cifar,
    "cifar100": _cifar,
    "imagenet": _imagenet,
    "folder": _folder,
    "tensors": _tensors,
}
"""Functions that give the whole training and test sets."""

STATISTICS = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
"""Mean and standard deviation as the published recipes use them; other data sets are measured."""


def load(data: Data) -> Splits:
    """The splits that `data` describes, on the CPU.

    One order of the training set, fixed by `split_seed` and balanced over the classes at every length, decides all: its
    first `train_samples` are used, of which the last are held out. Raises DataError.
    """
    train, test = LOADERS.get(data.name, own.images)(data)
    facts = data.facts
    if (len(train), len(test)) != (facts.train_images, facts.test_images):
        raise DataError(
            f"{data.root}: {data.name} has {len(train)} training and {len(test)} test images here; "
            f"expected {facts.train_images} and {facts.test_images}"
        )
    mean: tuple[float, ...]
    std: tuple[float, ...]
    if data.normalize is not None:
        mean, std = data.normalize.mean, data.normalize.std
    else:
        mean, std = STATISTICS[data.name] if data.name in STATISTICS else _measured(train)
    order = stratified_order(train.labels, data.split_seed)[: data.used_images]
    num_val = round(len(order) * data.val_fraction)
    kept, held_out = order[: len(order) - num_val], order[len(order) - num_val :]
    val = train.select(held_out.sort().values) if num_val else None
    return Splits(train.select(kept.sort().values), val, test, mean, std)


def _measured(train: Split) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel on the scale 0 to 1, exactly, from counts of the 256 levels."""
    counts = torch.zeros(3, 256, dtype=torch.float64)
    for images, _ in train.plain(4096):
        for channel in range(3):
            counts[channel] += torch.bincount(images[:, channel].flatten(), minlength=256)
    levels, total = torch.arange(256, dtype=torch.float64) / 255, counts.sum(1)
    mean = (counts * levels).sum(1) / total
    variance = (counts * (levels - mean[:, None]).square()).sum(1) / (total - 1)
    std = torch.where(variance > 0, variance.sqrt(), 1.0)  # one grey level throughout: nothing to scale by
    return tuple(mean.tolist()), tuple(std.tolist())


def stratified_order(labels: Tensor, seed: int) -> Tensor:
    """A random order [N] of the images in which every class is spread evenly, by a fixed seed."""
    generator = torch.Generator().manual_seed(seed)
    shuffled = torch.randperm(len(labels), generator=generator)
    position = torch.empty(len(labels), dtype=torch.float64)
    for label in labels.unique():
        members = shuffled[labels[shuffled] == label]
        offset = torch.rand((), generator=generator, dtype=torch.float64)
        position[members] = (torch.arange(len(members), dtype=torch.float64) + offset) / len(members)
    return position.argsort(stable=True)


def content_hash(splits: Splits) -> str:
    """SHA-256 of the images and labels of all splits, to tell whether two machines see the same data.

    Of files that are not resident, paths and contents: a machine reads a million images once, and then knows them.
    """
    digest = hashlib.sha256()
    for split in (splits.train, *([splits.val] if splits.val else []), splits.test):
        if isinstance(split, Images):
            digest.update(split.images.cpu().numpy().tobytes())
        else:
            digest.update(image_folders.hash_of_images(split.root, split.paths).encode())
        digest.update(split.labels.cpu().numpy().tobytes())
    return digest.hexdigest()
