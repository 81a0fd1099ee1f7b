"""VGG with batch normalisation for small images (Simonyan & Zisserman 2015), names as in RepDistiller."""

import torch.nn.functional as F
from torch import Tensor, nn

from msd_sweeps.distill.models.network import Network, Taps, initialise_he


def _convolutions(channels_in: int, widths: tuple[int, ...]) -> nn.Sequential:
    """3×3 convolutions with batch normalisation; the last one's relu is left to the caller."""
    layers: list[nn.Module] = []
    for width in widths:
        layers += [nn.Conv2d(channels_in, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        channels_in = width
    return nn.Sequential(*layers[:-1])


class VGG(Network):
    """Five blocks of convolutions with max-pooling after the first three; last map [B, 512, H/8, W/8].

    The pooling after the fourth block, there for larger images, is left out: 32 pixels end on 4×4.
    The stages are the last four blocks: the first one, at full resolution, is the stem.
    """

    head_path = "classifier"

    def __init__(self, widths: tuple[tuple[int, ...], ...], num_classes: int):
        super().__init__()
        self.block0 = _convolutions(3, widths[0])
        self.block1 = _convolutions(widths[0][-1], widths[1])
        self.block2 = _convolutions(widths[1][-1], widths[2])
        self.block3 = _convolutions(widths[2][-1], widths[3])
        self.block4 = _convolutions(widths[3][-1], widths[4])
        self.classifier = nn.Linear(widths[4][-1], num_classes)
        initialise_he(self, linear_std=0.01)

    def forward(self, images: Tensor) -> Taps:
        stem = F.relu(self.block0(images), inplace=True)
        stage1 = F.relu(self.block1(F.max_pool2d(stem, 2)), inplace=True)
        stage2 = F.relu(self.block2(F.max_pool2d(stage1, 2)), inplace=True)
        stage3 = F.relu(self.block3(F.max_pool2d(stage2, 2)), inplace=True)
        last = F.relu(self.block4(stage3), inplace=True)
        return self.taps((stage1, stage2, stage3, last), last)
