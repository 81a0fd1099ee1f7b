"""How good a trained network is: accuracy, likelihood, calibration, and agreement with another network."""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from msd_sweeps.distill.data.splits import Split, Splits
from msd_sweeps.distill.models.network import Network
from msd_sweeps.space.trial import METRICS

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
    """Top-1 accuracy and cross-entropy of one network over the batches that it is given, and metrics of one's own.

    dtype: float32 weights compute under autocast to it; other weights compute in their own precision.
    """

    def __init__(self, network: Network, dtype: torch.dtype):
        self._network, self._dtype = network.eval(), dtype
        weights = next(network.parameters())
        self._weights_dtype = weights.dtype
        self._sums = torch.zeros(3, device=weights.device, dtype=torch.float64)  # right, cross-entropy, count
        self._logits: list[Tensor] = []

    @torch.no_grad()
    def add(self, images: Tensor, labels: Tensor) -> None:
        """Count a batch of normalised images [B, 3, H, W] with labels [B]."""
        has_autocast = self._weights_dtype == torch.float32 and self._dtype != torch.float32
        with torch.autocast(images.device.type, self._dtype, enabled=has_autocast):
            logits = self._network(images.to(self._weights_dtype)).logits.float()
        loss = F.cross_entropy(logits, labels, reduction="sum")
        self._sums += torch.stack([(logits.argmax(1) == labels).sum(), loss, torch.full_like(loss, len(labels))])
        if METRICS:
            self._logits.append(logits)

    def scores(self, name: str, labels: Tensor, world_size: int = 1) -> dict[str, float]:
        """Accuracy in percent and mean cross-entropy in nats over all workers, and the metrics of one's own.

        name: of the part, with which the names of the scores begin. labels: of the whole part, [N].
        """
        if world_size > 1 and not METRICS:
            torch.distributed.all_reduce(self._sums)
        num_right, loss, count = self._sums.tolist()
        found = {f"{name}_top1": 100 * num_right / count, f"{name}_loss": loss / count}
        for metric, (function, _) in METRICS.items():
            found[f"{name}_{metric}"] = float(function(torch.cat(self._logits), labels))
        return found


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
    right = (predicted == labels).double()
    bins = (confidence * _BINS).long().clamp(max=_BINS - 1)
    gaps = torch.zeros(_BINS, dtype=torch.float64, device=logits.device).index_add_(0, bins, confidence - right)
    return 100 * (gaps.abs().sum() / len(labels)).item()


def _share(values: Tensor) -> float:
    return 100 * values.double().mean().item()
