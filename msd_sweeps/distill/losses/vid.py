"""Variational information distillation (Ahn et al., CVPR 2019, arXiv 1904.05835)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from msd_sweeps.distill.losses.distiller import Batch, Distiller, Losses, Side, aligned, full_precision, same_size
from msd_sweeps.distill.models.network import Taps
from msd_sweeps.space.methods import VidSettings

_LEAST_VARIANCE = 1e-5


def gaussian_loss(mean: Tensor, variance: Tensor, target: Tensor) -> Tensor:
    """½ · mean((target − mean)² / variance + log variance): [B, C, H, W], [C], [B, C, H, W] -> scalar.

    The negative log-likelihood of the teacher's map under a Gaussian, without its constant.
    """
    variance = variance.view(1, -1, 1, 1)
    return 0.5 * ((target - mean).square() / variance + variance.log()).mean()


class _StagePrediction(nn.Module):
    """What the student's stage says of the teacher's: a mean from three 1 × 1 convolutions, a variance a channel."""

    def __init__(self, student_channels: int, teacher_channels: int, initial_variance: float) -> None:
        super().__init__()
        widths = student_channels, teacher_channels, teacher_channels
        first, second, third = (nn.Conv2d(width, teacher_channels, 1, bias=False) for width in widths)
        self.mean = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), third)
        before_softplus = math.log(math.expm1(initial_variance - _LEAST_VARIANCE))
        self.variance = nn.Parameter(torch.full((teacher_channels,), before_softplus))

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        student, teacher = same_size(student, teacher)
        return gaussian_loss(self.mean(student), F.softplus(self.variance) + _LEAST_VARIANCE, teacher)


class Vid(Distiller[VidSettings]):
    """L = ce_weight · CE + information_weight · Σ over stages of `gaussian_loss`, stages [B, C_i, H_i, W_i].

    The regressors, the softplus of the variance and the defaults (1 and 1, variance 5) are RepDistiller's.
    """

    def __init__(self, settings: VidSettings, student: Side, teacher: Side, train_labels: Tensor) -> None:
        super().__init__(settings, student, teacher, train_labels)
        self.predictions = nn.ModuleList(
            _StagePrediction(student_stage[1], teacher_stage[1], settings.initial_variance)
            for student_stage, teacher_stage in aligned(student.stages, teacher.stages)
        )

    def losses(self, student: Taps, teacher: Taps, batch: Batch) -> Losses:
        pairs = zip(self.predictions, aligned(student.stages, teacher.stages), strict=True)
        losses = [predict(full_precision(own), full_precision(other)) for predict, (own, other) in pairs]
        return {"information": torch.stack(losses).sum}
