"""Similarity-preserving knowledge distillation (Tung and Mori, ICCV 2019, arXiv 1907.09682)."""

from torch import Tensor

from msd_sweeps.distill.losses.distiller import Batch, Distiller, Losses, directions, full_precision, of_all_workers
from msd_sweeps.distill.models.network import Taps
from msd_sweeps.space.methods import SpSettings


def similarity_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """‖Ĝ_t − Ĝ_s‖²_F / B², with Ĝ the rows of F Fᵀ at unit length: [B, ...], [B, ...] -> scalar."""
    student, teacher = student.flatten(1), teacher.flatten(1)
    return (directions(student @ student.t()) - directions(teacher @ teacher.t())).square().mean()


class SimilarityPreserving(Distiller[SpSettings]):
    """L = ce_weight · CE + similarity_weight · `similarity_loss` of the last feature maps [B, C, H, W].

    Defaults (1 and 3000) are RepDistiller's. It compares the last stages, which MobileNetV2 and ShuffleNetV2 follow
    with one more convolution; here it is the map that is pooled, for every network.
    """

    def losses(self, student: Taps, teacher: Taps, batch: Batch) -> Losses:
        maps = of_all_workers(full_precision(student.last)), of_all_workers(full_precision(teacher.last))
        return {"similarity": lambda: similarity_loss(*maps)}
