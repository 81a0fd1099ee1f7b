"""What is known of every network without building it; this module needs no torch."""

from typing import NamedTuple


class Architecture(NamedTuple):
    """Facts of one network of `msd_sweeps.distill.models.NETWORKS`."""

    channels: int
    """Channels of the last feature map."""
    reduction: int
    """Side of the input over the side of the last feature map."""
    parameters: int
    """Number of parameters, with 100 classes for CIFAR networks and 1000 for the others."""
    multiply_adds: float
    """Millions in the forward pass of one image of `image_size`, with as many classes."""
    classifies_regions: bool = True
    """Whether the classifier can read the channels of the last feature map."""
    image_size: int = 32
    """Side of the images that the network is made for."""
    other_sizes: bool = True
    """Whether it also takes images of another size."""

    def multiply_adds_at(self, image_size: int) -> float:
        """Millions in the forward pass of one image of another size: they grow with its area."""
        return self.multiply_adds * (image_size / self.image_size) ** 2


def _large(
    channels: int,
    reduction: int,
    parameters: int,
    multiply_adds: float,
    classifies_regions: bool = True,
    other_sizes: bool = True,
) -> Architecture:
    return Architecture(channels, reduction, parameters, multiply_adds, classifies_regions, 224, other_sizes)


ARCHITECTURES: dict[str, Architecture] = {
    "resnet8": Architecture(64, 4, 83_892, 12.5),
    "resnet14": Architecture(64, 4, 181_108, 26.7),
    "resnet20": Architecture(64, 4, 278_324, 40.8),
    "resnet32": Architecture(64, 4, 472_756, 69.1),
    "resnet44": Architecture(64, 4, 667_188, 97.4),
    "resnet56": Architecture(64, 4, 861_620, 125.8),
    "resnet110": Architecture(64, 4, 1_736_564, 253.2),
    "resnet8x4": Architecture(256, 4, 1_233_540, 177.1),
    "resnet32x4": Architecture(256, 4, 7_433_860, 1083.0),
    "wrn_16_1": Architecture(64, 4, 180_916, 26.7),
    "wrn_16_2": Architecture(128, 4, 703_284, 101.1),
    "wrn_40_1": Architecture(64, 4, 569_780, 83.3),
    "wrn_40_2": Architecture(128, 4, 2_255_156, 327.6),
    "vgg8": Architecture(512, 8, 3_965_028, 96.2),
    "vgg13": Architecture(512, 8, 9_462_180, 284.9),
    "MobileNetV2": Architecture(1280, 16, 812_836, 6.5),
    "ShuffleNetV1": Architecture(960, 8, 949_258, 38.7),
    "ShuffleNetV2": Architecture(1024, 8, 1_355_528, 44.5),
    "ResNet50": Architecture(2048, 8, 23_705_252, 1298.0),
    "imagenet_resnet18": _large(512, 32, 11_689_512, 1814.1),
    "imagenet_resnet34": _large(512, 32, 21_797_672, 3663.8),
    "imagenet_resnet50": _large(2048, 32, 25_557_032, 4089.2),
    "imagenet_mobilenet_v2": _large(1280, 32, 3_504_872, 300.8),
    "imagenet_mobilenet_v1": _large(1024, 32, 4_231_976, 568.7),
    "swin_tiny": _large(768, 32, 28_288_354, 4490.6, other_sizes=False),
    "vit_small": _large(384, 16, 22_050_664, 4598.9, classifies_regions=False, other_sizes=False),
    "deit_tiny": _large(192, 16, 5_717_416, 1253.7, classifies_regions=False, other_sizes=False),
    "mixer_b16": _large(768, 16, 59_880_472, 12601.8, other_sizes=False),
    "convnext_tiny": _large(768, 32, 28_589_128, 4455.5),
}
