"""The batches that students see: a pure function of the data, the batch size, the data seed and the position."""

import random
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from msd_sweeps.distill.data.images import as_tensor, augmented, decode, in_threads
from msd_sweeps.distill.data.splits import ImageFiles, Images, Split, Splits
from msd_sweeps.space.trial import Recipe


class StreamBatch(NamedTuple):
    """images: [B, 3, H, W], normalised, channels last. labels, index: [B], int64; index counts training images."""

    images: Tensor
    labels: Tensor
    index: Tensor  # type: ignore[assignment]  # tuple.index, which nobody calls


class Stream:
    """An endless sequence of epochs over images that are resident on the device.

    The crop and flip of an image depend on (data seed, epoch, image) alone, and the order of the images on
    (data seed, epoch), so whoever reads an epoch reads the same bits. An epoch has floor(N / B) whole batches;
    what does not fill a batch is left to the next epoch's order.
    """

    def __init__(
        self,
        train: Images,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        batch_size: int,
        data_seed: int,
        crop_padding: int,
        flip: bool,
        rank: int = 0,
        world_size: int = 1,
    ):
        _check_divisible(batch_size, world_size)
        self.train, self.batch_size, self.data_seed = train, batch_size, data_seed
        self.padding, self.flip = crop_padding, flip
        self.rank, self.world_size = rank, world_size
        self.device = train.images.device
        self.steps_per_epoch = len(train) // batch_size
        self.side = train.images.shape[-1]
        pad = (crop_padding,) * 4
        self._padded = torch.nn.functional.pad(train.images, pad)  # black, as torchvision's RandomCrop
        self._scale, self._shift = _normalisation(mean, std, self.device)

    def epoch(self, epoch: int) -> Iterator[StreamBatch]:
        """The batches of one epoch, counted from 0; with several workers, this rank's part of each batch."""
        order, top, left, mirrored = (values.to(self.device) for values in self._draw(epoch))
        for step in range(self.steps_per_epoch):
            index = order[step * self.batch_size : (step + 1) * self.batch_size][self.rank :: self.world_size]
            images = self._crop(index, top[index], left[index], mirrored[index])
            images = scaled(normalise(images, self._scale, self._shift), self.train.image_shape)
            yield StreamBatch(images, self.train.labels[index], index)

    def _draw(self, epoch: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The order of the images, and for each image [N] its offsets and whether it is mirrored."""
        # Drawn on the CPU whatever the device, so that every device sees the same stream.
        generator = torch.Generator().manual_seed(_mix(self.data_seed, epoch))
        count = len(self.train)
        order = torch.randperm(count, generator=generator)
        top = torch.randint(0, 2 * self.padding + 1, (count,), generator=generator)
        left = torch.randint(0, 2 * self.padding + 1, (count,), generator=generator)
        mirrored = torch.rand(count, generator=generator) < (0.5 if self.flip else 0.0)
        return order, top, left, mirrored

    def _crop(self, index: Tensor, top: Tensor, left: Tensor, mirrored: Tensor) -> Tensor:
        """Crops [B, 3, H, W] of the padded images, mirrored where asked, in one gather."""
        span = torch.arange(self.side, device=self.device)
        rows = top[:, None] + span
        columns = left[:, None] + torch.where(mirrored[:, None], span.flip(0), span)
        images = self._padded[index[:, None, None], :, rows[:, :, None], columns[:, None, :]]  # [B, H, W, 3]
        return images.permute(0, 3, 1, 2)


class FileStream:
    """The same promises as `Stream`, over images that are too many to be resident.

    Each image is decoded when its turn comes, by threads that work ahead; its random resized crop and flip are
    drawn from a generator of its own, seeded by (data seed, epoch, image).
    """

    def __init__(
        self,
        train: ImageFiles,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        batch_size: int,
        data_seed: int,
        flip: bool,
        rank: int = 0,
        world_size: int = 1,
    ):
        _check_divisible(batch_size, world_size)
        self.train, self.batch_size, self.data_seed, self.flip = train, batch_size, data_seed, flip
        self.rank, self.world_size = rank, world_size
        self.steps_per_epoch = len(train) // batch_size
        self._scale, self._shift = _normalisation(mean, std, train.device)

    def epoch(self, epoch: int) -> Iterator[StreamBatch]:
        """The batches of one epoch, counted from 0; with several workers, this rank's part of each batch.

        Raises DataError for an image that cannot be read, at its batch.
        """
        generator = torch.Generator().manual_seed(_mix(self.data_seed, epoch))
        order = torch.randperm(len(self.train), generator=generator)
        batches = order[: self.steps_per_epoch * self.batch_size].view(-1, self.batch_size)
        mine = batches[:, self.rank :: self.world_size]
        jobs = ([partial(self._read, epoch, image) for image in index.tolist()] for index in mine)
        for index, images in zip(mine, in_threads(jobs, self.train.threads), strict=True):
            device = self.train.device
            if device.type == "cuda":
                images = images.pin_memory()
            images, index = images.to(device, non_blocking=True), index.to(device)
            yield StreamBatch(normalise(images, self._scale, self._shift), self.train.labels[index], index)

    def _read(self, epoch: int, image: int) -> Tensor:
        """One training image, uint8 [3, H, W]."""
        draw = random.Random(f"{self.data_seed} {epoch} {image}")  # hashed: neighbours are unrelated
        path = self.train.root / self.train.paths[image]
        return as_tensor(augmented(decode(path, str(path)), self.train.side, self.flip, draw))


def open_stream(
    splits: Splits, recipe: Recipe, data_seed: int, rank: int = 0, world_size: int = 1
) -> Stream | FileStream:
    """The stream over the training part of `splits`. Raises ValueError where the batch cannot be divided."""
    common = (splits.mean, splits.std, recipe.batch_size, data_seed)
    if isinstance(splits.train, ImageFiles):
        return FileStream(splits.train, *common, recipe.flip, rank, world_size)
    assert isinstance(splits.train, Images)
    return Stream(splits.train, *common, recipe.crop_padding, recipe.flip, rank, world_size)


def _check_divisible(batch_size: int, world_size: int) -> None:
    if batch_size % world_size:
        raise ValueError(f"batch size {batch_size} cannot be divided among {world_size} workers")


def _mix(seed: int, epoch: int) -> int:
    """One seed from two numbers; neighbouring pairs give unrelated generators."""
    return (seed * 0x9E3779B97F4A7C15 + epoch * 0xBF58476D1CE4E5B9 + 0x94D049BB133111EB) % 2**63


def _normalisation(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    scale = torch.tensor([1 / (255 * s) for s in std], device=device).view(1, -1, 1, 1)
    shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)], device=device).view(1, -1, 1, 1)
    return scale, shift


def normalise(images: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """(x / 255 - mean) / std of uint8 images, as float32 in channels-last memory."""
    return torch.addcmul(shift, images.float(), scale).contiguous(memory_format=torch.channels_last)


def scaled(images: Tensor, shape: torch.Size) -> Tensor:
    """Images [B, 3, H, W] scaled bilinearly to `shape`, channels last; untouched where they have it."""
    if images.shape[1:] == shape:
        return images
    images = torch.nn.functional.interpolate(images, shape[1:], mode="bilinear", align_corners=False)
    return images.contiguous(memory_format=torch.channels_last)


def plain_batches(
    split: Split, mean: tuple[float, ...], std: tuple[float, ...], batch_size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Normalised images and labels of a whole split in order, not augmented, for evaluation."""
    scale, shift = _normalisation(mean, std, split.labels.device)
    for images, labels in split.plain(batch_size):
        yield scaled(normalise(images, scale, shift), split.image_shape), labels
