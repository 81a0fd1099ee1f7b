"""Two small networks of different width, and what methods see of them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from msd_sweeps.distill.losses import Batch, Distiller, Side, build
from msd_sweeps.distill.models.network import Network, Taps
from msd_sweeps.space.methods import METHODS

NUM_CLASSES = 5
TRAIN_LABELS = torch.arange(40) % NUM_CLASSES
_SMALL = {"num_negatives": 8, "width": 6}

torch.set_num_threads(1)


def settings_of(name: str, **changes: Any) -> Any:
    """Settings of a method, with a memory that suits tests."""
    small = _SMALL if has_memory(name) else {}
    return METHODS[name](name=name, **small | changes)


def has_memory(name: str) -> bool:
    """Whether a method remembers features of the training images, from which it draws negatives."""
    return METHODS[name](name=name).kept_floats(1) > 0


class SmallNetwork(Network):
    """Three stages of 16 × 16, 8 × 8 and 4 × 4; the classifier reads the pooled last map."""

    def __init__(self, channels: tuple[int, int, int]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            nn.Conv2d(before, after, 3, stride, 1)
            for before, after, stride in zip((3, *channels), channels, (1, 2, 2), strict=False)
        )
        self.head = nn.Linear(channels[-1], NUM_CLASSES)

    def forward(self, images: Tensor) -> Taps:
        maps = [images]
        for stage in self.stages:
            maps.append(stage(maps[-1]).relu())
        pooled = maps[-1].mean((2, 3))
        return Taps(tuple(maps[1:]), maps[-1], pooled, self.head(pooled))

    def classify(self, rows: Tensor) -> Tensor:
        return self.head(rows.to(self.head.weight.dtype)).to(rows.dtype)


class Pair(NamedTuple):
    """A student and its teacher on one batch."""

    student: SmallNetwork
    teacher: SmallNetwork
    images: Tensor
    batch: Batch

    def distiller(self, name: str, **changes: Any) -> Distiller:
        """The method, in the precision of the networks."""
        sides = (Side.of(network, self.images.shape[1:]) for network in (self.student, self.teacher))
        return build(settings_of(name, **changes), *sides, TRAIN_LABELS).to(self.images.dtype)

    def taps(self) -> tuple[Taps, Taps]:
        return self.student(self.images), self.teacher(self.images)

    def terms(self, name: str, **changes: Any) -> dict[str, Tensor]:
        """The terms of the first step; a method's own parts start the same each time."""
        torch.manual_seed(1)
        return self.distiller(name, **changes)(*self.taps(), self.batch)


def new_pair(
    dtype: torch.dtype = torch.float64,
    student: tuple[int, int, int] = (4, 5, 6),
    teacher: tuple[int, int, int] = (4, 6, 8),
) -> Pair:
    torch.manual_seed(0)
    networks = SmallNetwork(student).to(dtype), SmallNetwork(teacher).to(dtype)
    batch = Batch(torch.tensor([0, 3, 1, 0, 4, 3]), torch.tensor([7, 2, 39, 0, 21, 11]))
    return Pair(*networks, torch.randn(6, 3, 16, 16, dtype=dtype), batch)


@pytest.fixture
def make_pair() -> Callable[..., Pair]:
    return new_pair


@pytest.fixture
def pair(make_pair: Callable[..., Pair]) -> Pair:
    return make_pair()


@pytest.fixture
def equal_pair(make_pair: Callable[..., Pair]) -> Pair:
    """A student that is its teacher."""
    pair = make_pair(student=(4, 6, 8))
    pair.student.load_state_dict(pair.teacher.state_dict())
    return pair
