"""Relational knowledge distillation (Park et al., CVPR 2019, arXiv 1904.05068)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from msd_sweeps.distill.losses.distiller import Batch, Distiller, Losses, directions, full_precision, of_all_workers
from msd_sweeps.distill.models.network import Taps
from msd_sweeps.space.methods import RkdSettings


def relative_distances(features: Tensor) -> Tensor:
    """Euclidean distances of all pairs, divided by their mean over different samples: [B, D] -> [B, B]."""
    squares = features.square().sum(1)
    apart = squares.unsqueeze(0) + squares.unsqueeze(1) - 2 * features @ features.t()
    count = len(features)
    others = 1 - torch.eye(count, dtype=features.dtype, device=features.device)
    distances = apart.clamp_min(1e-12).sqrt() * others
    return distances / (distances.sum() / (count * (count - 1)))


def angles(features: Tensor) -> Tensor:
    """Cosines of the angles at sample i between samples j and k: [B, D] -> [i, j, k]."""
    sides = directions(features.unsqueeze(0) - features.unsqueeze(1))
    return torch.bmm(sides, sides.transpose(1, 2))


def distance_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Smooth L1 between the relative distances in both batches: [B, D_s], [B, D_t] -> scalar."""
    return F.smooth_l1_loss(relative_distances(student), relative_distances(teacher))


def angle_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Smooth L1 between the angles of all triples in both batches: [B, D_s], [B, D_t] -> scalar."""
    return F.smooth_l1_loss(angles(student), angles(teacher))


class Relational(Distiller[RkdSettings]):
    """L = ce_weight · CE + distance_weight · `distance_loss` + angle_weight · `angle_loss` of pooled features.

    Pooled features are [B, D_s] and [B, D_t]. Takes B³ values for the angles. Means run over all pairs and triples,
    also those of a sample with itself, as in RepDistiller, whose weights (25 and 50) are the defaults.
    """

    def losses(self, student: Taps, teacher: Taps, batch: Batch) -> Losses:
        features = of_all_workers(full_precision(student.pooled)), of_all_workers(full_precision(teacher.pooled))
        return {"distance": lambda: distance_loss(*features), "angle": lambda: angle_loss(*features)}
