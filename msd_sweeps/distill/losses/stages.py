"""Pairing the stages of two networks, and maps of different size."""

from typing import TypeVar

import torch.nn.functional as F
from torch import Tensor

Stage = TypeVar("Stage")


def aligned(student: tuple[Stage, ...], teacher: tuple[Stage, ...]) -> list[tuple[Stage, Stage]]:
    """The stages of both networks in pairs; the deeper network's first stages have no partner."""
    depth = min(len(student), len(teacher))
    return list(zip(student[-depth:], teacher[-depth:], strict=True))


def same_size(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Two maps [B, C, H, W], each adaptively pooled down where the other is smaller."""
    height = min(student.shape[-2], teacher.shape[-2])
    width = min(student.shape[-1], teacher.shape[-1])
    if student.shape[-2:] != (height, width):
        student = F.adaptive_avg_pool2d(student, (height, width))
    if teacher.shape[-2:] != (height, width):
        teacher = F.adaptive_avg_pool2d(teacher, (height, width))
    return student, teacher
