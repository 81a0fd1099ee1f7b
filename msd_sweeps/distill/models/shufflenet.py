"""ShuffleNet V1 (Zhang et al. 2018) and V2 (Ma et al. 2018) for CIFAR, modules named as in RepDistiller.

Both keep PyTorch's default initialisation, and both begin with a 1×1 convolution at full resolution.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
import torch.fx
import torch.nn.functional as F
from torch import Tensor, nn

from msd_sweeps.distill.models.network import StagedNetwork, Taps

_STEM = 24  # channels of the first convolution


def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    """Interleave the groups of channels: [B, g·n, H, W] read as g × n becomes n × g (Zhang et al. 2018)."""
    if x.is_contiguous(memory_format=torch.channels_last):
        # F.channel_shuffle is 15 times slower on this layout, and a plain reshape would leave it
        rows = x.permute(0, 2, 3, 1).unflatten(-1, (groups, -1))
        return rows.transpose(-1, -2).flatten(-2).permute(0, 3, 1, 2)
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)


torch.fx.wrap("channel_shuffle")  # tracing, as for folding, does not look into it: its path depends on the layout


def _stages(block: Callable[[int, int], nn.Module], widths: Sequence[int]) -> Iterator[nn.Module]:
    """Three stages: a block that strides, because it has more channels after it than before it, then 3, 7, 3 others."""
    for before, width, count in zip((_STEM, *widths), widths, (3, 7, 3), strict=False):
        yield nn.Sequential(block(before, width), *(block(width, width) for _ in range(count)))


class GroupedBottleneck(nn.Module):
    """V1: 1×1 in three groups, shuffle, depthwise 3×3, grouped 1×1; [B, C_in, H, W] -> [B, C, H/stride, W/stride].

    Where the channels grow, it strides and concatenates the pooled input, so the branch makes only what is missing.
    """

    def __init__(self, channels_in: int, channels: int):
        super().__init__()
        self.concatenates = channels != channels_in
        branch, stride = (channels - channels_in, 2) if self.concatenates else (channels, 1)
        middle = branch // 4
        self.groups_in = 1 if channels_in == _STEM else 3  # the stem's channels are too few to group
        self.conv1 = nn.Conv2d(channels_in, middle, 1, groups=self.groups_in, bias=False)
        self.bn1 = nn.BatchNorm2d(middle)
        self.conv2 = nn.Conv2d(middle, middle, 3, stride, padding=1, groups=middle, bias=False)
        self.bn2 = nn.BatchNorm2d(middle)
        self.conv3 = nn.Conv2d(middle, branch, 1, groups=3, bias=False)
        self.bn3 = nn.BatchNorm2d(branch)

    def forward(self, x: Tensor) -> Tensor:
        out = channel_shuffle(F.relu(self.bn1(self.conv1(x)), inplace=True), self.groups_in)
        out = F.relu(self.bn2(self.conv2(out)), inplace=True)
        out = self.bn3(self.conv3(out))
        if self.concatenates:
            return F.relu(torch.cat([out, F.avg_pool2d(x, 3, stride=2, padding=1)], 1), inplace=True)
        return F.relu(out + x, inplace=True)


class ShuffleNetV1Cifar(StagedNetwork):
    """Widths 240, 480, 960; last map [B, 960, H/8, W/8]."""

    head_path = "linear"

    def __init__(self, num_classes: int):
        super().__init__(nn.Conv2d(3, _STEM, 1, bias=False), _stages(GroupedBottleneck, (240, 480, 960)))
        self.linear = nn.Linear(960, num_classes)


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
    """Size 1: widths 116, 232, 464, then a 1×1 convolution; last map [B, 1024, H/8, W/8]."""

    head_path = "linear"

    def __init__(self, num_classes: int):
        def block(channels_in: int, channels: int) -> nn.Module:
            return SplitBlock(channels) if channels == channels_in else DownBlock(channels_in, channels)

        super().__init__(nn.Conv2d(3, _STEM, 1, bias=False), _stages(block, (116, 232, 464)))
        self.conv2 = nn.Conv2d(464, 1024, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(1024)
        self.linear = nn.Linear(1024, num_classes)

    def forward(self, images: Tensor) -> Taps:
        stages = self.stages(images)
        return self.taps(stages, F.relu(self.bn2(self.conv2(stages[-1])), inplace=True))
