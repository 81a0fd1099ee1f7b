"""Contrastive representation distillation (Tian, Krishnan and Isola, ICLR 2020, arXiv 1910.10699)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from msd_sweeps.distill.losses.distiller import Batch, Distiller, Losses, Side, directions, full_precision
from msd_sweeps.distill.losses.memory import Memory
from msd_sweeps.distill.models.network import Taps
from msd_sweeps.space.methods import CrdSettings


def noise_contrast(scores: Tensor, log_normaliser: Tensor, num_train: int) -> Tensor:
    """Binary cross-entropy of telling the positive from M noise samples: [B, 1 + M] -> losses [B].

    With P = e^score / Z and P_n = 1 / num_train, the positive (column 0) costs −log(P / (P + M P_n)) and each negative
    −log(M P_n / (P + M P_n)). Z is fixed, as in noise-contrastive estimation with a known normaliser.
    """
    num_negatives = scores.shape[1] - 1
    odds = scores - log_normaliser - math.log(num_negatives / num_train)
    return F.softplus(-odds[:, 0]) + F.softplus(odds[:, 1:]).sum(1)


class Crd(Distiller[CrdSettings]):
    """L = ce_weight · CE + contrast_weight · (noise_contrast of the student + of the teacher), batch mean.

    Pooled features of both networks are projected linearly to `width` and normalised; the student's are compared with
    remembered features of the teacher and the teacher's with those of the student, at `contrast_temperature`. Both
    projections are trained; the teacher is not. Z of each side is num_train · mean(e^score) of the first batch.

    Defaults (weight 0.8, temperature 0.07, 16,384 negatives, momentum 0.5, width 128) are RepDistiller's. As in its
    code, negatives are images of other classes, P_n is 1 / num_train all the same, and Z is fixed by the first batch.
    Differs from it: negatives are drawn by a counter, with replacement; no ε of 1e-7 in the odds, which are computed
    from the scores.
    """

    log_normalisers: Tensor

    def __init__(self, settings: CrdSettings, student: Side, teacher: Side, train_labels: Tensor) -> None:
        super().__init__(settings, student, teacher, train_labels)
        self.num_train = len(train_labels)
        self.embed_student = nn.Linear(student.pooled[-1], settings.width)
        self.embed_teacher = nn.Linear(teacher.pooled[-1], settings.width)
        self.memory = Memory(train_labels, settings.width, settings.num_negatives, settings.momentum)
        self.register_buffer("log_normalisers", torch.zeros(2))

    def losses(self, student: Taps, teacher: Taps, batch: Batch) -> Losses:
        features = (
            directions(self.embed_student(full_precision(student.pooled))),
            directions(self.embed_teacher(full_precision(teacher.pooled))),
        )
        both = self.memory.scores(*features, self.memory.draw(batch.index))
        scores = [products / self.settings.contrast_temperature for products in both]
        self._fix_normalisers(scores)
        losses = [
            noise_contrast(side, log_normaliser.to(side.dtype), self.num_train)
            for side, log_normaliser in zip(scores, self.log_normalisers.unbind(), strict=True)
        ]
        self.memory.remember(*features, batch.index)
        return {"contrast": (losses[0] + losses[1]).mean}

    @torch.no_grad()
    def _fix_normalisers(self, scores: list[Tensor]) -> None:
        """Estimate log Z from the first batch; later ones leave it, without asking the device which one it is."""
        estimates = [side.flatten().logsumexp(0) - math.log(side.numel() / self.num_train) for side in scores]
        estimate = torch.stack(estimates).to(self.log_normalisers.dtype)
        self.log_normalisers.copy_(torch.where(self.memory.step == 0, estimate, self.log_normalisers))
