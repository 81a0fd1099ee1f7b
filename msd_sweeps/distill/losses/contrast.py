"""InfoNCE between paired rows, for many independent groups in one batched matrix product."""

import torch
import torch.nn.functional as F
from torch import Tensor


def directions(rows: Tensor, dim: int = -1) -> Tensor:
    """Rows of unit length along `dim`. A zero row stays zero and carries no gradient: it has no direction."""
    squares = rows.square().sum(dim, keepdim=True)
    present = squares > 1e-24
    return rows * torch.where(present, torch.rsqrt(torch.where(present, squares, 1.0)), 0.0)


def info_nce(student: Tensor, teacher: Tensor, temperature: float, bias: Tensor | None = None) -> Tensor:
    """Contrast each row with the rows of its group: [G, N, D], [G, N, D] -> losses [G, N].

    −log( e^{⟨s_n, t_n⟩/τ} / Σ_m e^{⟨s_n, t_m⟩/τ + bias_nm} ) on rows of unit length; `bias` [N, N] is −∞
    where m is no negative of n, and 0 on the diagonal.
    """
    groups, count, _ = student.shape
    other = teacher.transpose(1, 2)
    if bias is None:
        logits = torch.bmm(student / temperature, other)
    else:
        logits = torch.baddbmm(bias, student / temperature, other)
    own = torch.arange(count, device=logits.device).repeat(groups)
    return F.cross_entropy(logits.flatten(0, 1), own, reduction="none").view(groups, count)


def sample_wise(student: Tensor, teacher: Tensor, temperature: float, bias: Tensor | None = None) -> Tensor:
    """Tell the samples apart by each region: [B, R, C], [B, R, C] -> losses [R, B]."""
    student_rows, teacher_rows = directions(student).transpose(0, 1), directions(teacher).transpose(0, 1)
    return info_nce(student_rows, teacher_rows, temperature, bias)


def feature_wise(student: Tensor, teacher: Tensor, temperature: float, weights: Tensor | None = None) -> Tensor:
    """Tell the channels apart by their course over the batch: [B, R, C], [B, R, C] -> losses [R, C].

    `weights` [B, R] says how much each row counts in the inner products over the batch. Row and column
    contrast as in Contrastive Clustering (Li et al., AAAI 2021).
    """
    if weights is not None:
        roots = weights.sqrt().unsqueeze(-1)
        student, teacher = student * roots, teacher * roots
    student_columns, teacher_columns = (
        directions(student, 0).permute(1, 2, 0),
        directions(teacher, 0).permute(1, 2, 0),
    )
    return info_nce(student_columns, teacher_columns, temperature)
