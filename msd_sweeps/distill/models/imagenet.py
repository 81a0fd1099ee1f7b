"""ImageNet networks of torchvision, whose state dicts load unchanged."""

import importlib
import sys
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor

from msd_sweeps.distill.models.network import Network, StagedNetwork, Taps, maps_after


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
    # It attaches shape rules to two compiled operators while it is imported. A wheel built for another torch (a CUDA
    # wheel beside a CPU-only torch) cannot load them, and the import then fails although networks, data sets and
    # transforms are pure Python. A bare schema is enough for the import to succeed.
    for operator in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, operator):
            schema = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            torch.library.define(f"torchvision::{operator}", schema)
    return importlib.import_module("torchvision")


class ImageNetResNet(StagedNetwork):
    """torchvision's ResNet (He et al. 2016); last map [B, 512 or 2048, H/32, W/32]."""

    image_size = 224
    head_path = "fc"

    def __init__(self, name: str, num_classes: int):
        model = torchvision().models.get_model(name, weights=None, num_classes=num_classes)
        super().__init__(model.conv1, (model.layer1, model.layer2, model.layer3, model.layer4))
        self.fc = model.fc

    def stem(self, images: Tensor) -> Tensor:
        return F.max_pool2d(super().stem(images), 3, stride=2, padding=1)


class ImageNetMobileNetV2(Network):
    """torchvision's MobileNetV2 (Sandler et al. 2018); last map [B, 1280, H/32, W/32].

    A stage ends on a linear bottleneck: its map has no activation and carries signs.
    """

    image_size = 224
    head_path = "classifier.1"  # regions are read without the dropout before it

    def __init__(self, num_classes: int):
        super().__init__()
        model = torchvision().models.mobilenet_v2(weights=None, num_classes=num_classes)
        self.features, self.classifier = model.features, model.classifier

    def forward(self, images: Tensor) -> Taps:
        *stages, last = maps_after(self.features, images, numbers=(4, 7, 14, 18, 19))
        pooled = last.mean((2, 3))
        return Taps(tuple(stages), last, pooled, self.classifier(pooled))
