"""The networks by name. Each answers a forward pass with its `Taps`."""

from collections.abc import Callable
from functools import partial

from msd_sweeps.distill.models.imagenet import ImageNetMobileNetV2, ImageNetResNet
from msd_sweeps.distill.models.mobilenet import ImageNetMobileNetV1, MobileNetV2Cifar
from msd_sweeps.distill.models.network import CannotClassifyRegions, Network, Taps, fold_batch_norm
from msd_sweeps.distill.models.resnet_cifar import ResNet50Cifar, ResNetCifar
from msd_sweeps.distill.models.shufflenet import ShuffleNetV1Cifar, ShuffleNetV2Cifar
from msd_sweeps.distill.models.timm_networks import TimmConvNeXt, TimmNetwork, TimmSwin, TimmViT
from msd_sweeps.distill.models.vgg import VGG
from msd_sweeps.distill.models.wrn import WideResNet
from msd_sweeps.space.errors import nearest

__all__ = ["NETWORKS", "CannotClassifyRegions", "Network", "Taps", "build", "fold_batch_norm"]

# Every builder takes num_classes.
NETWORKS: dict[str, Callable[..., Network]] = {
    # CIFAR: images of 32 pixels
    **{f"resnet{depth}": partial(ResNetCifar, depth, (16, 16, 32, 64)) for depth in (8, 14, 20, 32, 44, 56, 110)},
    **{f"resnet{depth}x4": partial(ResNetCifar, depth, (32, 64, 128, 256)) for depth in (8, 32)},
    **{f"wrn_{depth}_{k}": partial(WideResNet, depth, k) for depth in (16, 40) for k in (1, 2)},
    "vgg8": partial(VGG, ((64,), (128,), (256,), (512,), (512,))),
    "vgg13": partial(VGG, ((64, 64), (128, 128), (256, 256), (512, 512), (512, 512))),
    "MobileNetV2": MobileNetV2Cifar,
    "ShuffleNetV1": ShuffleNetV1Cifar,
    "ShuffleNetV2": ShuffleNetV2Cifar,
    "ResNet50": ResNet50Cifar,
    # ImageNet: images of 224 pixels
    **{f"imagenet_{name}": partial(ImageNetResNet, name) for name in ("resnet18", "resnet34", "resnet50")},
    "imagenet_mobilenet_v2": ImageNetMobileNetV2,
    "imagenet_mobilenet_v1": ImageNetMobileNetV1,
    # the same through timm
    "swin_tiny": partial(TimmSwin, "swin_tiny_patch4_window7_224"),
    "vit_small": partial(TimmViT, "vit_small_patch16_224"),
    "deit_tiny": partial(TimmViT, "deit_tiny_patch16_224"),
    "mixer_b16": partial(TimmNetwork, "mixer_b16_224"),
    "convnext_tiny": partial(TimmConvNeXt, "convnext_tiny"),
}


def build(name: str, num_classes: int) -> Network:
    """The network of that name with fresh weights.

    Raises ValueError for a name that NETWORKS lacks.
    """
    if name not in NETWORKS:
        raise ValueError(f"unknown network {name!r}; {nearest(name, NETWORKS)}")
    return NETWORKS[name](num_classes=num_classes)
