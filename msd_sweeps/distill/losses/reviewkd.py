"""Distilling knowledge via knowledge review (Chen et al., CVPR 2021, arXiv 2104.09044)."""

import torch
import torch.nn.functional as F
from torch import Size, Tensor, nn

from msd_sweeps.distill.losses.distiller import Batch, Distiller, Losses, Side, aligned, full_precision, warm_up
from msd_sweeps.distill.models.network import Taps
from msd_sweeps.space.methods import ReviewKdSettings


def hierarchical_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """The paper's HCL: mean squared differences of two maps [B, C, H, W] and of their pyramids, as a scalar.

    Levels of side 4, 2 and 1 that are smaller than the map weigh ½, ¼, ⅛ in turn; divided by the sum of the weights.
    """
    loss, weight, total = F.mse_loss(student, teacher), 1.0, 1.0
    for side in (4, 2, 1):
        if side < student.shape[-2]:
            weight /= 2
            total += weight
            pooled = F.adaptive_avg_pool2d(student, side), F.adaptive_avg_pool2d(teacher, side)
            loss = loss + weight * F.mse_loss(*pooled)
    return loss / total


class _Fusion(nn.Module):
    """The paper's ABF: a stage, fused by attention with what the deeper stages gave, takes the teacher's shape."""

    def __init__(self, channels: int, width: int, teacher: Size, is_deepest: bool) -> None:
        super().__init__()
        self.teacher_size = teacher[-2:]
        self.narrow = nn.Sequential(nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width))
        self.widen = nn.Sequential(nn.Conv2d(width, teacher[1], 3, padding=1, bias=False), nn.BatchNorm2d(teacher[1]))
        self.attention = None if is_deepest else nn.Sequential(nn.Conv2d(2 * width, 2, 1), nn.Sigmoid())
        for layer in [*self.narrow, *self.widen]:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_uniform_(layer.weight, a=1)

    def forward(self, stage: Tensor, deeper: Tensor | None) -> tuple[Tensor, Tensor]:
        """The map to compare with the teacher's, and what the next finer stage reviews."""
        fused = self.narrow(stage)
        if self.attention is not None and deeper is not None:
            deeper = F.interpolate(deeper, fused.shape[-2:], mode="nearest")
            share = self.attention(torch.cat([fused, deeper], dim=1))
            fused = fused * share[:, :1] + deeper * share[:, 1:]
        if fused.shape[-2:] != self.teacher_size:
            fused = F.interpolate(fused, self.teacher_size, mode="nearest")
        return self.widen(fused), fused


class ReviewKd(Distiller[ReviewKdSettings]):
    """L = ce_weight · CE + review_weight · warm-up · Σ over stages and pooled features of `hierarchical_loss`.

    From the pooled features to the finest stage, each fusion hands on what it has gathered. As in mdistiller (CE 1,
    review 1, warm-up over 20 epochs, at most 512 channels), with one difference: its teacher's (and in some pairs its
    student's) stages are taken before their activation, ours after it, as every `Taps` has them.
    """

    def __init__(self, settings: ReviewKdSettings, student: Side, teacher: Side, train_labels: Tensor) -> None:
        super().__init__(settings, student, teacher, train_labels)
        pooled = Size([*student.pooled, 1, 1]), Size([*teacher.pooled, 1, 1])
        deep_to_fine = [pooled, *reversed(aligned(student.stages, teacher.stages))]
        width = min(settings.widest, student.pooled[-1])
        self.fusions = nn.ModuleList(
            _Fusion(own[1], width, other, is_deepest=place == 0) for place, (own, other) in enumerate(deep_to_fine)
        )

    def scale(self, epoch: int) -> float:
        return warm_up(epoch, self.settings.warmup_epochs)

    def losses(self, student: Taps, teacher: Taps, batch: Batch) -> Losses:
        pooled = student.pooled[..., None, None], teacher.pooled[..., None, None]
        deep_to_fine = [pooled, *reversed(aligned(student.stages, teacher.stages))]
        gathered, losses = None, []
        for fusion, (student_stage, teacher_stage) in zip(self.fusions, deep_to_fine, strict=True):
            candidate, gathered = fusion(full_precision(student_stage), gathered)
            losses.append(hierarchical_loss(candidate, full_precision(teacher_stage)))
        return {"review": torch.stack(losses).sum}
