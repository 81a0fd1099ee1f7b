"""Wasserstein contrastive representation distillation (Chen et al., CVPR 2021, arXiv 2012.08674)."""

import math

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from msd_sweeps.distill.losses.crd import Memory
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
from msd_sweeps.space.methods import WcordSettings


def critic_gap(scores: Tensor) -> Tensor:
    """The critic's mean over negatives minus its value of the positive (column 0): [B, 1 + M] -> [B].

    Its negative is the dual form of the Wasserstein distance between joint and independent pairs, which a 1-Lipschitz
    critic maximises.
    """
    return scores[:, 1:].mean(1) - scores[:, 0]


@torch.no_grad()
def transport_plan(cost: Tensor, entropy: float, iterations: int) -> Tensor:
    """The plan [N, M] of least cost between two uniform distributions, with entropic regularisation.

    Sinkhorn's iterations on logarithms (Cuturi, NeurIPS 2013).
    """
    log_kernel = -cost / entropy
    log_rows, log_columns = -math.log(cost.shape[0]), -math.log(cost.shape[1])
    columns = torch.zeros_like(cost[0])
    for _ in range(iterations):
        rows = log_rows - (log_kernel + columns).logsumexp(1)
        columns = log_columns - (log_kernel + rows.unsqueeze(1)).logsumexp(0)
    return (log_kernel + rows.unsqueeze(1) + columns).exp()


def transport_loss(student: Tensor, teacher: Tensor, entropy: float, iterations: int) -> Tensor:
    """Σ plan · cost, the cost 1 − cosine: rows of unit length [B, D], [B, D] -> scalar.

    The plan is held constant: at the optimum the cost's gradient is all there is.
    """
    cost = 1 - student @ teacher.t()
    return (transport_plan(cost.detach(), entropy, iterations) * cost).sum()


class Wcord(Distiller[WcordSettings]):
    """L = ce_weight · CE + global_weight · (critic gaps of both sides) + local_weight · `transport_loss`.

    Global: pooled features through spectrally normalised projections, then at unit length, so that their inner product
    is a bounded critic that is 1-Lipschitz in either feature; negatives come from the memory of `crd`. Local: entropic
    optimal transport between the batch's features in the same space.

    There is no reference code. The paper states both forms, the spectral normalisation and the memory; the form of the
    critic, equal means instead of M times the negatives' one, the regularisation and `local_weight` are our choices.
    """

    def __init__(self, settings: WcordSettings, student: Side, teacher: Side, train_labels: Tensor) -> None:
        super().__init__(settings, student, teacher, train_labels)
        self.embed_student = spectral_norm(nn.Linear(student.pooled[-1], settings.width))
        self.embed_teacher = spectral_norm(nn.Linear(teacher.pooled[-1], settings.width))
        self.memory = Memory(train_labels, settings.width, settings.num_negatives, settings.momentum)

    def losses(self, student: Taps, teacher: Taps, batch: Batch) -> Losses:
        features = (
            directions(self.embed_student(full_precision(student.pooled))),
            directions(self.embed_teacher(full_precision(teacher.pooled))),
        )

        def critic_loss() -> Tensor:
            student_scores, teacher_scores = self.memory.scores(*features, self.memory.draw(batch.index))
            self.memory.remember(*features, batch.index)
            return (critic_gap(student_scores) + critic_gap(teacher_scores)).mean()

        def local_loss() -> Tensor:
            own, other = map(of_all_workers, features)
            return transport_loss(own, other, self.settings.entropy, self.settings.iterations)

        return {"global": critic_loss, "local": local_loss}
