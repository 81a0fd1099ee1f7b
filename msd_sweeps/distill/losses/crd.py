"""Contrastive representation distillation (Tian, Krishnan and Isola, ICLR 2020, arXiv 1910.10699), and its memory."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from msd_sweeps.distill.device import workers
from msd_sweeps.distill.draws import LOW_32_BITS, scrambled
from msd_sweeps.distill.losses.distiller import (
    Batch,
    Distiller,
    Losses,
    Side,
    directions,
    full_precision,
    of_all_workers,
)
from msd_sweeps.distill.models.network import Taps
from msd_sweeps.space.methods import CrdSettings


class Memory(nn.Module):
    """The last features of every training image, as negatives: two tables [N, width] of unit features.

    The negatives of a step are a pure function of the step's number, which is a buffer: a run resumed from its state
    draws the same ones, on a CPU, on a GPU and inside a captured CUDA graph.

    labels: [N], int64, of the training images in use. Raises ValueError where they are all of one class.
    """

    def __init__(self, labels: Tensor, width: int, num_negatives: int, momentum: float) -> None:
        super().__init__()
        self.num_negatives, self.momentum = num_negatives, momentum
        spread = math.sqrt(3 / width)  # of a uniform distribution whose rows have length 1 on average
        self.student = nn.Buffer(torch.empty(len(labels), width).uniform_(-spread, spread))
        self.teacher = nn.Buffer(torch.empty(len(labels), width).uniform_(-spread, spread))
        self.step = nn.Buffer(torch.zeros((), dtype=torch.int64))
        # The images class by class, and of each image where its class begins there and how large it is.
        counts = labels.bincount()
        if counts.max() == len(labels):
            raise ValueError("negatives come from other classes, but the training images are all of one")
        self.by_class = nn.Buffer(labels.argsort(stable=True), persistent=False)
        self.first = nn.Buffer((counts.cumsum(0) - counts)[labels], persistent=False)
        self.siblings = nn.Buffer(counts[labels], persistent=False)

    def draw(self, index: Tensor) -> Tensor:
        """Positions [B, 1 + M]: each image's own, then its negatives, uniform over the images of other classes and not
        distinct."""
        rank, count = workers()
        rows = torch.arange(rank, len(index) * count, count, device=index.device).unsqueeze(1)  # in the whole batch
        numbers = (rows * self.num_negatives + torch.arange(self.num_negatives, device=index.device)).flatten()
        key = scrambled(self.step & LOW_32_BITS)
        numbers = scrambled(numbers).add_(key).bitwise_and_(LOW_32_BITS)
        siblings = self.siblings[index].unsqueeze(1)
        others = len(self.student) - siblings
        places = scrambled(numbers).view(len(index), -1).mul_(others).bitwise_right_shift_(32)
        places += torch.where(places >= self.first[index].unsqueeze(1), siblings, 0)  # step over its own class
        return torch.cat([index.unsqueeze(1), self.by_class[places]], dim=1)

    def scores(self, student: Tensor, teacher: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Inner products of each network's features with the other's remembered ones: two [B, 1 + M].

        One product with a whole table and a choice among its results touches far less memory than gathering 1 + M rows
        for each image does. The copies are what the backward pass reads after `remember`.
        """
        teacher_table = self.teacher.to(student.dtype, copy=True)
        student_table = self.student.to(teacher.dtype, copy=True)
        return (student @ teacher_table.t()).gather(1, positions), (teacher @ student_table.t()).gather(1, positions)

    @torch.no_grad()
    def remember(self, student: Tensor, teacher: Tensor, index: Tensor) -> None:
        """Move the rows of a batch, over all workers, towards its features and count the step."""
        student, teacher, index = of_all_workers(student), of_all_workers(teacher), of_all_workers(index)
        for table, features in ((self.student, student), (self.teacher, teacher)):
            rows = table[index].lerp(features.to(table.dtype), 1 - self.momentum)
            table.index_copy_(0, index, directions(rows))
        self.step.add_(1)


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

    def __init__(self, settings: CrdSettings, student: Side, teacher: Side, train_labels: Tensor) -> None:
        super().__init__(settings, student, teacher, train_labels)
        self.num_train = len(train_labels)
        self.embed_student = nn.Linear(student.pooled[-1], settings.width)
        self.embed_teacher = nn.Linear(teacher.pooled[-1], settings.width)
        self.memory = Memory(train_labels, settings.width, settings.num_negatives, settings.momentum)
        self.log_normalisers = nn.Buffer(torch.zeros(2))

    def losses(self, student: Taps, teacher: Taps, batch: Batch) -> Losses:
        features = (
            directions(self.embed_student(full_precision(student.pooled))),
            directions(self.embed_teacher(full_precision(teacher.pooled))),
        )
        products = self.memory.scores(*features, self.memory.draw(batch.index))
        scores = [side / self.settings.contrast_temperature for side in products]
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
        rows = of_all_workers(torch.stack([side.logsumexp(1) for side in scores], dim=1))  # [B, 2]
        estimate = rows.logsumexp(0) - math.log(len(rows) * scores[0].shape[1] / self.num_train)
        estimate = estimate.to(self.log_normalisers.dtype)
        self.log_normalisers.copy_(torch.where(self.memory.step == 0, estimate, self.log_normalisers))
