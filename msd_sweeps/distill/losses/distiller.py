"""What every method answers: a module that holds its learnable parts and computes its loss terms."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Size, Tensor, nn

from msd_sweeps.distill.models.network import Network, Taps


class Batch(NamedTuple):
    """One step of the stream, as a loss sees it.

    labels: [B], int64. index: [B], int64, position of each image in the training set that is in use.
    epoch: how many whole epochs this student has behind it, for losses that warm up.
    """

    labels: Tensor
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nothing calls
    epoch: int


class Side(NamedTuple):
    """What a method may know of one network before training: shapes of its taps at batch size 1, its head."""

    stages: tuple[Size, ...]
    last: Size
    pooled: Size
    num_classes: int
    classify: Callable[[Tensor], Tensor]

    @classmethod
    def of(cls, network: Network, taps: Taps) -> "Side":
        shapes = tuple(stage.shape for stage in taps.stages)
        return cls(shapes, taps.last.shape, taps.pooled.shape, taps.logits.shape[-1], network.classify)


class Distiller(nn.Module):
    """Base of all methods. Its parameters are trained with the student and dropped after training.

    A subclass is built as `Subclass(settings, student_side, teacher_side, train_labels)`.
    """

    def forward(self, student: Taps, teacher: Taps, batch: Batch) -> dict[str, Tensor]:
        """The weighted terms of the loss by name, each a float32 scalar; their sum is what is minimised."""
        raise NotImplementedError
