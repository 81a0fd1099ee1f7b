"""ImageNet networks: torchvision's, whose state dicts load unchanged, and MobileNetV1."""

import importlib
import sys
from types import ModuleType

import torch
from torch import Tensor, nn

from msd_sweeps.distill.models.network import Network, StagedNetwork, Taps, maps_after

# torchvision attaches shape rules to these two compiled operators while it is imported. A wheel built for
# another torch (a CUDA wheel beside a CPU-only torch) cannot load them, and the import then fails although
# networks, data sets and transforms are pure Python. A bare schema is enough for the import to succeed.
_BOX_OPERATORS = ("nms", "qnms")
_BOX_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def torchvision() -> ModuleType:
    """The torchvision package with its networks, data sets and transforms.

    Its compiled operators (box suppression, image decoding) may be missing; nothing here uses them.
    """
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]  # half imported
    for operator in _BOX_OPERATORS:
        if not hasattr(torch.ops.torchvision, operator):
            torch.library.define(f"torchvision::{operator}", _BOX_SCHEMA)
    return importlib.import_module("torchvision")


def _adopt(network: Network, model: nn.Module) -> None:
    """Takes over the model's children under their own names, so that its state dict fits the network."""
    for name, child in model.named_children():
        network.add_module(name, child)


class ImageNetResNet(StagedNetwork):
    """torchvision's ResNet (He et al. 2016); last map [B, 512 or 2048, H/32, W/32]."""

    image_size = 224
    head_path = "fc"
    maxpool: nn.MaxPool2d

    def __init__(self, name: str, num_classes: int):
        super().__init__()
        _adopt(self, torchvision().models.get_model(name, weights=None, num_classes=num_classes))

    def stem(self, images: Tensor) -> Tensor:
        return self.maxpool(super().stem(images))


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
        *stages, last = maps_after(self.features, images, numbers=(4, 7, 14, 18, 19))
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
        return self.taps(maps_after(self.model, images, numbers=(4, 6, 12, 14)))
