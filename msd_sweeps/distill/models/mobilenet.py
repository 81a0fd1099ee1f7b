"""MobileNetV2 for CIFAR (Sandler et al. 2018; Jin et al. 2019), modules named as in RepDistiller."""

from torch import Tensor, nn

from msd_sweeps.distill.models.network import Network, Taps, initialise_he, maps_after

# channels at width 1, blocks, stride; the first group does not expand
_GROUPS = ((16, 1, 1), (24, 2, 1), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1))
_LAST_CHANNELS = 1280


def _conv_bn_relu(channels_in: int, width: int, kernel: int, stride: int, groups: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(channels_in, width, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]


class InvertedResidual(nn.Module):
    """Expand, depthwise 3×3, project without activation: [B, C_in, H, W] -> [B, C, H/stride, W/stride]."""

    def __init__(self, channels_in: int, channels: int, stride: int, expansion: int):
        super().__init__()
        wide = channels_in * expansion
        self.adds = stride == 1 and channels_in == channels
        self.conv = nn.Sequential(
            *_conv_bn_relu(channels_in, wide, 1, 1),
            *_conv_bn_relu(wide, wide, 3, stride, groups=wide),
            nn.Conv2d(wide, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.adds else self.conv(x)


class MobileNetV2Cifar(Network):
    """MobileNetV2 with relu; last map [B, 1280, H/16, W/16], whatever the width.

    The first convolution strides and the groups stride three times, so 32 pixels end on 2×2. Widths below 1
    shrink every layer but the last one, which keeps its 1280 channels. A stage ends on a linear bottleneck:
    its map has no activation and carries signs.
    """

    head_path = "classifier"

    def __init__(self, width: float, expansion: int, num_classes: int):
        super().__init__()
        channels_in = int(32 * width)
        self.conv1 = nn.Sequential(*_conv_bn_relu(3, channels_in, 3, 2))
        self.blocks = nn.ModuleList()
        for group, (channels, count, stride) in enumerate(_GROUPS):
            channels = int(channels * width)
            blocks: list[nn.Module] = []
            for block in range(count):
                step = stride if block == 0 else 1
                blocks.append(InvertedResidual(channels_in, channels, step, expansion if group else 1))
                channels_in = channels
            self.blocks.append(nn.Sequential(*blocks))
        channels = int(_LAST_CHANNELS * max(width, 1.0))
        self.conv2 = nn.Sequential(*_conv_bn_relu(channels_in, channels, 1, 1))
        self.classifier = nn.Sequential(nn.Linear(channels, num_classes))
        initialise_he(self, linear_std=0.01)

    def forward(self, images: Tensor) -> Taps:
        stages = maps_after(self.blocks, self.conv1(images), numbers=(2, 3, 5, 7))
        return self.taps(stages, self.conv2(stages[-1]))
