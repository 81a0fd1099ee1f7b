"""Wide ResNets of Zagoruyko & Komodakis 2016 (pre-activation, depth 6n+4), names as in RepDistiller."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from msd_sweeps.distill.models.network import Network, Taps, initialise_he


class Block(nn.Module):
    """bn-relu-conv-bn-relu-conv plus the shortcut (from the first relu where the width changes)."""

    def __init__(self, channels_in: int, channels: int, stride: int):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        # the key of published checkpoints
        self.convShortcut = nn.Conv2d(channels_in, channels, 1, stride, bias=False) if channels_in != channels else None

    def activate(self, x: Tensor) -> Tensor:
        """The activation of what the block is given: [B, C_in, H, W] -> [B, C_in, H, W]."""
        return F.relu(self.bn1(x), inplace=True)

    def residual(self, x: Tensor, active: Tensor) -> Tensor:
        """The block's output [B, C, H/stride, W/stride] from its input and the activation of that."""
        out = self.conv2(F.relu(self.bn2(self.conv1(active)), inplace=True))
        return out + (x if self.convShortcut is None else self.convShortcut(active))

    def forward(self, x: Tensor) -> Tensor:
        return self.residual(x, self.activate(x))


class Stage(nn.Module):
    """n blocks, the first of which strides."""

    def __init__(self, channels_in: int, channels: int, blocks: int, stride: int):
        super().__init__()
        first = Block(channels_in, channels, stride)
        self.layer = nn.Sequential(first, *(Block(channels, channels, 1) for _ in range(blocks - 1)))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The activated input and the (not yet activated) output of the stage."""
        blocks: list[Any] = [*self.layer]
        active = blocks[0].activate(x)
        x = blocks[0].residual(x, active)
        for block in blocks[1:]:
            x = block(x)
        return active, x


class WideResNet(Network):
    """Depth 6n+4, widths 16, 16k, 32k, 64k; last map [B, 64k, H/4, W/4].

    A stage's activation is the first thing that the next stage computes, and tapped there. (RepDistiller's hint
    methods read the sum before it, without batch norm and relu.)
    """

    head_path = "fc"

    def __init__(self, depth: int, widen: int, num_classes: int):
        super().__init__()
        blocks, rest = divmod(depth - 4, 6)
        if rest:
            raise ValueError(f"a wide ResNet has 6n+4 layers, not {depth}")
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.block1 = Stage(16, 16 * widen, blocks, stride=1)
        self.block2 = Stage(16 * widen, 32 * widen, blocks, stride=2)
        self.block3 = Stage(32 * widen, 64 * widen, blocks, stride=2)
        self.bn1 = nn.BatchNorm2d(64 * widen)
        self.fc = nn.Linear(64 * widen, num_classes)
        initialise_he(self)
        nn.init.zeros_(self.fc.bias)

    def forward(self, images: Tensor) -> Taps:
        _, x = self.block1(self.conv1(images))
        stage1, x = self.block2(x)
        stage2, x = self.block3(x)
        last = F.relu(self.bn1(x), inplace=True)
        return self.taps((stage1, stage2, last), last)
