"""The base of all methods, and functions that several share."""

from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Size, Tensor, distributed, nn

from msd_sweeps.distill.device import workers
from msd_sweeps.distill.models.network import Network, Taps
from msd_sweeps.space.methods import LogitSettings, MethodSettings

AnySettings = TypeVar("AnySettings", bound=MethodSettings)
Stage = TypeVar("Stage")
Losses = dict[str, Callable[[], Tensor]]
"""Functions that compute the terms of a loss, unweighted, each a scalar."""


class Batch(NamedTuple):
    """One step of the stream, as a loss sees it.

    labels: [B], int64. index: [B], int64, position of each image in the training set that is in use.
    targets: of the cross-entropy: the labels, or [B, K], float32, of mixed images. smoothing: the share of it that is
    spread over all classes.
    """

    labels: Tensor
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nothing calls
    targets: Tensor | None = None
    smoothing: float = 0.0


class Side(NamedTuple):
    """What a method may know of one network before training: shapes of its taps at batch size 1, its classifier."""

    stages: tuple[Size, ...]
    last: Size
    pooled: Size
    classify: Callable[[Tensor], Tensor]

    @classmethod
    def of(cls, network: Network, image_shape: Size) -> "Side":
        """Found with one image [3, H, W] of zeros; the network's state stays."""
        was_training = network.training
        network.eval()
        parameter = next(network.parameters())
        with torch.no_grad():
            taps = network(torch.zeros(1, *image_shape, device=parameter.device, dtype=parameter.dtype))
        network.train(was_training)

        def classify(rows: Tensor) -> Tensor:
            """Losses compute in float32; a frozen teacher's head may be in bfloat16."""
            return network.classify(rows.to(parameter.dtype)).to(rows.dtype)

        return cls(tuple(stage.shape for stage in taps.stages), taps.last.shape, taps.pooled.shape, classify)


class Distiller(nn.Module, Generic[AnySettings]):
    """L = ce_weight · CE + kd_weight · T² · KL(teacher ‖ student) + the method's own terms, averaged over the batch.

    Base of all methods, and itself the methods `none`, which has cross-entropy alone, and `kd` (Hinton et al. 2015),
    whose defaults (0.1, 0.9, T 4) are RepDistiller's and mdistiller's on CIFAR-100. Its parameters are trained with the
    student and dropped after training. A method that has some makes them in its own `__init__`, after this one.
    """

    def __init__(self, settings: AnySettings, student: Side, teacher: Side, train_labels: Tensor) -> None:
        """train_labels: [N], int64, of the training images in use."""
        super().__init__()
        self.settings = settings
        # On the device, because a captured step reads the current one.
        self.factor = nn.Buffer(torch.tensor(self.scale(0)), persistent=False)

    def losses(self, student: Taps, teacher: Taps, batch: Batch) -> Losses:
        """The method's own terms: for its setting `x_weight` a function "x" that computes the unweighted term.

        Called only where such a weight is above 0. The teacher's taps carry no gradient. Taps may be in bfloat16.
        """
        raise NotImplementedError

    def scale(self, epoch: int) -> float:
        """A factor of the method's own terms in an epoch, counted from 0: a warm-up, for instance."""
        return 1.0

    def start_epoch(self, epoch: int) -> None:
        """Called before the first step of an epoch, counted from 0. No other number may change between steps."""
        self.factor.fill_(self.scale(epoch))

    def forward(self, student: Taps, teacher: Taps, batch: Batch) -> dict[str, Tensor]:
        """The weighted terms by name, each a float32 scalar; their sum is minimised. Those of weight 0 are absent."""
        given = self.settings.term_weights
        weights = {key.removesuffix("_weight"): weight for key, weight in given.items() if weight > 0}
        terms: dict[str, Tensor] = {}
        if "ce" in weights:
            targets = batch.labels if batch.targets is None else batch.targets
            cross_entropy = F.cross_entropy(full_precision(student.logits), targets, label_smoothing=batch.smoothing)
            terms["ce"] = weights["ce"] * cross_entropy
        if "kd" in weights and isinstance(self.settings, LogitSettings):
            logits = full_precision(student.logits), full_precision(teacher.logits.detach())
            terms["kd"] = weights["kd"] * soft_divergence(*logits, self.settings.temperature).mean()
        if weights.keys() > terms.keys():
            fixed = Taps.of([tap.detach() for tap in teacher.tensors])
            losses = self.losses(student, fixed, batch)
            terms |= {n: weight * self.factor * losses[n]() for n, weight in weights.items() if n not in terms}
        return terms


def full_precision(tensor: Tensor) -> Tensor:
    """The tensor in float32, or as it is in float64: losses are never computed in bfloat16."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def of_all_workers(part: Tensor) -> Tensor:
    """The rows [B, ...] of the whole batch, in its order, of which each data-parallel worker holds a part.

    For terms that compare the samples of a batch: every worker computes the same one. The gradient reaches its own
    rows, and is multiplied by the number of workers, because their gradients are averaged.
    """
    rank, count = workers()
    if count == 1:
        return part
    parts = [torch.empty_like(part, memory_format=torch.contiguous_format) for _ in range(count)]
    distributed.all_gather(parts, part.detach().contiguous())
    if part.requires_grad and torch.is_grad_enabled():
        parts[rank] = part.view_as(part)
        parts[rank].register_hook(lambda gradient: gradient * count)
    return torch.stack(parts, dim=1).flatten(0, 1)


def soft_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T² · KL(softmax(teacher / T) ‖ softmax(student / T)) along the last axis: [..., K], [..., K] -> [...].

    Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network, 2015. The factor T² keeps the size of the
    gradients when the temperature changes.
    """
    log_student = F.log_softmax(student / temperature, dim=-1)
    log_teacher = F.log_softmax(teacher / temperature, dim=-1)
    return F.kl_div(log_student, log_teacher, reduction="none", log_target=True).sum(-1) * temperature**2


def warm_up(epoch: int, epochs: int) -> float:
    """The factor of a loss that grows linearly over its first `epochs`: 1/epochs in the first, then 2/epochs."""
    return min((epoch + 1) / epochs, 1.0) if epochs > 0 else 1.0


def directions(rows: Tensor, dim: int = -1) -> Tensor:
    """Rows of unit length along `dim`. A zero row stays zero and carries no gradient: it has no direction."""
    squares = rows.square().sum(dim, keepdim=True)
    present = squares > 1e-24
    return rows * torch.where(present, torch.rsqrt(torch.where(present, squares, 1.0)), 0.0)


def aligned(student: tuple[Stage, ...], teacher: tuple[Stage, ...]) -> list[tuple[Stage, Stage]]:
    """The stages of both networks in pairs; the deeper network's first stages have no partner."""
    depth = min(len(student), len(teacher))
    return list(zip(student[-depth:], teacher[-depth:], strict=True))


def same_size(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Two maps [B, C, H, W], each adaptively pooled down where the other is smaller."""
    grid = min(student.shape[-2], teacher.shape[-2]), min(student.shape[-1], teacher.shape[-1])
    student, teacher = (
        each if each.shape[-2:] == grid else F.adaptive_avg_pool2d(each, grid) for each in (student, teacher)
    )
    return student, teacher
