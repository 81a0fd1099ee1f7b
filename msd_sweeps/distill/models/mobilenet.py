"""MobileNetV2 for CIFAR, modules named as in RepDistiller, and MobileNetV1 for ImageNet, named as in mdistiller."""

from torch import Tensor, nn

from msd_sweeps.distill.models.network import Network, Taps, initialise_he, maps_after

# channels, blocks, stride; the first group does not expand
_GROUPS = ((8, 1, 1), (12, 2, 1), (16, 3, 2), (32, 4, 2), (48, 3, 1), (80, 3, 2), (160, 1, 1))
_EXPANSION = 6

# channels and stride of the separable convolutions of MobileNetV1
_SEPARABLE = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))


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
    """MobileNetV2 of half the width, with relu (Sandler et al. 2018; Jin et al. 2019); last map [B, 1280, H/16, W/16].

    The first convolution strides and the groups stride three times, so 32 pixels end on 2×2. The last convolution keeps
    its 1280 channels. A stage ends on a linear bottleneck: its map has no activation and carries signs.
    """

    head_path = "classifier"

    def __init__(self, num_classes: int):
        super().__init__()
        channels_in = 16
        self.conv1 = nn.Sequential(*_conv_bn_relu(3, channels_in, 3, 2))
        self.blocks = nn.ModuleList()
        for group, (channels, count, stride) in enumerate(_GROUPS):
            expansion = _EXPANSION if group else 1
            blocks = [InvertedResidual(channels_in, channels, stride, expansion)]
            blocks += [InvertedResidual(channels, channels, 1, expansion) for _ in range(count - 1)]
            self.blocks.append(nn.Sequential(*blocks))
            channels_in = channels
        self.conv2 = nn.Sequential(*_conv_bn_relu(channels_in, 1280, 1, 1))
        self.classifier = nn.Sequential(nn.Linear(1280, num_classes))
        initialise_he(self, linear_std=0.01)

    def forward(self, images: Tensor) -> Taps:
        stages = maps_after(self.blocks, self.conv1(images), numbers=(2, 3, 5, 7))
        return self.taps(stages, self.conv2(stages[-1]))


class ImageNetMobileNetV1(Network):
    """MobileNetV1 (Howard et al. 2017); last map [B, 1024, H/32, W/32]."""

    image_size = 224
    head_path = "fc"

    def __init__(self, num_classes: int):
        super().__init__()
        channels_in = 32
        self.model = nn.Sequential(nn.Sequential(*_conv_bn_relu(3, channels_in, 3, 2)))
        for channels, stride in _SEPARABLE:
            depthwise = _conv_bn_relu(channels_in, channels_in, 3, stride, groups=channels_in)
            self.model.append(nn.Sequential(*depthwise, *_conv_bn_relu(channels_in, channels, 1, 1)))
            channels_in = channels
        self.fc = nn.Linear(channels_in, num_classes)

    def forward(self, images: Tensor) -> Taps:
        return self.taps(maps_after(self.model, images, numbers=(4, 6, 12, 14)))
