"""Facts of a network, measured on the meta device: shapes without numbers."""

from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode

from msd_sweeps.catalog.networks import NetworkFacts
from msd_sweeps.distill.models import CannotClassifyRegions, build


def measure(name: str) -> NetworkFacts:
    """The facts of a network of `NETWORKS`. Raises ModuleNotFoundError where its package is not installed."""
    with torch.device("meta"), torch.no_grad():
        side = build(name, num_classes=100).image_size
        network = build(name, num_classes=100 if side == 32 else 1000).eval()
        with FlopCounterMode(display=False) as counted:
            taps = network(torch.empty(1, 3, side, side))
        channels, last_side = taps.last.shape[1:3]
        return NetworkFacts(
            channels=channels,
            reduction=side // last_side,
            parameters=sum(parameter.numel() for parameter in network.parameters()),
            multiply_adds=round(counted.get_total_flops() / 2e6, 1),
            classifies_regions=_works(network.classify, torch.empty(1, channels)),
            image_size=side,
            other_sizes=_works(network, torch.empty(1, 3, 2 * side, 2 * side)),
        )


def _works(function: Callable[[torch.Tensor], object], values: torch.Tensor) -> bool:
    try:
        function(values)
    except (CannotClassifyRegions, AssertionError, RuntimeError):  # timm asserts sizes, torch raises the last one
        return False
    return True
