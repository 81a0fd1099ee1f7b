"""What most losses are made of: full precision, the divergence of softened logits, and a warm-up."""

import torch.nn.functional as F
from torch import Tensor, float64


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


def warm_up(epoch: int, epochs: int) -> float:
    """The factor of a loss that grows linearly over its first `epochs`: 1/epochs in the first, then 2/epochs."""
    return min((epoch + 1) / epochs, 1.0) if epochs > 0 else 1.0
