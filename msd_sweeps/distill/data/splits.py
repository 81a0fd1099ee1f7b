"""Parts of a data set, and the batches that students see of them.

A part's images are resident as uint8, or files that are decoded whenever they are read.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from msd_sweeps.distill.data.images import as_tensor, augmented, centre, chunked, decode, in_threads
from msd_sweeps.distill.data.mixing import Mixing
from msd_sweeps.space.trial import Recipe


@dataclass(frozen=True)
class Images:
    """images: [N, 3, H, H], uint8. labels: [N], int64. scaled_to: the side that batches are scaled to, if another."""

    images: Tensor
    labels: Tensor
    scaled_to: int | None = None

    @property
    def image_shape(self) -> torch.Size:
        """The shape [3, side, side] that networks see."""
        side = self.scaled_to or self.images.shape[-1]
        return torch.Size((3, side, side))

    def select(self, index: Tensor) -> "Images":
        return replace(self, images=self.images[index], labels=self.labels[index])

    def to(self, device: torch.device) -> "Images":
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))

    def plain(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All images [B, 3, H, W], uint8, not augmented, with labels [B], in order and on the split's device."""
        yield from zip(self.images.split(batch_size), self.labels.split(batch_size), strict=True)

    def augmented(self, batches: Tensor, recipe: Recipe, generator: torch.Generator, name: str) -> Iterator[Tensor]:
        """The images [B, 3, H, W], uint8, of each row of `batches` [S, B]: padded with black, cropped at random and
        mirrored, as torchvision's RandomCrop and RandomHorizontalFlip do it.

        generator: gives the crop and flip of every image of the split, whether or not a batch has it.
        """
        count, padding, side, device = len(self), recipe.crop_padding, self.images.shape[-1], self.images.device
        top = torch.randint(0, 2 * padding + 1, (count,), generator=generator)
        left = torch.randint(0, 2 * padding + 1, (count,), generator=generator)
        mirrored = torch.rand(count, generator=generator) < (0.5 if recipe.flip else 0.0)
        top, left, mirrored = (values[:, None].to(device) for values in (top, left, mirrored))
        span = torch.arange(side, device=device)
        each = torch.arange(batches.shape[1], device=device)[:, None, None]
        for index in batches.to(device):
            padded = torch.nn.functional.pad(self.images[index], (padding,) * 4)
            rows = top[index] + span
            columns = left[index] + torch.where(mirrored[index], span.flip(0), span)
            yield padded[each, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class ImageFiles:
    """Files below `root`, decoded by `threads` threads. labels: [N], int64. side: of the square images, in pixels.

    The methods do what those of `Images` do.
    """

    root: Path
    paths: tuple[str, ...]
    labels: Tensor
    side: int
    threads: int

    @property
    def image_shape(self) -> torch.Size:
        return torch.Size((3, self.side, self.side))

    def select(self, index: Tensor) -> "ImageFiles":
        paths = tuple(self.paths[i] for i in index.tolist())
        return replace(self, paths=paths, labels=self.labels[index.to(self.labels.device)])

    def to(self, device: torch.device) -> "ImageFiles":
        return replace(self, labels=self.labels.to(device))

    def plain(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Scaled and cut as ImageNet's test images are: to 256 pixels, of which 224 in the centre. Raises DataError."""

        def read(path: str) -> Tensor:
            return as_tensor(centre(decode(self.root / path), self.side, scaled=round(self.side * 256 / 224)))

        decoded = in_threads(read, chunked(self.paths, batch_size), self.threads)
        for images, labels in zip(decoded, self.labels.split(batch_size), strict=True):
            yield images.to(labels.device), labels

    def augmented(self, batches: Tensor, recipe: Recipe, generator: torch.Generator, name: str) -> Iterator[Tensor]:
        """Random resized crops and flips. Raises DataError.

        name: data seed and epoch; with the image's number it seeds the image's own generator, so that the order
        of the threads does not matter.
        """

        def read(image: int) -> Tensor:
            draw = random.Random(f"{name} {image}")  # hashed: neighbours are unrelated
            return as_tensor(augmented(decode(self.root / self.paths[image]), self.side, recipe.flip, draw))

        device = self.labels.device
        for images in in_threads(read, (index.tolist() for index in batches), self.threads):
            yield images.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else images

    def __len__(self) -> int:
        return len(self.paths)


Split: TypeAlias = Images | ImageFiles


class Splits(NamedTuple):
    """What one trial sees: train and val are parts of the training set, test is the official one."""

    train: Split
    val: Split | None
    test: Split
    mean: tuple[float, ...]
    std: tuple[float, ...]
    """Of each channel, on the scale 0 to 1."""

    def to(self, device: torch.device) -> "Splits":
        val = None if self.val is None else self.val.to(device)
        return self._replace(train=self.train.to(device), val=val, test=self.test.to(device))

    def normaliser(self) -> Callable[[Tensor], Tensor]:
        """A function from uint8 images [B, 3, H, W] of any part to what networks see: (x / 255 - mean) / std as float32
        in channels-last memory, scaled bilinearly to the `image_shape`."""
        device, shape = self.train.labels.device, self.train.image_shape
        scale = torch.tensor([1 / (255 * s) for s in self.std], device=device)[:, None, None]
        shift = torch.tensor([-m / s for m, s in zip(self.mean, self.std, strict=True)], device=device)[:, None, None]

        def normalise(images: Tensor) -> Tensor:
            images = torch.addcmul(shift, images.float(), scale).contiguous(memory_format=torch.channels_last)
            if images.shape[1:] == shape:
                return images
            images = torch.nn.functional.interpolate(images, shape[1:], mode="bilinear", align_corners=False)
            return images.contiguous(memory_format=torch.channels_last)

        return normalise


class StreamBatch(NamedTuple):
    """images: [B, 3, H, W], normalised, channels last. labels, index: [B], int64; index counts training images.

    targets: the labels, or [B, K], float32, where images are mixed.
    """

    images: Tensor
    labels: Tensor
    index: Tensor  # type: ignore[assignment]  # tuple.index, which nobody calls
    targets: Tensor


class Stream:
    """An endless sequence of epochs over the training part of `splits`.

    The order of the images depends on (data seed, epoch) alone, and the augmentation of an image on (data seed, epoch,
    image), so every reader of an epoch gets the same bits. An epoch has floor(N / B) whole batches; the images that do
    not fill a batch are left to the next epoch's order. With several workers each reads its part of each batch; raises
    ValueError where the batch cannot be divided among them.
    """

    def __init__(self, splits: Splits, recipe: Recipe, data_seed: int, rank: int = 0, world_size: int = 1):
        if recipe.batch_size % world_size:
            raise ValueError(f"batch size {recipe.batch_size} cannot be divided among {world_size} workers")
        self.train, self.recipe, self.data_seed = splits.train, recipe, data_seed
        self.rank, self.world_size = rank, world_size
        self.steps_per_epoch = len(splits.train) // recipe.batch_size
        self._normalise = splits.normaliser()
        num_classes = 1 + int(max(splits.train.labels.max(), splits.test.labels.max()))
        self._mix = Mixing(recipe.mixup, recipe.cutmix, num_classes) if recipe.mixup or recipe.cutmix else None

    def epoch(self, epoch: int) -> Iterator[StreamBatch]:
        """This worker's batches of an epoch, counted from 0. Raises DataError at the batch that cannot be read."""
        # Neighbouring pairs of numbers give unrelated generators; on the CPU, so that every device has the same stream.
        seed = (self.data_seed * 0x9E3779B97F4A7C15 + epoch * 0xBF58476D1CE4E5B9 + 0x94D049BB133111EB) % 2**63
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(self.train), generator=generator)
        whole = order[: self.steps_per_epoch * self.recipe.batch_size].view(-1, self.recipe.batch_size)
        batches = whole[:, self.rank :: self.world_size]
        augmented = self.train.augmented(batches, self.recipe, generator, f"{self.data_seed} {epoch}")
        for number, (index, pixels) in enumerate(zip(batches.to(self.train.labels.device), augmented, strict=True)):
            images, labels = self._normalise(pixels), self.train.labels[index]
            mixed = (images, labels) if self._mix is None else self._mix(images, labels, (seed, number, self.rank))
            yield StreamBatch(mixed[0], labels, index, mixed[1])
