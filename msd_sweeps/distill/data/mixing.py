"""Mixup and CutMix, as torchvision's transforms do them batch by batch, from a seed of the stream."""

import hashlib
import importlib
from typing import Any

import torch
from torch import Tensor

from msd_sweeps.distill.models.imagenet import torchvision


class Mixing:
    """Mixes the images of a batch with each other, and their labels in the same proportion."""

    def __init__(self, mixup: float, cutmix: float, num_classes: int):
        """mixup, cutmix: their α; 0: not used. With both, each batch has one of them by chance."""
        torchvision()
        v2: Any = importlib.import_module("torchvision.transforms.v2")
        kinds = ((v2.MixUp, mixup), (v2.CutMix, cutmix))
        transforms = [kind(alpha=alpha, num_classes=num_classes) for kind, alpha in kinds if alpha]
        self._transform = v2.RandomChoice(transforms) if len(transforms) > 1 else transforms[0]

    def __call__(self, images: Tensor, labels: Tensor, seed: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Mixed images [B, 3, H, W], channels last, and targets [B, K]; the same seed gives the same mixture."""
        hashed = int.from_bytes(hashlib.sha256(repr(seed).encode()).digest()[:8]) % 2**63
        with torch.random.fork_rng(devices=[images.device] if images.device.type == "cuda" else []):
            torch.manual_seed(hashed)
            mixed, targets = self._transform(images, labels)
        return mixed.contiguous(memory_format=torch.channels_last), targets.float()
