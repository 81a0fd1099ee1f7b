"""Data sets of one's own: what a function gives becomes images that are resident like all others."""

import hashlib
import json
from typing import Any

import numpy as np
import torch
from PIL import Image

from msd_sweeps.catalog.datasets import DataError
from msd_sweeps.catalog.tensor_files import image_layout
from msd_sweeps.distill.data.images import rgb_squares
from msd_sweeps.distill.data.splits import Images
from msd_sweeps.space.data import Content, Data, OwnData

_EXPECTED = "expected a pair of images (uint8: [N, 3, H, W], [N, H, W, 3] or [N, H, W]) and labels [N], or a data set"
_CACHE: dict[Any, tuple[Images, Images]] = {}


def content(data: OwnData) -> Content:
    """The sizes of a data set and a hash of its bytes. Raises DataError."""
    train, test = _loaded(data)
    digest = hashlib.sha256()
    for part in (train, test):
        digest.update(part.images.numpy().tobytes() + part.labels.numpy().tobytes())
    num_classes = 1 + int(max(part.labels.max() for part in (train, test)))
    side, sizes = train.images.shape[-1], {"train_images": len(train), "test_images": len(test)}
    return Content(fingerprint=digest.hexdigest()[:16], num_classes=num_classes, image_size=side, **sizes)


def images(data: Data) -> tuple[Images, Images]:
    """The training and the test images. Raises DataError, also where they are not those that the trial knows."""
    assert isinstance(data, OwnData)
    if data.content is not None and data.content != (found := content(data)):
        hashes = f"{found.fingerprint}, expected {data.content.fingerprint}"
        raise DataError(f"{data.name}: gives other images than when this was planned (hash {hashes}); is it random?")
    return _loaded(data)


def _loaded(data: OwnData) -> tuple[Images, Images]:
    """What the function gives, called once for the same settings."""
    key = data.function, json.dumps([data.arguments, data.image_size], default=str)
    if key not in _CACHE:
        _CACHE.clear()  # they may be large
        _CACHE[key] = _parts(data)
    return _CACHE[key]


def _parts(data: OwnData) -> tuple[Images, Images]:
    answer = data.function(**data.arguments)
    if not isinstance(answer, tuple | list) or len(answer) != 2:
        found = f"{len(answer)} parts" if isinstance(answer, tuple | list) else type(answer).__name__
        raise DataError(f"{data.name}: expected a training and a test set, found {found}")
    train, test = (
        _part(part, f"{data.name}: the {name} set", data.image_size)
        for part, name in zip(answer, ("training", "test"), strict=True)
    )
    if train.image_shape != test.image_shape:
        raise DataError(f"{data.name}: training and test images differ in size; give data.image_size")
    return train, test


def _part(part: Any, name: str, side: int | None) -> Images:
    """One set as images. Raises DataError."""
    if not isinstance(part, tuple | list) and hasattr(part, "__getitem__") and hasattr(part, "__len__"):
        pixels, labels = zip(*(part[index] for index in range(len(part))), strict=True)
        part = [np.asarray(one.convert("RGB") if isinstance(one, Image.Image) else one) for one in pixels], labels
    try:
        pixels, labels = part
        array, classes = np.asarray(pixels), torch.as_tensor(np.asarray(labels)).to(torch.int64).flatten()
    except (TypeError, ValueError) as error:
        raise DataError(f"{name}: {_EXPECTED} ({error})") from error
    layout = image_layout(array.shape)
    if array.dtype != np.uint8 or layout is None or len(array) != len(classes) or len(classes) == 0:
        raise DataError(f"{name}: {_EXPECTED}, found {array.dtype} {list(array.shape)} and {len(classes)} labels")
    if side is None and layout[0] != layout[1]:
        size = f"images of {layout[1]} x {layout[0]} px"
        raise DataError(f"{name}: {size}; give data.image_size, to which they are scaled and cut")
    return Images(rgb_squares(array, side or layout[0]), classes)
