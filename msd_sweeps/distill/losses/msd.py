"""Contrastive distillation through multi-scale feature decoupling: a reconstruction.

Wang, Wang and Chen, Contrastive Representation Distillation via Multi-Scale Feature Decoupling, arXiv 2502.05835.

The paper states: both feature maps are decoupled into local features at several scales by sliding-window pooling; local
features are categorised or selected; a sample-wise and a feature-wise contrastive loss compare them; one batch is
enough, without a memory bank; the student gains no parameters. It does not give scales, windows, strides, the rule that
categorises, either formula, temperatures, weights, the tapped layer, or how unequal widths are bridged. All of that is
reconstructed here as settings (`MsdSettings`), with defaults from our own first experiments; no accuracy of the paper
is claimed.

  L = ce_weight · CE + kd_weight · KD + sample_weight · L_sample + feature_weight · L_feature

with L_sample and L_feature the InfoNCE losses below, averaged over the rows of a region, over the regions of a scale,
and over the scales. Where regions carry weights, a scale's average is divided by the sum of its weights (0 where no
region counts), and the columns of the feature-wise loss weigh their samples accordingly. Regions that do not count as
anchors remain negatives of others. Rows are normalised for the sample-wise loss, columns (not of normalised rows) for
the feature-wise one.

What the feature-wise loss contrasts is read in two ways (`feature_pairs`): the channels over the batch, or the regions
of one sample, which a second-hand description of the paper names. Neither is certain.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Size, Tensor, nn

from msd_sweeps.distill.losses.distiller import (
    Batch,
    Distiller,
    Losses,
    Side,
    aligned,
    directions,
    full_precision,
    of_all_workers,
)
from msd_sweeps.distill.models.network import Taps
from msd_sweeps.space.methods import MsdSettings

Stride = Literal["window", "half"]
Contrast = Callable[[Tensor, Tensor, float], Tensor]


def pool_scale(maps: Tensor, scale: int, stride: Stride) -> Tensor:
    """Average the windows of one scale: [B, C, H, W] -> [B, C, rows, columns].

    Windows of scale k have 1/k of each side. `window` tiles the map with k × k of them, `half` slides by half a window,
    which makes (2k − 1) × (2k − 1). Both cover the map: where a window would begin or end within a line, it takes the
    whole line, as adaptive_avg_pool2d does, so neighbours may share lines.
    """
    height, width = maps.shape[-2:]
    finest = min(height, width)
    if scale > finest:
        raise ValueError(f"scale {scale} is finer than the {height} × {width} feature map; its finest is {finest}")
    if stride == "window":
        return F.adaptive_avg_pool2d(maps, scale)
    return half_windows(half_windows(maps, scale, -1), scale, -2)


def half_windows(maps: Tensor, scale: int, dim: int) -> Tensor:
    """Averages of the 2k − 1 windows along one side, window i from i/2k to (i + 2)/2k of it, rounded outwards."""
    side, halves = maps.shape[dim], 2 * scale
    bounds = [(start * side // halves, -(-(start + 2) * side // halves)) for start in range(halves - 1)]
    return torch.cat([maps.narrow(dim, low, high - low).mean(dim, keepdim=True) for low, high in bounds], dim)


def common_grid(*maps: Size) -> tuple[int, int]:
    """Height and width to which maps of different size can all be pooled down."""
    return min(shape[-2] for shape in maps), min(shape[-1] for shape in maps)


class Decoupling(nn.Module):
    """The regions of maps of one size, in the order of the scales: [B, C, H, W] -> [B, R, C].

    Pooling is linear, so all scales, and the pooling that brings two maps to one grid, are a single constant matrix: a
    step costs one matrix product for each network. counts: how many regions each scale has; R is their sum.
    """

    def __init__(self, shape: Size, grid: tuple[int, int], scales: Sequence[int], stride: Stride = "window") -> None:
        super().__init__()
        height, width = shape[-2:]
        cells = torch.eye(height * width, dtype=torch.float64).view(-1, 1, height, width)
        cells = F.adaptive_avg_pool2d(cells, grid)
        per_scale = [pool_scale(cells, scale, stride).flatten(1) for scale in scales]
        self.counts = [regions.shape[1] for regions in per_scale]
        self.matrix = nn.Buffer(torch.cat(per_scale, dim=1).t().contiguous().float(), persistent=False)  # [R, H·W]

    def forward(self, maps: Tensor) -> Tensor:
        maps = full_precision(maps)
        cells = maps.permute(0, 2, 3, 1).flatten(1, 2)  # without a copy where the map is channels-last
        return torch.bmm(self.matrix.to(maps.dtype).expand(len(maps), -1, -1), cells)


def info_nce(student: Tensor, teacher: Tensor, temperature: float, bias: Tensor | None = None) -> Tensor:
    """Contrast each row with the rows of its group: [G, N, D], [G, N, D] -> losses [G, N].

    −log( e^{⟨s_n, t_n⟩/τ} / Σ_m e^{⟨s_n, t_m⟩/τ + bias_nm} ) on rows of unit length; `bias` [N, N] is −∞ where m is no
    negative of n, and 0 on the diagonal.
    """
    groups, count, _ = student.shape
    student, teacher = student / temperature, teacher.transpose(1, 2)
    logits = torch.bmm(student, teacher) if bias is None else torch.baddbmm(bias, student, teacher)
    own = torch.arange(count, device=logits.device).repeat(groups)
    return F.cross_entropy(logits.flatten(0, 1), own, reduction="none").view(groups, count)


def sample_wise(student: Tensor, teacher: Tensor, temperature: float, bias: Tensor | None = None) -> Tensor:
    """Tell the samples apart by each region: [B, R, C], [B, R, C] -> losses [R, B]."""
    return info_nce(directions(student).transpose(0, 1), directions(teacher).transpose(0, 1), temperature, bias)


def across_regions(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Tell the samples and the regions of one scale apart, in one set: [B, R, C], [B, R, C] -> losses [R, B]."""
    samples, regions, _ = student.shape
    student, teacher = directions(student).flatten(0, 1), directions(teacher).flatten(0, 1)
    return info_nce(student.unsqueeze(0), teacher.unsqueeze(0), temperature).view(samples, regions).t()


