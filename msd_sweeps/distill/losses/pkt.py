"""Probabilistic knowledge transfer (Passalis and Tefas, ECCV 2018, arXiv 1803.10837)."""

import torch
from torch import Tensor

from msd_sweeps.distill.losses.distiller import Batch, Distiller, Losses, directions, full_precision, of_all_workers
from msd_sweeps.distill.models.network import Taps
from msd_sweeps.space.methods import PktSettings


def probability_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """mean over (i, j) of p_ij log(p_ij / q_ij): [B, D_s], [B, D_t] -> scalar.

    p is the teacher's and q the student's (1 + cosine of samples i and j) / 2, each row divided by its sum. The mean
    over j too, instead of KL's sum, is the reference code's and explains the large weight.
    """
    target, own = _neighbourhoods(teacher), _neighbourhoods(student)
    return (target * torch.log((target + 1e-7) / (own + 1e-7))).mean()


def _neighbourhoods(features: Tensor) -> Tensor:
    unit = directions(features)
    affinity = (unit @ unit.t() + 1) / 2
    return affinity / affinity.sum(1, keepdim=True)


class Pkt(Distiller[PktSettings]):
    """L = ce_weight · CE + probability_weight · `probability_loss` of pooled features [B, D_s] and [B, D_t].

    Defaults (1 and 30000) are RepDistiller's.
    """

    def losses(self, student: Taps, teacher: Taps, batch: Batch) -> Losses:
        features = of_all_workers(full_precision(student.pooled)), of_all_workers(full_precision(teacher.pooled))
        return {"probability": lambda: probability_loss(*features)}
