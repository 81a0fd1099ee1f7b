"""Decoupled knowledge distillation (Zhao et al., CVPR 2022, arXiv 2203.08679)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from msd_sweeps.distill.losses.distiller import Batch, Distiller, Losses, full_precision, warm_up
from msd_sweeps.distill.models.network import Taps
from msd_sweeps.space.methods import DkdSettings


def without_target(logits: Tensor, labels: Tensor) -> Tensor:
    """The logits of the classes other than the label: [..., K], [...] -> [..., K - 1]."""
    position = torch.arange(logits.shape[-1] - 1, device=logits.device).expand(*labels.shape, -1)
    return logits.gather(-1, position + (position >= labels.unsqueeze(-1)))


def decoupled_divergence(student: Tensor, teacher: Tensor, labels: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """T² · TCKD and T² · NCKD of each row: [..., K], [..., K], [...] -> [...], [...].

    With p the softmax at temperature T and p̂ the softmax over the classes other than the label, TCKD = KL((p_label, 1
    − p_label)_teacher ‖ the same of the student) and NCKD = KL(p̂_teacher ‖ p̂_student), so that KL(p_teacher ‖
    p_student) = TCKD + (1 − p_label of the teacher) · NCKD.
    """
    student, teacher = student / temperature, teacher / temperature
    student_rest, teacher_rest = without_target(student, labels), without_target(teacher, labels)
    student_parts = _target_and_rest(student, student_rest, labels)
    teacher_parts = _target_and_rest(teacher, teacher_rest, labels)
    target = (teacher_parts.exp() * (teacher_parts - student_parts)).sum(-1)
    log_student, log_teacher = F.log_softmax(student_rest, dim=-1), F.log_softmax(teacher_rest, dim=-1)
    non_target = F.kl_div(log_student, log_teacher, reduction="none", log_target=True).sum(-1)
    return target * temperature**2, non_target * temperature**2


def _target_and_rest(logits: Tensor, rest: Tensor, labels: Tensor) -> Tensor:
    """log p_label and log(1 − p_label): [..., 2]. From the logits, for 1 − p_label may round to 0."""
    target = logits.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    return torch.stack([target, rest.logsumexp(-1)], dim=-1).log_softmax(-1)


class Dkd(Distiller[DkdSettings]):
    """L = ce_weight · CE + warm-up · T² · (target_weight · TCKD + non_target_weight · NCKD), batch mean.

    The weights are the paper's α and β; the warm-up, linear over `warmup_epochs`, and the defaults (CE 1, α 1, β 8, T
    4, 20 epochs) are mdistiller's.
    """

    def scale(self, epoch: int) -> float:
        return warm_up(epoch, self.settings.warmup_epochs)

    def losses(self, student: Taps, teacher: Taps, batch: Batch) -> Losses:
        logits = full_precision(student.logits), full_precision(teacher.logits)
        target, non_target = decoupled_divergence(*logits, batch.labels, self.settings.temperature)
        return {"target": target.mean, "non_target": non_target.mean}
