"""Attention transfer (Zagoruyko and Komodakis, ICLR 2017, arXiv 1612.03928)."""

import torch
from torch import Tensor

from msd_sweeps.distill.losses.distiller import Batch, Distiller, Losses, aligned, directions, full_precision, same_size
from msd_sweeps.distill.models.network import Taps
from msd_sweeps.space.methods import AtSettings


def attention_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """mean (Â_s − Â_t)² with Â the mean over channels of F², flat and of unit length: two [B, C, H, W] -> scalar.

    The channels of both may differ; where the sides do, the larger map is pooled down first.
    """
    student, teacher = same_size(student, teacher)
    student_attention = directions(student.square().mean(1).flatten(1))
    teacher_attention = directions(teacher.square().mean(1).flatten(1))
    return (student_attention - teacher_attention).square().mean()


class AttentionTransfer(Distiller[AtSettings]):
    """L = ce_weight · CE + attention_weight · Σ over stages of `attention_loss`, stages [B, C_i, H_i, W_i].

    Defaults (1 and 1000) are RepDistiller's, which leaves out stem and pooled features, too.
    """

    def losses(self, student: Taps, teacher: Taps, batch: Batch) -> Losses:
        pairs = aligned(student.stages, teacher.stages)
        losses = [attention_loss(full_precision(own), full_precision(other)) for own, other in pairs]
        return {"attention": torch.stack(losses).sum}