def region_wise(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Tell the regions of each sample apart: [B, R, C], [B, R, C] -> losses [R, B]; 0 where there is one region."""
    return info_nce(directions(student), directions(teacher), temperature).t()


def feature_wise(student: Tensor, teacher: Tensor, temperature: float, weights: Tensor | None = None) -> Tensor:
    """Tell the channels apart by their course over the batch: [B, R, C], [B, R, C] -> losses [R, C].

    `weights` [B, R] says how much each row counts in the inner products over the batch. Row and column contrast as in
    Contrastive Clustering (Li et al., AAAI 2021).
    """
    if weights is not None:
        roots = weights.sqrt().unsqueeze(-1)
        student, teacher = student * roots, teacher * roots
    return info_nce(directions(student, 0).permute(1, 2, 0), directions(teacher, 0).permute(1, 2, 0), temperature)


def region_shares(weights: Tensor, counts: Sequence[int], scale_weights: Sequence[float] | None = None) -> Tensor:
    """Row weights [B, R] rescaled so that those of each scale sum to the scale's share of the loss.

    `counts` gives the number of regions of each scale. A scale whose weights sum to 0 gets 0, not NaN.
    """
    shares = scale_weights or [1.0] * len(counts)
    parts = [
        part * (share / sum(shares) / part.sum().clamp_min(1e-12))
        for part, share in zip(weights.split(list(counts), dim=1), shares, strict=True)
    ]
    return torch.cat(parts, dim=1)


def other_class_bias(labels: Tensor, dtype: torch.dtype) -> Tensor:
    """[B, B]: −∞ for another sample of the same class, 0 elsewhere."""
    same = labels.unsqueeze(0) == labels.unsqueeze(1)
    bias = torch.zeros(same.shape, dtype=dtype, device=labels.device).masked_fill(same, float("-inf"))
    return bias.fill_diagonal_(0)


class Msd(Distiller[MsdSettings]):
    """The loss above. Maps are compared on the grid of the smallest among the tapped and the last ones."""

    def __init__(self, settings: MsdSettings, student: Side, teacher: Side, train_labels: Tensor) -> None:
        super().__init__(settings, student, teacher, train_labels)
        self.classify_student, self.classify_teacher = student.classify, teacher.classify
        pairs = self._tapped(student, teacher)
        grid = common_grid(student.last, teacher.last, *(shape for pair in pairs for shape in pair))
        decoupling = partial(Decoupling, grid=grid, scales=settings.scales, stride=settings.stride)
        self.decouple_student = nn.ModuleList(decoupling(shape) for shape, _ in pairs)
        self.decouple_teacher = nn.ModuleList(decoupling(shape) for _, shape in pairs)
        self.decouple_labels = decoupling(teacher.last)
        self.projectors = nn.ModuleList(self._projector(*pair) for pair in pairs)
        self.counts = self.decouple_labels.counts
        uniform = region_shares(torch.ones(1, sum(self.counts)), self.counts, settings.scale_weights)
        self.uniform_shares = nn.Buffer(uniform, persistent=False)
        # A scale of one region has nothing to contrast with it in the sample.
        given = settings.scale_weights or [1.0] * len(self.counts)
        self.paired_scale_weights = [weight * (count > 1) for weight, count in zip(given, self.counts, strict=True)]

    def losses(self, student: Taps, teacher: Taps, batch: Batch) -> Losses:
        settings = self.settings
        pairs = self._pairs_of_rows(student, teacher)
        weights, labels = self._row_weights(teacher, batch), of_all_workers(batch.labels)
        if weights is None:
            region_share = self.uniform_shares.squeeze(0)
            row_share = region_share / len(labels)
        else:
            row_share = region_shares(weights, self.counts, settings.scale_weights)
            region_share = row_share.sum(0)

        def sample_loss() -> Tensor:
            temperature = settings.sample_temperature
            if settings.negatives == "all_regions":
                losses = [self._by_scale(across_regions, rows, temperature) for rows in pairs]
            else:
                is_split = settings.negatives == "other_classes"
                bias = other_class_bias(labels, pairs[0][0].dtype) if is_split else None
                losses = [sample_wise(*rows, temperature, bias) for rows in pairs]
            return torch.stack([(loss.t() * row_share).sum() for loss in losses]).mean()

        def feature_loss() -> Tensor:
            temperature = settings.feature_temperature
            if settings.feature_pairs == "channels":
                losses = [feature_wise(*rows, temperature, weights) for rows in pairs]
                return torch.stack([(loss.mean(1) * region_share).sum() for loss in losses]).mean()
            counted = torch.ones_like(pairs[0][0][..., 0]) if weights is None else weights
            share = region_shares(counted, self.counts, self.paired_scale_weights)
            losses = [self._by_scale(region_wise, rows, temperature) for rows in pairs]
            return torch.stack([(loss.t() * share).sum() for loss in losses]).mean()

        return {"sample": sample_loss, "feature": feature_loss}

    def _by_scale(self, contrast: Contrast, rows: tuple[Tensor, Tensor], temperature: float) -> Tensor:
        """Losses [R, B] of each scale's regions among themselves; rows: of student and teacher, [B, R, C]."""
        student, teacher = (side.split(self.counts, dim=1) for side in rows)
        return torch.cat([contrast(*scale, temperature) for scale in zip(student, teacher, strict=True)])

    def _tapped(self, student: Any, teacher: Any) -> list[tuple[Any, Any]]:
        """The maps to compare, of two `Taps`, or their shapes, of two `Side`s."""
        if self.settings.tap == "stages":
            return aligned(student.stages, teacher.stages)
        return [(student.last, teacher.last)]

    def _pairs_of_rows(self, student: Taps, teacher: Taps) -> list[tuple[Tensor, Tensor]]:
        """Rows [B, R, C] of both networks in one space, for each tapped map."""
        pairs = []
        for position, (student_map, teacher_map) in enumerate(self._tapped(student, teacher)):
            student_rows = self.decouple_student[position](student_map)
            teacher_rows = self.decouple_teacher[position](teacher_map)
            if self.settings.projector == "heads":
                student_rows = full_precision(self.classify_student(student_rows))
                teacher_rows = full_precision(self.classify_teacher(teacher_rows)).detach()
            student_rows = self.projectors[position](student_rows)
            pairs.append((of_all_workers(student_rows), of_all_workers(teacher_rows)))
        return pairs

    def _row_weights(self, teacher: Taps, batch: Batch) -> Tensor | None:
        """[B, R]: how much each region counts, by the teacher's opinion of it; None where all count alike."""
        if self.settings.regions == "all":
            return None
        rows = self.decouple_labels(teacher.last)
        agrees = self.classify_teacher(rows).detach().argmax(-1) == batch.labels.unsqueeze(1)
        otherwise = self.settings.disagree_weight if self.settings.regions == "weighted" else 0.0
        return of_all_workers(torch.where(agrees, 1.0, otherwise).to(rows.dtype))

    def _projector(self, student: Size, teacher: Size) -> nn.Module:
        if self.settings.projector == "linear":
            return nn.Linear(student[1], teacher[1])
        if self.settings.projector == "none" and student[1] != teacher[1]:
            raise ValueError(
                f"method.projector: 'none' needs equal widths, but the student taps {student[1]} channels "
                f"and the teacher {teacher[1]}; use 'linear' or 'heads'"
            )
        return nn.Identity()
