"""What every network answers, whatever its family."""

from typing import NamedTuple

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


class CannotClassifyRegions(ValueError):
    """The network's classifier does not read the channels of its last feature map."""


class Network(nn.Module):
    """A classifier whose forward pass returns its `Taps`."""

    def forward(self, images: Tensor) -> Taps:  # [B, 3, H, W]
        raise NotImplementedError

    def classify(self, rows: Tensor) -> Tensor:
        """Logits [..., K] of rows [..., C] that lie in the channels of the last feature map.

        Raises CannotClassifyRegions where the classifier reads something else.
        """
        raise CannotClassifyRegions(f"{type(self).__name__}: no classifier reads its last feature map")
