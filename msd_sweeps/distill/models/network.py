"""What every network answers, whatever its family."""

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn


class Taps(NamedTuple):
    """What one forward pass shows of a network; batch first.

    stages: one feature map [B, C_i, H_i, W_i] per stage, fine to coarse, after its activation.
    last: the last feature map before global pooling, [B, C, H, W].
    pooled: the feature that the classifier reads, [B, D].
    logits: [B, K].
    """

    stages: tuple[Tensor, ...]
    last: Tensor
    pooled: Tensor
    logits: Tensor


def joined(parts: Sequence[Taps]) -> Taps:
    """The taps of a batch from those of its parts."""
    if len(parts) == 1:
        return parts[0]
    stages = tuple(torch.cat(stage) for stage in zip(*(part.stages for part in parts), strict=True))
    last, pooled, logits = (torch.cat(tensors) for tensors in zip(*(part[1:] for part in parts), strict=True))
    return Taps(stages, last, pooled, logits)


class CannotClassifyRegions(ValueError):
    """The network's classifier does not read the channels of its last feature map."""


class Network(nn.Module):
    """A classifier whose forward pass returns its `Taps`."""

    image_size: ClassVar[int] = 32
    """Side, in pixels, of the images that the network is made for."""
    head_path: ClassVar[str | None] = None
    """Where the layer is that makes logits of the last feature map's channels; None where there is no such layer."""

    def forward(self, images: Tensor) -> Taps:  # [B, 3, H, W]
        raise NotImplementedError

    def taps(self, stages: tuple[Tensor, ...], last: Tensor) -> Taps:
        """The taps of a network whose head reads the mean of its last feature map."""
        pooled = last.mean((2, 3))
        return Taps(stages, last, pooled, self.classify(pooled))

    def classify(self, rows: Tensor) -> Tensor:
        """Logits [..., K] of rows [..., C] that lie in the channels of the last feature map.

        Raises CannotClassifyRegions where the classifier reads something else.
        """
        if self.head_path is None:
            raise CannotClassifyRegions(f"{type(self).__name__}: no classifier reads its last feature map")
        return self.get_submodule(self.head_path)(rows)


def initialise_he(network: nn.Module, linear_std: float | None = None) -> None:
    """Normal fan-out initialisation of every convolution (He et al. 2015), zero biases.

    linear_std: standard deviation of the linear weights; None keeps PyTorch's default for linear layers.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear) and linear_std is not None:
            nn.init.normal_(module.weight, std=linear_std)
            nn.init.zeros_(module.bias)
