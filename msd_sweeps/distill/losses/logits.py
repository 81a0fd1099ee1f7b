"""What most methods add to their own loss: cross-entropy with the labels and distillation of the logits."""

import torch.nn.functional as F
from torch import Tensor, float64

from msd_sweeps.distill.losses.distiller import Batch
from msd_sweeps.distill.models.network import Taps
from msd_sweeps.space.methods import LogitSettings


def full_precision(tensor: Tensor) -> Tensor:
    """The tensor in float32, or as it is in float64: losses are never computed in bfloat16."""
    return tensor if tensor.dtype == float64 else tensor.float()


def soft_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T² · KL(softmax(teacher / T) ‖ softmax(student / T)) along the last axis: [..., K], [..., K] -> [...].

    Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network, 2015. The factor T² keeps the size
    of the gradients when the temperature changes.
    """
    log_student = F.log_softmax(student / temperature, dim=-1)
    log_teacher = F.log_softmax(teacher / temperature, dim=-1)
    return F.kl_div(log_student, log_teacher, reduction="none", log_target=True).sum(-1) * temperature**2


def label_term(weight: float, student: Taps, batch: Batch) -> dict[str, Tensor]:
    """The weighted cross-entropy "ce", absent where its weight is 0."""
    if weight == 0:
        return {}
    return {"ce": weight * F.cross_entropy(full_precision(student.logits), batch.labels)}


def logit_terms(settings: LogitSettings, student: Taps, teacher: Taps, batch: Batch) -> dict[str, Tensor]:
    """The weighted terms "ce" and "kd", each absent where its weight is 0."""
    terms = label_term(settings.ce_weight, student, batch)
    if settings.kd_weight > 0:
        student_logits, teacher_logits = (full_precision(student.logits), full_precision(teacher.logits.detach()))
        divergence = soft_divergence(student_logits, teacher_logits, settings.temperature)
        terms["kd"] = settings.kd_weight * divergence.mean()
    return terms


def warm_up(epoch: int, epochs: int) -> float:
    """What a loss is multiplied with that grows over its first `epochs`: 1/epochs in the first, then
    2/epochs."""
    return min((epoch + 1) / epochs, 1.0) if epochs > 0 else 1.0
