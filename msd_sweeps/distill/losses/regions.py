"""Multi-scale decoupling: a feature map becomes rows, one per region of each scale.

Pooling is linear, so all the scales together, and the pooling that brings two maps of different size to one grid, are a
single constant matrix; a step costs one matrix product for each network.
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Size, Tensor, nn

from msd_sweeps.distill.losses.distiller import full_precision

Stride = Literal["window", "half"]


def pool_scale(maps: Tensor, scale: int, stride: Stride) -> Tensor:
    """Average the windows of one scale: [B, C, H, W] -> [B, C, rows, columns].

    Windows of scale k have 1/k of each side. `window` tiles the map with k × k of them (where k does not divide the
    side, as adaptive_avg_pool2d does: neighbours may share a line); `half` slides by half a window.
    """
    height, width = maps.shape[-2:]
    finest = min(height, width)
    if scale > finest:
        raise ValueError(f"scale {scale} is finer than the {height} × {width} feature map; its finest is {finest}")
    if stride == "window":
        return F.adaptive_avg_pool2d(maps, scale)
    window = (height // scale, width // scale)
    return F.avg_pool2d(maps, window, stride=(max(1, window[0] // 2), max(1, window[1] // 2)))


def common_grid(*maps: Size) -> tuple[int, int]:
    """Height and width to which maps of different size can all be pooled down."""
    return min(shape[-2] for shape in maps), min(shape[-1] for shape in maps)


class Decoupling(nn.Module):
    """The regions of maps of one size, in the order of the scales: [B, C, H, W] -> [B, R, C].

    counts: how many regions each scale has; R is their sum.
    """

    def __init__(self, shape: Size, grid: tuple[int, int], scales: Sequence[int], stride: Stride = "window") -> None:
        super().__init__()
        height, width = shape[-2:]
        cells = torch.eye(height * width, dtype=torch.float64).view(-1, 1, height, width)
        cells = F.adaptive_avg_pool2d(cells, grid)
        per_scale = [pool_scale(cells, scale, stride).flatten(1) for scale in scales]
        self.counts = [regions.shape[1] for regions in per_scale]
        matrix = torch.cat(per_scale, dim=1).t().contiguous().float()
        self.register_buffer("matrix", matrix, persistent=False)  # [R, H·W]

    def forward(self, maps: Tensor) -> Tensor:
        maps = full_precision(maps)
        cells = maps.permute(0, 2, 3, 1).flatten(1, 2)  # without a copy where the map is channels-last
        matrix = self.get_buffer("matrix").to(maps.dtype)
        return torch.bmm(matrix.expand(len(maps), -1, -1), cells)
