"""Parts of a data set: images resident as uint8, or files that are read when they are needed."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol, Self

import torch
from torch import Tensor

from msd_sweeps.distill.data.images import EVALUATION_RATIO, as_tensor, centre, decode, in_threads


class Split(Protocol):
    """What training and evaluation ask of a part of a data set; labels: [N], int64."""

    @property
    def labels(self) -> Tensor: ...
    @property
    def image_shape(self) -> torch.Size: ...
    def __len__(self) -> int: ...
    def select(self, index: Tensor) -> Self: ...
    def to(self, device: torch.device) -> Self: ...
    def plain(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All images [B, 3, H, W], uint8, not augmented, with labels [B], in order and on the split's device."""
        ...

    def add_to(self, digest: "hashlib._Hash") -> None:
        """Let a hash know the content."""
        ...


@dataclass(frozen=True)
class Images:
    """images: [N, 3, H, W], uint8. labels: [N], int64. scaled_to: the side that batches are scaled to, if another."""

    images: Tensor
    labels: Tensor
    scaled_to: int | None = None

    @property
    def image_shape(self) -> torch.Size:
        """Of what networks see."""
        side = self.scaled_to
        return self.images.shape[1:] if side is None else torch.Size((self.images.shape[1], side, side))

    def select(self, index: Tensor) -> "Images":
        return replace(self, images=self.images[index], labels=self.labels[index])

    def to(self, device: torch.device) -> "Images":
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))

    def plain(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, len(self), batch_size):
            part = slice(start, start + batch_size)
            yield self.images[part], self.labels[part]

    def add_to(self, digest: "hashlib._Hash") -> None:
        digest.update(self.images.cpu().numpy().tobytes())
        digest.update(self.labels.cpu().numpy().tobytes())

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class ImageFiles:
    """Files below `root`, decoded by `threads` threads whenever they are read; side: of the square images."""

    root: Path
    paths: tuple[str, ...]
    labels: Tensor
    side: int
    threads: int
    device: torch.device = field(default=torch.device("cpu"))

    @property
    def image_shape(self) -> torch.Size:
        return torch.Size((3, self.side, self.side))

    def select(self, index: Tensor) -> "ImageFiles":
        paths = tuple(self.paths[i] for i in index.tolist())
        return replace(self, paths=paths, labels=self.labels[index.to(self.labels.device)])

    def to(self, device: torch.device) -> "ImageFiles":
        return replace(self, labels=self.labels.to(device), device=device)

    def plain(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Scaled and cut as ImageNet's test images are: 256 pixels, of which 224 in the centre. Raises DataError."""
        scaled = round(self.side * EVALUATION_RATIO)

        def one(path: str) -> Tensor:
            return as_tensor(centre(decode(self.root / path, str(self.root / path)), self.side, scaled))

        starts = range(0, len(self), batch_size)
        jobs = ([partial(one, path) for path in self.paths[start : start + batch_size]] for start in starts)
        for start, images in zip(starts, in_threads(jobs, self.threads), strict=True):
            yield images.to(self.device), self.labels[start : start + batch_size]

    def add_to(self, digest: "hashlib._Hash") -> None:
        """Paths, sizes and labels; reading a million images to hash their bytes would take an hour."""
        for path in self.paths:
            digest.update(f"{path}\0{(self.root / path).stat().st_size}\0".encode("utf-8", "surrogateescape"))
        digest.update(self.labels.cpu().numpy().tobytes())

    def __len__(self) -> int:
        return len(self.paths)


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
