"""A memory of the last features of every training image, the source of negatives for `crd` and `wcord`."""

import math

import torch
from torch import Tensor, distributed, nn

from msd_sweeps.distill.losses.distiller import directions

_LOW_32_BITS = 0xFFFFFFFF


def scrambled(numbers: Tensor) -> Tensor:
    """Integers in [0, 2³²), int64, made to look random: an invertible mixing of their bits."""
    mixed = numbers ^ (numbers >> 16)
    mixed.mul_(0x21F0AAAD).bitwise_and_(_LOW_32_BITS)
    mixed.bitwise_xor_(mixed >> 15)
    mixed.mul_(0x735A2D97).bitwise_and_(_LOW_32_BITS)
    return mixed.bitwise_xor_(mixed >> 15)


class Memory(nn.Module):
    """Two tables [N, width] of unit features, refreshed where a batch has been: by its last feature.

    The negatives of a step are a pure function of the step's number, which is a buffer: a run resumed from its state
    draws the same ones, on a CPU, on a GPU and inside a captured CUDA graph.

    labels: [N], int64, of the training images in use. Raises ValueError where they are all of one class.
    """

    student: Tensor
    teacher: Tensor
    step: Tensor
    by_class: Tensor
    first: Tensor
    siblings: Tensor

    def __init__(self, labels: Tensor, width: int, num_negatives: int, momentum: float) -> None:
        super().__init__()
        self.num_negatives = num_negatives
        self.momentum = momentum
        spread = math.sqrt(3 / width)  # of a uniform distribution whose rows have length 1 on average
        for name in ("student", "teacher"):
            self.register_buffer(name, torch.empty(len(labels), width).uniform_(-spread, spread))
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        # The images class by class, and of each image where its class begins there and how large it is.
        counts = labels.bincount()
        if counts.max() == len(labels):
            raise ValueError("negatives come from other classes, but the training images are all of one")
        self.register_buffer("by_class", labels.argsort(stable=True), persistent=False)
        self.register_buffer("first", (counts.cumsum(0) - counts)[labels], persistent=False)
        self.register_buffer("siblings", counts[labels], persistent=False)

    def draw(self, index: Tensor) -> Tensor:
        """Positions [B, 1 + M]: each image's own, then its negatives, uniform over the images of other classes and not
        distinct."""
        count = len(index) * self.num_negatives
        key = scrambled(self.step & _LOW_32_BITS)
        numbers = scrambled(torch.arange(count, device=index.device)).add_(key).bitwise_and_(_LOW_32_BITS)
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
        student_scores = (student @ teacher_table.t()).gather(1, positions)
        teacher_scores = (teacher @ student_table.t()).gather(1, positions)
        return student_scores, teacher_scores

    @torch.no_grad()
    def remember(self, student: Tensor, teacher: Tensor, index: Tensor) -> None:
        """Move the rows of a batch, over all workers, towards its features and count the step."""
        student, teacher, index = _of_all_workers(student), _of_all_workers(teacher), _of_all_workers(index)
        for table, features in ((self.student, student), (self.teacher, teacher)):
            rows = table[index].lerp(features.to(table.dtype), 1 - self.momentum)
            table.index_copy_(0, index, directions(rows))
        self.step.add_(1)


def _of_all_workers(part: Tensor) -> Tensor:
    """The parts of a batch that data-parallel workers hold, so that their memories stay the same."""
    if not distributed.is_initialized() or distributed.get_world_size() == 1:
        return part
    parts = [torch.empty_like(part) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, part.contiguous())
    return torch.cat(parts)
