"""ResNets for CIFAR (He et al. 2016), modules named as in RepDistiller."""

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from msd_sweeps.distill.models.network import Network, Taps, initialise_he


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


def _stage(
    block: type[Block] | type[Bottleneck], channels_in: int, width: int, blocks: int, stride: int
) -> nn.Sequential:
    first = block(channels_in, width, stride)
    return nn.Sequential(first, *(block(block.expansion * width, width, 1) for _ in range(blocks - 1)))


class ResNetCifar(Network):
    """Three stages, depth 6n+2; last map [B, widths[3], H/4, W/4]."""

    head_path = "fc"

    def __init__(self, depth: int, widths: tuple[int, int, int, int], num_classes: int):
        super().__init__()
        blocks, rest = divmod(depth - 2, 6)
        if rest:
            raise ValueError(f"a CIFAR ResNet has 6n+2 layers, not {depth}")
        self.conv1 = nn.Conv2d(3, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.layer1 = _stage(Block, widths[0], widths[1], blocks, stride=1)
        self.layer2 = _stage(Block, widths[1], widths[2], blocks, stride=2)
        self.layer3 = _stage(Block, widths[2], widths[3], blocks, stride=2)
        self.fc = nn.Linear(widths[3], num_classes)
        initialise_he(self)

    def forward(self, images: Tensor) -> Taps:
        stage1 = self.layer1(F.relu(self.bn1(self.conv1(images)), inplace=True))
        stage2 = self.layer2(stage1)
        last = self.layer3(stage2)
        return self.taps((stage1, stage2, last), last)


class ResNet50Cifar(Network):
    """ResNet-50 without the strided stem: stages of 3, 4, 6 and 3 blocks; last map [B, 2048, H/8, W/8]."""

    head_path = "linear"

    def __init__(self, num_classes: int):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = _stage(Bottleneck, 64, 64, blocks=3, stride=1)
        self.layer2 = _stage(Bottleneck, 256, 128, blocks=4, stride=2)
        self.layer3 = _stage(Bottleneck, 512, 256, blocks=6, stride=2)
        self.layer4 = _stage(Bottleneck, 1024, 512, blocks=3, stride=2)
        self.linear = nn.Linear(2048, num_classes)
        initialise_he(self)

    def forward(self, images: Tensor) -> Taps:
        stage1 = self.layer1(F.relu(self.bn1(self.conv1(images)), inplace=True))
        stage2 = self.layer2(stage1)
        stage3 = self.layer3(stage2)
        last = self.layer4(stage3)
        return self.taps((stage1, stage2, stage3, last), last)
