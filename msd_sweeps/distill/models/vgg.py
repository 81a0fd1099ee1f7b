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
        channels = 3
        for number, block in enumerate(widths):
            self.add_module(f"block{number}", _convolutions(channels, block))
            channels = block[-1]
        self.classifier = nn.Linear(channels, num_classes)
        initialise_he(self, linear_std=0.01)

    def forward(self, images: Tensor) -> Taps:
        x, maps = images, []
        for number, block in enumerate(list(self.children())[:-1]):
            x = F.relu(block(F.max_pool2d(x, 2) if number in (1, 2, 3) else x), inplace=True)
            maps.append(x)
        return self.taps(maps[1:])
