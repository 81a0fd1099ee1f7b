"""ResNet-50 for CIFAR: He et al. 2016 without the strided stem, modules named as in RepDistiller."""

import torch.nn.functional as F
from torch import Tensor, nn

from msd_sweeps.distill.models.layers import initialise_he
from msd_sweeps.distill.models.network import Network, Taps


class Bottleneck(nn.Module):
    """1×1, 3×3, 1×1 convolutions plus the shortcut: [B, C_in, H, W] -> [B, 4·middle, H/stride, W/stride]."""

    def __init__(self, channels_in: int, middle: int, stride: int):
        super().__init__()
        channels = 4 * middle
        self.conv1 = nn.Conv2d(channels_in, middle, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(middle)
        self.conv2 = nn.Conv2d(middle, middle, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(middle)
        self.conv3 = nn.Conv2d(middle, channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()
        if stride != 1 or channels_in != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = F.relu(self.bn2(self.conv2(out)), inplace=True)
        out = self.bn3(self.conv3(out))
        return F.relu(out + self.shortcut(x), inplace=True)


class ResNet50Cifar(Network):
    """Stages of 3, 4, 6 and 3 blocks; last map [B, 2048, H/8, W/8]."""

    def __init__(self, num_classes: int):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = self._stage(64, 64, blocks=3, stride=1)
        self.layer2 = self._stage(256, 128, blocks=4, stride=2)
        self.layer3 = self._stage(512, 256, blocks=6, stride=2)
        self.layer4 = self._stage(1024, 512, blocks=3, stride=2)
        self.linear = nn.Linear(2048, num_classes)
        initialise_he(self)

    @staticmethod
    def _stage(channels_in: int, middle: int, blocks: int, stride: int) -> nn.Sequential:
        first = Bottleneck(channels_in, middle, stride)
        return nn.Sequential(first, *(Bottleneck(4 * middle, middle, 1) for _ in range(blocks - 1)))

    def forward(self, images: Tensor) -> Taps:
        stage1 = self.layer1(F.relu(self.bn1(self.conv1(images)), inplace=True))
        stage2 = self.layer2(stage1)
        stage3 = self.layer3(stage2)
        last = self.layer4(stage3)
        pooled = last.mean((2, 3))
        return Taps((stage1, stage2, stage3, last), last, pooled, self.linear(pooled))

    def classify(self, rows: Tensor) -> Tensor:
        return self.linear(rows)
