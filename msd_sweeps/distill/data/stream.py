"""The batches that students see: a pure function of the data, the batch size, the data seed and the position."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from msd_sweeps.distill.data.splits import Split, Splits
from msd_sweeps.space.trial import Recipe


class StreamBatch(NamedTuple):
    """images: [B, 3, H, W], normalised, channels last. labels, index: [B], int64; index counts training images."""

    images: Tensor
    labels: Tensor
    index: Tensor  # type: ignore[assignment]  # tuple.index, which nobody calls


class Stream:
    """An endless sequence of epochs over the training part of `splits`.

    The order of the images depends on (data seed, epoch) alone, and the augmentation of an image on (data seed, epoch,
    image), so every reader of an epoch gets the same bits. An epoch has floor(N / B) whole batches; the images that do
    not fill a batch are left to the next epoch's order. With several workers each reads its part of each batch.

    Raises ValueError where the batch cannot be divided among the workers.
    """

    def __init__(self, splits: Splits, recipe: Recipe, data_seed: int, rank: int = 0, world_size: int = 1):
        if recipe.batch_size % world_size:
            raise ValueError(f"batch size {recipe.batch_size} cannot be divided among {world_size} workers")
        self.train, self.recipe, self.data_seed = splits.train, recipe, data_seed
        self.rank, self.world_size = rank, world_size
        self.steps_per_epoch = len(splits.train) // recipe.batch_size
        self._normalise = normaliser(splits.train, splits.mean, splits.std)

    def epoch(self, epoch: int) -> Iterator[StreamBatch]:
        """This worker's batches of one epoch, counted from 0.

        Raises DataError for an image that cannot be read, at its batch.
        """
        # Drawn on the CPU whatever the device, so that every device sees the same stream.
        generator = torch.Generator().manual_seed(_mix(self.data_seed, epoch))
        order = torch.randperm(len(self.train), generator=generator)
        whole = order[: self.steps_per_epoch * self.recipe.batch_size].view(-1, self.recipe.batch_size)
        batches = whole[:, self.rank :: self.world_size]
        augmented = self.train.augmented(batches, self.recipe, generator, f"{self.data_seed} {epoch}")
        for index, images in zip(batches.to(self.train.labels.device), augmented, strict=True):
            yield StreamBatch(self._normalise(images), self.train.labels[index], index)


def plain_batches(
    split: Split, mean: tuple[float, ...], std: tuple[float, ...], batch_size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Normalised images [B, 3, H, W] and labels [B] of a whole split in order, not augmented, for evaluation."""
    normalise = normaliser(split, mean, std)
    for images, labels in split.plain(batch_size):
        yield normalise(images), labels


def normaliser(split: Split, mean: tuple[float, ...], std: tuple[float, ...]) -> Callable[[Tensor], Tensor]:
    """A function from uint8 images [B, 3, H, W] of a split to what networks see.

    That is (x / 255 - mean) / std as float32 in channels-last memory, scaled bilinearly to the split's `image_shape`.
    """
    device, shape = split.labels.device, split.image_shape
    scale = torch.tensor([1 / (255 * s) for s in std], device=device).view(1, -1, 1, 1)
    shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)], device=device).view(1, -1, 1, 1)

    def normalise(images: Tensor) -> Tensor:
        images = torch.addcmul(shift, images.float(), scale).contiguous(memory_format=torch.channels_last)
        if images.shape[1:] == shape:
            return images
        images = torch.nn.functional.interpolate(images, shape[1:], mode="bilinear", align_corners=False)
        return images.contiguous(memory_format=torch.channels_last)

    return normalise


def _mix(seed: int, epoch: int) -> int:
    """One seed from two numbers; neighbouring pairs give unrelated generators."""
    return (seed * 0x9E3779B97F4A7C15 + epoch * 0xBF58476D1CE4E5B9 + 0x94D049BB133111EB) % 2**63
