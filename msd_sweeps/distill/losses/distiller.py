"""The base of all methods: a module that holds a method's learnable parts and computes its loss terms."""

from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

import torch.nn.functional as F
from torch import Size, Tensor, nn

from msd_sweeps.distill.losses.logits import full_precision, soft_divergence
from msd_sweeps.distill.models.network import Network, Taps
from msd_sweeps.space.method_base import LogitSettings, MethodSettings

AnySettings = TypeVar("AnySettings", bound=MethodSettings)
Losses = dict[str, Callable[[], Tensor]]
"""Functions that compute the terms of a loss, unweighted, each a scalar."""


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


class Distiller(nn.Module, Generic[AnySettings]):
    """Base of all methods: a weighted sum of terms, among them cross-entropy and distillation of the logits.

    Its parameters are trained with the student and dropped after training. A method that has some makes them in its own
    `__init__`, after this one.
    """

    def __init__(self, settings: AnySettings, student: Side, teacher: Side, train_labels: Tensor) -> None:
        """train_labels: [N], int64, of the training images in use."""
        super().__init__()
        self.settings = settings

    def losses(self, student: Taps, teacher: Taps, batch: Batch) -> Losses:
        """The method's own terms: for its setting `x_weight` a function "x" that computes the unweighted term.

        Called only where such a weight is above 0. The teacher's taps carry no gradient. Taps may be in bfloat16.
        """
        raise NotImplementedError

    def scale(self, epoch: int) -> float:
        """A factor of the method's own terms in an epoch, counted from 0: a warm-up, for instance."""
        return 1.0

    def forward(self, student: Taps, teacher: Taps, batch: Batch) -> dict[str, Tensor]:
        """The weighted terms by name, each a float32 scalar; their sum is minimised. Those of weight 0 are absent."""
        weights = {
            field.removesuffix("_weight"): weight for field, weight in self.settings.term_weights.items() if weight > 0
        }
        terms: dict[str, Tensor] = {}
        if "ce" in weights:
            terms["ce"] = weights["ce"] * F.cross_entropy(full_precision(student.logits), batch.labels)
        if "kd" in weights and isinstance(self.settings, LogitSettings):
            logits = full_precision(student.logits), full_precision(teacher.logits.detach())
            terms["kd"] = weights["kd"] * soft_divergence(*logits, self.settings.temperature).mean()
        if weights.keys() > terms.keys():
            fixed = Taps(tuple(stage.detach() for stage in teacher.stages), *(tap.detach() for tap in teacher[1:]))
            losses, scale = self.losses(student, fixed, batch), self.scale(batch.epoch)
            terms |= {name: weight * scale * losses[name]() for name, weight in weights.items() if name not in terms}
        return terms
