"""ShuffleNet V1 (Zhang et al. 2018) and V2 (Ma et al. 2018) for CIFAR, modules named as in RepDistiller.

Both keep PyTorch's default initialisation, and both begin with a 1×1 convolution at full resolution.
"""

import torch
import torch.fx
import torch.nn.functional as F
from torch import Tensor, nn

from msd_sweeps.distill.models.network import StagedNetwork, Taps


def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    """Interleave the groups of channels: [B, g·n, H, W] read as g × n becomes n × g (Zhang et al. 2018)."""
    if x.is_contiguous(memory_format=torch.channels_last):
        # F.channel_shuffle is 15 times slower on this layout, and a plain reshape would leave it
        rows = x.permute(0, 2, 3, 1).unflatten(-1, (groups, -1))
        return rows.transpose(-1, -2).flatten(-2).permute(0, 3, 1, 2)
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)


torch.fx.wrap("channel_shuffle")  # tracing, as for folding, does not look into it: its path depends on the layout


class GroupedBottleneck(nn.Module):
    """V1: grouped 1×1, shuffle, depthwise 3×3, grouped 1×1; [B, C_in, H, W] -> [B, C, H/stride, W/stride].

    With stride 2 the pooled input is concatenated, so the branch makes only the channels that are missing.
    """

    def __init__(self, channels_in: int, channels: int, stride: int, groups: int, first: bool):
        super().__init__()
        branch = channels - channels_in if stride == 2 else channels
        middle = branch // 4
        self.groups_in = 1 if first else groups  # the stem's channels are too few to group
        self.concatenates = stride == 2
        self.conv1 = nn.Conv2d(channels_in, middle, 1, groups=self.groups_in, bias=False)
        self.bn1 = nn.BatchNorm2d(middle)
        self.conv2 = nn.Conv2d(middle, middle, 3, stride, padding=1, groups=middle, bias=False)
        self.bn2 = nn.BatchNorm2d(middle)
        self.conv3 = nn.Conv2d(middle, branch, 1, groups=groups, bias=False)
        self.bn3 = nn.BatchNorm2d(branch)

    def forward(self, x: Tensor) -> Tensor:
        out = channel_shuffle(F.relu(self.bn1(self.conv1(x)), inplace=True), self.groups_in)
        out = F.relu(self.bn2(self.conv2(out)), inplace=True)
        out = self.bn3(self.conv3(out))
        if self.concatenates:
            pooled = F.avg_pool2d(x, 3, stride=2, padding=1)
            return F.relu(torch.cat([out, pooled], 1), inplace=True)
        return F.relu(out + x, inplace=True)


class ShuffleNetV1Cifar(StagedNetwork):
    """Three groups, widths 240, 480, 960; last map [B, 960, H/8, W/8]."""

    head_path = "linear"

    def __init__(self, num_classes: int):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 24, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(24)
        self.layer1 = self._stage(24, 240, blocks=4, first=True)
        self.layer2 = self._stage(240, 480, blocks=8)
        self.layer3 = self._stage(480, 960, blocks=4)
        self.linear = nn.Linear(960, num_classes)

    @staticmethod
    def _stage(channels_in: int, channels: int, blocks: int, first: bool = False) -> nn.Sequential:
        down = GroupedBottleneck(channels_in, channels, 2, 3, first)
        return nn.Sequential(
            down, *(GroupedBottleneck(channels, channels, 1, 3, first=False) for _ in range(blocks - 1))
        )


class SplitBlock(nn.Module):
    """V2: half the channels go through 1×1, depthwise 3×3, 1×1; then a shuffle: [B, C, H, W] kept."""

    def __init__(self, channels: int):
        super().__init__()
        half = channels // 2
        self.conv1 = nn.Conv2d(half, half, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(half)
        self.conv2 = nn.Conv2d(half, half, 3, padding=1, groups=half, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = nn.Conv2d(half, half, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(half)

    def forward(self, x: Tensor) -> Tensor:
        kept, worked = x.chunk(2, dim=1)
        out = F.relu(self.bn1(self.conv1(worked)), inplace=True)
        out = self.bn2(self.conv2(out))
        out = F.relu(self.bn3(self.conv3(out)), inplace=True)
        return channel_shuffle(torch.cat([kept, out], 1), 2)


class DownBlock(nn.Module):
    """V2: two strided branches, concatenated and shuffled: [B, C_in, H, W] -> [B, C, H/2, W/2]."""

    def __init__(self, channels_in: int, channels: int):
        super().__init__()
        half = channels // 2
        self.conv1 = nn.Conv2d(channels_in, channels_in, 3, 2, padding=1, groups=channels_in, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_in)
        self.conv2 = nn.Conv2d(channels_in, half, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = nn.Conv2d(channels_in, half, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(half)
        self.conv4 = nn.Conv2d(half, half, 3, 2, padding=1, groups=half, bias=False)
        self.bn4 = nn.BatchNorm2d(half)
        self.conv5 = nn.Conv2d(half, half, 1, bias=False)
        self.bn5 = nn.BatchNorm2d(half)

    def forward(self, x: Tensor) -> Tensor:
        left = self.bn1(self.conv1(x))
        left = F.relu(self.bn2(self.conv2(left)), inplace=True)
        right = F.relu(self.bn3(self.conv3(x)), inplace=True)
        right = self.bn4(self.conv4(right))
        right = F.relu(self.bn5(self.conv5(right)), inplace=True)
        return channel_shuffle(torch.cat([left, right], 1), 2)


class ShuffleNetV2Cifar(StagedNetwork):
    """Size 1: three groups, widths 116, 232, 464, then a 1×1 convolution; last map [B, 1024, H/8, W/8]."""

    head_path = "linear"

    def __init__(self, num_classes: int):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 24, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(24)
        self.layer1 = self._stage(24, 116, blocks=3)
        self.layer2 = self._stage(116, 232, blocks=7)
        self.layer3 = self._stage(232, 464, blocks=3)
        self.conv2 = nn.Conv2d(464, 1024, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(1024)
        self.linear = nn.Linear(1024, num_classes)

    @staticmethod
    def _stage(channels_in: int, channels: int, blocks: int) -> nn.Sequential:
        return nn.Sequential(DownBlock(channels_in, channels), *(SplitBlock(channels) for _ in range(blocks)))

    def forward(self, images: Tensor) -> Taps:
        stages = self.stages(images)
        return self.taps(stages, F.relu(self.bn2(self.conv2(stages[-1])), inplace=True))
