"""ImageNet networks: torchvision's, whose state dicts load unchanged, and MobileNetV1."""

from torch import Tensor, nn

from msd_sweeps.distill.models.network import Network, Taps
from msd_sweeps.distill.models.vision import torchvision


def _adopt(network: Network, model: nn.Module) -> None:
    """Takes over the model's children under their own names, so that its state dict fits the network."""
    for name, child in model.named_children():
        network.add_module(name, child)


def _maps_after(counts: tuple[int, ...], layers: nn.Sequential, x: Tensor) -> list[Tensor]:
    """The map after each of these counts of layers."""
    maps = []
    for count, layer in enumerate(layers, 1):
        x = layer(x)
        if count in counts:
            maps.append(x)
    return maps


class ImageNetResNet(Network):
    """torchvision's ResNet (He et al. 2016); last map [B, 512 or 2048, H/32, W/32]."""

    image_size = 224
    head_path = "fc"

    def __init__(self, name: str, num_classes: int):
        super().__init__()
        _adopt(self, torchvision().models.get_model(name, weights=None, num_classes=num_classes))

    def forward(self, images: Tensor) -> Taps:
        x = images
        for name in ("conv1", "bn1", "relu", "maxpool"):
            x = self.get_submodule(name)(x)
        stages = []
        for name in ("layer1", "layer2", "layer3", "layer4"):
            x = self.get_submodule(name)(x)
            stages.append(x)
        return self.taps(tuple(stages), x)


class ImageNetMobileNetV2(Network):
    """torchvision's MobileNetV2 (Sandler et al. 2018); last map [B, 1280, H/32, W/32].

    A stage ends on a linear bottleneck: its map has no activation and carries signs.
    """

    image_size = 224
    head_path = "classifier.1"  # regions are read without the dropout before it

    features: nn.Sequential
    classifier: nn.Sequential

    def __init__(self, num_classes: int):
        super().__init__()
        _adopt(self, torchvision().models.mobilenet_v2(weights=None, num_classes=num_classes))

    def forward(self, images: Tensor) -> Taps:
        *stages, last = _maps_after((4, 7, 14, 18, 19), self.features, images)
        pooled = last.mean((2, 3))
        return Taps(tuple(stages), last, pooled, self.classifier(pooled))


def _separable(channels_in: int, channels: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_in, 3, stride, padding=1, groups=channels_in, bias=False),
        nn.BatchNorm2d(channels_in),
        nn.ReLU(inplace=True),
        nn.Conv2d(channels_in, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
    )


class ImageNetMobileNetV1(Network):
    """MobileNetV1 (Howard et al. 2017), modules named as in mdistiller; last map [B, 1024, H/32, W/32]."""

    image_size = 224
    head_path = "fc"

    def __init__(self, num_classes: int):
        super().__init__()
        stem = nn.Conv2d(3, 32, 3, 2, padding=1, bias=False)
        self.model = nn.Sequential(
            nn.Sequential(stem, nn.BatchNorm2d(32), nn.ReLU(inplace=True)),
            _separable(32, 64, 1),
            _separable(64, 128, 2),
            _separable(128, 128, 1),
            _separable(128, 256, 2),
            _separable(256, 256, 1),
            _separable(256, 512, 2),
            *(_separable(512, 512, 1) for _ in range(5)),
            _separable(512, 1024, 2),
            _separable(1024, 1024, 1),
        )
        self.fc = nn.Linear(1024, num_classes)

    def forward(self, images: Tensor) -> Taps:
        stages = _maps_after((4, 6, 12, 14), self.model, images)
        return self.taps(tuple(stages), stages[-1])
