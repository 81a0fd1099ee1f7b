"""The networks by name. Each answers a forward pass with its `Taps`."""

from collections.abc import Callable
from functools import partial

import torch
from torch.utils.flop_counter import FlopCounterMode

from msd_sweeps.catalog.networks import BUILDERS, NetworkFacts
from msd_sweeps.distill.models.imagenet import ImageNetMobileNetV2, ImageNetResNet
from msd_sweeps.distill.models.mobilenet import ImageNetMobileNetV1, MobileNetV2Cifar
from msd_sweeps.distill.models.network import CannotClassifyRegions, Network, Taps, fold_batch_norm
from msd_sweeps.distill.models.own import own_network
from msd_sweeps.distill.models.resnet_cifar import ResNet50Cifar, ResNetCifar, WideResNet
from msd_sweeps.distill.models.shufflenet import ShuffleNetV1Cifar, ShuffleNetV2Cifar
from msd_sweeps.distill.models.timm_networks import AnyTimm, TimmConvNeXt, TimmNetwork, TimmSwin, TimmViT
from msd_sweeps.distill.models.vgg import VGG
from msd_sweeps.space.errors import nearest
from msd_sweeps.space.own_code import resolved

__all__ = ["NETWORKS", "CannotClassifyRegions", "Network", "Taps", "build", "fold_batch_norm", "measure"]

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
    """The network of that name with fresh weights: of NETWORKS, of one's own, or of timm as `timm/NAME`.

    Raises ValueError for a name that there is not.
    """
    if name in NETWORKS:
        return NETWORKS[name](num_classes=num_classes)
    if name.startswith("timm/"):
        return AnyTimm(name.removeprefix("timm/"), num_classes)
    if name in BUILDERS or ":" in name:
        return own_network(name, BUILDERS.get(name) or resolved(name), num_classes)
    raise ValueError(f"unknown network {name!r}; {nearest(name, NETWORKS)}")


def measure(name: str) -> NetworkFacts:
    """The facts of a network of `NETWORKS`, measured on the meta device: shapes without numbers.

    Raises ModuleNotFoundError where its package is not installed.
    """
    try:
        return _measured_on(name, "meta")
    except (NotImplementedError, RuntimeError):  # a network of one's own that needs numbers to be built
        return _measured_on(name, "cpu")


def _measured_on(name: str, device: str) -> NetworkFacts:
    with torch.device(device), torch.no_grad():
        side = build(name, num_classes=100).image_size
        network = build(name, num_classes=100 if side == 32 else 1000).eval()
        with FlopCounterMode(display=False) as counted:
            taps = network(torch.empty(1, 3, side, side))
        channels, last_side = taps.last.shape[1:3]
        shown = {"stages": len(taps.stages), "last": channels, "pooled": taps.pooled.shape[1]}
        return NetworkFacts(
            channels=channels,
            reduction=side // last_side,
            parameters=sum(parameter.numel() for parameter in network.parameters()),
            multiply_adds=round(counted.get_total_flops() / 2e6, 1),
            classifies_regions=_works(network.classify, torch.empty(1, channels)),
            image_size=side,
            other_sizes=_works(network, torch.empty(1, 3, 2 * side, 2 * side)),
            lacks=tuple(tap for tap, count in shown.items() if not count),
        )


def _works(function: Callable[[torch.Tensor], object], values: torch.Tensor) -> bool:
    try:
        function(values)
    except (CannotClassifyRegions, AssertionError, RuntimeError):  # timm asserts sizes, torch raises the last one
        return False
    return True
