"""Random draws that are functions of numbers, without a generator: the same alone, packed, resumed and in a graph."""

import hashlib

import torch
from torch import Tensor, nn

from msd_sweeps.distill.device import workers

LOW_32_BITS = 0xFFFFFFFF
_LEADING = {"Dropout": None, "Dropout1d": 2, "Dropout2d": 2, "Dropout3d": 2, "DropPath": 1, "StochasticDepth": 1}
"""The dropout layers of torch, timm and torchvision: how many leading dimensions have draws of their own; None: all."""


def scrambled(numbers: Tensor) -> Tensor:
    """Integers in [0, 2³²), int64, made to look random: an invertible mixing of their bits."""
    mixed = numbers ^ (numbers >> 16)
    mixed.mul_(0x21F0AAAD).bitwise_and_(LOW_32_BITS)
    mixed.bitwise_xor_(mixed >> 15)
    mixed.mul_(0x735A2D97).bitwise_and_(LOW_32_BITS)
    return mixed.bitwise_xor_(mixed >> 15)


class DrawnDropout(nn.Module):
    """Dropout (Srivastava et al. 2014) or stochastic depth (Huang et al. 2016): [B, ...] kept.

    Element n of a draw in step s is dropped where a hash of (key, s, n) falls below the rate; key is made of the seed
    and of the layer's place. Data-parallel workers draw the parts of one batch's mask. A layer that a forward pass
    calls twice drops the same elements twice.
    """

    def __init__(self, rate: float, leading: int | None, key: str, step: Tensor):
        super().__init__()
        self.p, self.leading = rate, leading
        self._key = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big")
        self._step = (step,)  # in a tuple: it is the student's, and no part of the network's state

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        shape = x.shape[: self.leading]
        rank, count = workers()
        rows = torch.arange(shape[0], device=x.device) * count + rank
        numbers = rows.unsqueeze(1) * shape[1:].numel() + torch.arange(shape[1:].numel(), device=x.device)
        key = scrambled(scrambled(self._step[0] & LOW_32_BITS) + self._key & LOW_32_BITS)
        drawn = scrambled(scrambled(numbers & LOW_32_BITS) + key & LOW_32_BITS)
        kept = (drawn >= round(self.p * 2**32)).view(*shape, *[1] * (x.dim() - len(shape)))
        return x * (kept * (1 / (1 - self.p) if self.p < 1 else 0.0)).to(x.dtype)


def draw_masks(network: nn.Module, seed: int, step: Tensor) -> None:
    """Let every dropout layer of a network draw by (seed, step) instead of torch's global generator.

    step: [], int64, on the network's device; whoever trains sets it before each step.
    """
    for name, module in list(network.named_modules(remove_duplicate=False)):
        if type(module).__name__ in _LEADING:
            rate = getattr(module, "p", None)
            rate = getattr(module, "drop_prob", 0.0) if rate is None else rate
            drawn = DrawnDropout(float(rate or 0), _LEADING[type(module).__name__], f"{seed} {name}", step)
            network.set_submodule(name, drawn)
