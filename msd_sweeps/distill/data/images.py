"""Images in files: decoded, cropped and scaled as torchvision does it, in threads, with errors that name the file.

Pillow does the work, as in torchvision's transforms. They are not imported: that takes over a second in every process.
"""

import io
import math
import os
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from msd_sweeps.catalog.datasets import DataError

Item = TypeVar("Item")

_BATCHES_AHEAD = 2
_DECODED_TOGETHER = 64
_EIGHT_BIT_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "La", "RGBa")
_RATIO = (3 / 4, 4 / 3)


def decode(source: Path | bytes, name: str = "") -> Image.Image:
    """An image as RGB. Raises DataError with its name, or its path where `name` is empty."""
    name = name or str(source)
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            image.load()
    except Exception as error:  # Pillow raises many kinds for a damaged file
        raise DataError(
            f"{name}: cannot be read as an image ({type(error).__name__}: {error}); replace or remove it"
        ) from error
    if image.mode not in _EIGHT_BIT_MODES:
        raise DataError(f"{name}: an image of mode {image.mode}; expected 8 bits a channel; convert it")
    return image.convert("RGB")


def centre(image: Image.Image, side: int, scaled: int) -> Image.Image:
    """Scale the shorter side to `scaled` pixels and cut a square of `side` from the centre.

    As torchvision's Resize(scaled) and CenterCrop(side) on an RGB image.
    """
    width, height = image.size
    shorter = min(width, height)
    new = int(scaled * width / shorter), int(scaled * height / shorter)
    image = image.resize(new, Image.Resampling.BILINEAR)
    left, top = (round((length - side) / 2.0) for length in image.size)
    return image.crop((left, top, left + side, top + side))


def random_box(width: int, height: int, draw: random.Random) -> tuple[int, int, int, int]:
    """A box (left, top, right, bottom) of 8 to 100 % of the image's area and a side ratio of 3/4 to 4/3.

    After ten draws that do not fit, the largest centred box within the side ratios. The formulas are those of
    torchvision's RandomResizedCrop; the numbers come from `draw` instead of the global generator.
    """
    for _ in range(10):
        area = width * height * draw.uniform(0.08, 1.0)
        ratio = math.exp(draw.uniform(math.log(_RATIO[0]), math.log(_RATIO[1])))
        box_width, box_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < box_width <= width and 0 < box_height <= height:
            top = int(draw.random() * (height - box_height + 1))
            left = int(draw.random() * (width - box_width + 1))
            return left, top, left + box_width, top + box_height
    box_width, box_height = min(width, round(height * _RATIO[1])), min(height, round(width / _RATIO[0]))
    left, top = (width - box_width) // 2, (height - box_height) // 2
    return left, top, left + box_width, top + box_height


def augmented(image: Image.Image, side: int, flip: bool, draw: random.Random) -> Image.Image:
    """A random box of the image scaled to [side, side], mirrored with probability 1/2 where `flip` is set."""
    mirrored = draw.random() < 0.5
    # Cut first: scaling with a box would let pixels outside it shine in at the edges.
    image = image.crop(random_box(*image.size, draw)).resize((side, side), Image.Resampling.BILINEAR)
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip and mirrored else image


def as_tensor(image: Image.Image) -> Tensor:
    """An RGB image as uint8 [3, H, W]; a view whose channels are last in memory."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def chunked(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def squares(read: Callable[[Item], Image.Image], items: Sequence[Item], side: int) -> Tensor:
    """The image that `read` gives of each item, scaled and cut to a square: uint8 [N, 3, side, side].

    Raises what `read` raises for the first image that it cannot read.
    """
    images = torch.empty(len(items), 3, side, side, dtype=torch.uint8)
    batches, threads = chunked(items, _DECODED_TOGETHER), len(os.sched_getaffinity(0))
    decoded = in_threads(lambda item: as_tensor(centre(read(item), side, side)), batches, threads)
    for part, batch in zip(images.split(_DECODED_TOGETHER), decoded, strict=True):
        part.copy_(batch)
    return images


def rgb_squares(images: np.ndarray, side: int) -> Tensor:
    """An array of images (see catalog.tensor_files), scaled and cut: uint8 [N, 3, side, side]; grey becomes RGB."""
    if images.ndim == 3:
        images = images[..., None]
    elif images.shape[3] not in (1, 3):
        images = images.transpose(0, 2, 3, 1)
    images = np.broadcast_to(images, (*images.shape[:3], 3))
    if images.shape[1:3] == (side, side):
        return torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
    return squares(lambda image: Image.fromarray(np.ascontiguousarray(image)), list(images), side)


def in_threads(work: Callable[[Item], Tensor], batches: Iterable[Iterable[Item]], threads: int) -> Iterator[Tensor]:
    """The results of `work` for each batch of items, stacked, in order, while later batches are being worked on.

    Threads are enough: decoding and scaling release Python's lock. An exception is raised at its batch.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="images")
    waiting: deque[list[Future[Tensor]]] = deque()
    try:
        for items in batches:
            waiting.append([pool.submit(work, item) for item in items])
            if len(waiting) > _BATCHES_AHEAD:
                yield torch.stack([future.result() for future in waiting.popleft()])
        while waiting:
            yield torch.stack([future.result() for future in waiting.popleft()])
    finally:  # also where the reader leaves early
        pool.shutdown(wait=True, cancel_futures=True)
