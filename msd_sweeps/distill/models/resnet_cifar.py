"""The CIFAR ResNets of He et al. 2016 (three stages, depth 6n+2), modules named as in RepDistiller."""

import torch.nn.functional as F
from torch import Tensor, nn

from msd_sweeps.distill.models.layers import initialise_he
from msd_sweeps.distill.models.network import Network, Taps


class Block(nn.Module):
    """conv-bn-relu-conv-bn plus the shortcut, then relu: [B, C_in, H, W] -> [B, C, H/stride, W/stride]."""

    def __init__(self, channels_in: int, channels: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.downsample(x), inplace=True)


class ResNetCifar(Network):
    """Depth 6n+2; last map [B, widths[3], H/4, W/4]."""

    def __init__(self, depth: int, widths: tuple[int, int, int, int], num_classes: int):
        super().__init__()
        blocks, rest = divmod(depth - 2, 6)
        if rest:
            raise ValueError(f"a CIFAR ResNet has 6n+2 layers, not {depth}")
        self.conv1 = nn.Conv2d(3, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.layer1 = self._stage(widths[0], widths[1], blocks, stride=1)
        self.layer2 = self._stage(widths[1], widths[2], blocks, stride=2)
        self.layer3 = self._stage(widths[2], widths[3], blocks, stride=2)
        self.fc = nn.Linear(widths[3], num_classes)
        initialise_he(self)

    @staticmethod
    def _stage(channels_in: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
        first = Block(channels_in, channels, stride)
        return nn.Sequential(first, *(Block(channels, channels, 1) for _ in range(blocks - 1)))

    def forward(self, images: Tensor) -> Taps:
        stage1 = self.layer1(F.relu(self.bn1(self.conv1(images)), inplace=True))
        stage2 = self.layer2(stage1)
        last = self.layer3(stage2)
        pooled = last.mean((2, 3))
        return Taps((stage1, stage2, last), last, pooled, self.fc(pooled))

    def classify(self, rows: Tensor) -> Tensor:
        return self.fc(rows)
