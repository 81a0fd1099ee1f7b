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

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The activation of the input [B, C_in, H, W], and the output [B, C, H/stride, W/stride], not yet activated."""
        active = F.relu(self.bn1(x), inplace=True)
        out = self.conv2(F.relu(self.bn2(self.conv1(active)), inplace=True))
        return active, out + (x if self.convShortcut is None else self.convShortcut(active))


def _stage(channels_in: int, channels: int, blocks: int, stride: int) -> nn.ModuleDict:
    first = Block(channels_in, channels, stride)
    rest = (Block(channels, channels, 1) for _ in range(blocks - 1))
    return nn.ModuleDict({"layer": nn.Sequential(first, *rest)})  # the key of published checkpoints


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
        self.block1 = _stage(16, 16 * widen, blocks, stride=1)
        self.block2 = _stage(16 * widen, 32 * widen, blocks, stride=2)
        self.block3 = _stage(32 * widen, 64 * widen, blocks, stride=2)
        self.bn1 = nn.BatchNorm2d(64 * widen)
        self.fc = nn.Linear(64 * widen, num_classes)
        initialise_he(self)
        nn.init.zeros_(self.fc.bias)

    def forward(self, images: Tensor) -> Taps:
        x, stages = self.conv1(images), []
        groups: Any = (self.block1, self.block2, self.block3)
        for first, *rest in (group["layer"] for group in groups):
            active, x = first(x)
            stages.append(active)  # of the group before
            for block in rest:
                _, x = block(x)
        return self.taps((*stages[1:], F.relu(self.bn1(x), inplace=True)))
