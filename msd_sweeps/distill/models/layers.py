"""What several families share: He's initialisation and the channel shuffle."""

import torch
from torch import Tensor, nn


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


class ChannelShuffle(nn.Module):
    """Interleaves the groups of channels: [B, g·n, H, W] read as g × n becomes n × g (Zhang et al. 2018)."""

    def __init__(self, groups: int):
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:  # [B, C, H, W] -> [B, C, H, W]
        if x.is_contiguous(memory_format=torch.channels_last):
            # F.channel_shuffle is 15 times slower on this layout, and a plain reshape would leave it
            rows = x.permute(0, 2, 3, 1).unflatten(-1, (self.groups, -1))
            return rows.transpose(-1, -2).flatten(-2).permute(0, 3, 1, 2)
        return x.unflatten(1, (self.groups, -1)).transpose(1, 2).flatten(1, 2)
