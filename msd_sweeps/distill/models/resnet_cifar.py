"""ResNets for CIFAR (He et al. 2016; wide: Zagoruyko & Komodakis 2016), modules named as in RepDistiller."""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from msd_sweeps.distill.models.network import Network, StagedNetwork, Taps, initialise_he


def _shortcut(channels_in: int, channels: int, stride: int) -> nn.Module:
    if stride == 1 and channels_in == channels:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))


class Block(nn.Module):
    """conv-bn-relu-conv-bn plus the shortcut, then relu: [B, C_in, H, W] -> [B, C, H/stride, W/stride]."""

    expansion: ClassVar[int] = 1

    def __init__(self, channels_in: int, channels: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = _shortcut(channels_in, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.downsample(x), inplace=True)


class Bottleneck(nn.Module):
    """1×1, 3×3, 1×1 convolutions plus the shortcut: [B, C_in, H, W] -> [B, 4·middle, H/stride, W/stride]."""

    expansion: ClassVar[int] = 4

    def __init__(self, channels_in: int, middle: int, stride: int):
        super().__init__()
        channels = self.expansion * middle
        self.conv1 = nn.Conv2d(channels_in, middle, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(middle)
        self.conv2 = nn.Conv2d(middle, middle, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(middle)
        self.conv3 = nn.Conv2d(middle, channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.shortcut = _shortcut(channels_in, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = F.relu(self.bn2(self.conv2(out)), inplace=True)
        out = self.bn3(self.conv3(out))
        return F.relu(out + self.shortcut(x), inplace=True)


def _stages(
    block: type[Block] | type[Bottleneck], widths: Sequence[int], counts: Sequence[int]
) -> Iterator[nn.Sequential]:
    """A stage of each count of blocks, behind a stem of widths[0] channels; all but the first stride."""
    channels = widths[0]
    for number, (width, count) in enumerate(zip(widths[1:], counts, strict=True)):
        first = block(channels, width, 2 if number else 1)
        channels = block.expansion * width
        yield nn.Sequential(first, *(block(channels, width, 1) for _ in range(count - 1)))


class ResNetCifar(StagedNetwork):
    """Three stages, depth 6n+2; last map [B, widths[3], H/4, W/4]."""

    head_path = "fc"

    def __init__(self, depth: int, widths: tuple[int, int, int, int], num_classes: int):
        blocks, rest = divmod(depth - 2, 6)
        if rest:
            raise ValueError(f"a CIFAR ResNet has 6n+2 layers, not {depth}")
        super().__init__(nn.Conv2d(3, widths[0], 3, padding=1, bias=False), _stages(Block, widths, [blocks] * 3))
        self.fc = nn.Linear(widths[3], num_classes)
        initialise_he(self)


class ResNet50Cifar(StagedNetwork):
    """ResNet-50 without the strided stem: stages of 3, 4, 6 and 3 blocks; last map [B, 2048, H/8, W/8]."""

    head_path = "linear"

    def __init__(self, num_classes: int):
        stages = _stages(Bottleneck, (64, 64, 128, 256, 512), (3, 4, 6, 3))
        super().__init__(nn.Conv2d(3, 64, 3, padding=1, bias=False), stages)
        self.linear = nn.Linear(2048, num_classes)
        initialise_he(self)


class WideBlock(nn.Module):
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


def _wide_stage(channels_in: int, channels: int, blocks: int, stride: int) -> nn.ModuleDict:
    first = WideBlock(channels_in, channels, stride)
    rest = (WideBlock(channels, channels, 1) for _ in range(blocks - 1))
    return nn.ModuleDict({"layer": nn.Sequential(first, *rest)})  # the key of published checkpoints


class WideResNet(Network):
    """Pre-activation, depth 6n+4, widths 16, 16k, 32k, 64k; last map [B, 64k, H/4, W/4].

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
        self.block1 = _wide_stage(16, 16 * widen, blocks, stride=1)
        self.block2 = _wide_stage(16 * widen, 32 * widen, blocks, stride=2)
        self.block3 = _wide_stage(32 * widen, 64 * widen, blocks, stride=2)
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
