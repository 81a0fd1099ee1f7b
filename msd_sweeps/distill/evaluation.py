"""How good a trained network is: accuracy, likelihood, calibration, and agreement with another network."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from msd_sweeps.distill.data.splits import Split, Splits
from msd_sweeps.distill.models.network import Network
from msd_sweeps.records.predictions import Predictions, predictions_of
from msd_sweeps.space.trial import METRICS


@dataclass(frozen=True)
class Scores:
    """What a network found on the N images of a part, on the host."""

    loss: float
    """Mean cross-entropy in nats."""
    confidence: Tensor
    """The largest probability of each image, [N]."""
    classes: Tensor
    """The class that has it, [N]."""
    labels: Tensor
    own: dict[str, float]
    """The metrics of one's own."""

    @property
    def top1(self) -> float:
        """Accuracy in percent."""
        return 100 * int((self.classes == self.labels).sum()) / len(self.labels)

    @property
    def calibration_error(self) -> float:
        """As `calibration_error`, in percent."""
        return _gap(self.confidence.double(), self.classes == self.labels)

    @property
    def predictions(self) -> Predictions:
        """As the ledger keeps them."""
        return predictions_of(self.classes.tolist(), self.labels.tolist())


Predict = Callable[[Tensor], Tensor]
"""Logits [B, K] in float32 of images [B, 3, H, W], uint8."""
_BINS = 15


@torch.no_grad()
def logits_of(predict: Predict, part: Split) -> Tensor:
    """The logits [N, K] of all images of a part, in batches as `batches_of` has them."""
    batch_size = 500 if part.image_shape[-1] <= 64 else 125
    return torch.cat([predict(images) for images, _ in part.plain(batch_size)])


def batches_of(splits: Splits, part: Split, rank: int = 0, world_size: int = 1) -> Iterator[tuple[Tensor, Tensor]]:
    """All images of a part of `splits`, normalised, with their labels; several workers each take a part of them.

    Each takes all where metrics of one's own have to see all logits.
    """
    if world_size > 1 and not METRICS:
        part = part.select(torch.arange(rank, len(part), world_size))
    normalise, batch_size = splits.normaliser(), 500 if part.image_shape[-1] <= 64 else 125
    for images, labels in part.plain(batch_size):
        yield normalise(images), labels


class Scoring:
    """The scores of one network, gathered over batches.

    dtype: float32 weights compute under autocast to it; other weights compute in their own precision.
    """

    def __init__(self, network: Network, dtype: torch.dtype):
        self._network, self._dtype = network.eval(), dtype
        weights = next(network.parameters())
        self._weights_dtype = weights.dtype
        self._sums = torch.zeros(2, device=weights.device, dtype=torch.float64)  # cross-entropy, count
        self._first: list[Tensor] = []  # confidence and class
        self._logits: list[Tensor] = []

    @torch.no_grad()
    def add(self, images: Tensor, labels: Tensor) -> None:
        """Count a batch of normalised images [B, 3, H, W] with labels [B]."""
        has_autocast = self._weights_dtype == torch.float32 and self._dtype != torch.float32
        with torch.autocast(images.device.type, self._dtype, enabled=has_autocast):
            logits = self._network(images.to(self._weights_dtype)).logits.float()
        loss = F.cross_entropy(logits, labels, reduction="sum")
        self._sums += torch.stack([loss, torch.full_like(loss, len(labels))])
        self._first.append(torch.stack(logits.softmax(1).max(1)))
        if METRICS:
            self._logits.append(logits)

    def scores(self, labels: Tensor, world_size: int = 1) -> Scores:
        """The scores over the batches of all workers. labels: of the whole part, [N]."""
        confidence, classes = torch.cat(self._first, dim=1).cpu()
        if world_size > 1 and not METRICS:
            torch.distributed.all_reduce(self._sums)
            parts: list[Any] = [None] * world_size
            torch.distributed.all_gather_object(parts, (confidence, classes))
            confidence, classes = torch.empty(len(labels)), torch.empty(len(labels))
            for one, (of_confidence, of_classes) in enumerate(parts):
                confidence[one::world_size], classes[one::world_size] = of_confidence, of_classes
        loss, count = self._sums.tolist()
        own = {name: float(function(torch.cat(self._logits), labels)) for name, (function, _) in METRICS.items()}
        return Scores(loss / count, confidence, classes.long(), labels.cpu(), own)


def scores(logits: Tensor, labels: Tensor, teacher: Tensor | None = None) -> dict[str, float]:
    """Scores of logits [N, K] with labels [N]: accuracies and shares in percent, the others in nats.

    nll: the mean negative log-likelihood of the labels. calibration_error: the expected calibration error with 15 bins
    of equal width (Guo et al., ICML 2017). With the logits [N, K] of a teacher also teacher_agreement, how often both
    have the same first class, and teacher_divergence, the mean KL(teacher ‖ network).
    """
    found = {"top1": _share(logits.argmax(1) == labels)}
    if logits.shape[1] > 5:
        found["top5"] = _share((logits.topk(5).indices == labels[:, None]).any(1))
    found["nll"] = F.cross_entropy(logits.double(), labels).item()
    found["calibration_error"] = calibration_error(logits, labels)
    if teacher is not None:
        found["teacher_agreement"] = _share(logits.argmax(1) == teacher.argmax(1))
        log_network, log_teacher = (F.log_softmax(one.double(), dim=1) for one in (logits, teacher))
        divergence = F.kl_div(log_network, log_teacher, reduction="batchmean", log_target=True)
        found["teacher_divergence"] = divergence.item()
    return found


def calibration_error(logits: Tensor, labels: Tensor) -> float:
    """The mean distance, in percent, of confidence and accuracy over bins of confidence, weighted by their images."""
    confidence, predicted = logits.double().softmax(1).max(1)
    return _gap(confidence, predicted == labels)


def _gap(confidence: Tensor, right: Tensor) -> float:
    confidence = confidence.nan_to_num()
    bins = (confidence * _BINS).long().clamp(max=_BINS - 1)
    gaps = torch.zeros(_BINS, dtype=torch.float64, device=confidence.device).index_add_(
        0, bins, confidence - right.double()
    )
    return 100 * (gaps.abs().sum() / len(right)).item()


def _share(values: Tensor) -> float:
    return 100 * values.double().mean().item()
