"""Networks of one's own: any module, as long as it answers with logits, and with more where a method needs more."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from msd_sweeps.distill.models.network import CannotClassifyRegions, Network, Taps


class OwnNetwork(Network):
    """A module that answers with `Taps`, in which parts may be None, or with logits [B, K] alone."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Taps:
        answer = self.model(images)
        stages, last, pooled, logits = answer if isinstance(answer, tuple) else ((), None, None, answer)
        nothing = logits.new_empty(logits.shape[0], 0)  # len() would fix the number of images in an exported file
        last = nothing[:, :, None, None] if last is None else last
        return Taps(tuple(stages or ()), last, nothing if pooled is None else pooled, logits)

    def classify(self, rows: Tensor) -> Tensor:
        if not hasattr(self.model, "classify"):
            raise CannotClassifyRegions(f"{type(self.model).__name__} has no method `classify`")
        return self.model.classify(rows)  # type: ignore[operator]


def own_network(name: str, builder: Callable[..., Any], num_classes: int) -> Network:
    """The network that a function or class of one's own builds. Raises ValueError where it builds none."""
    model = builder(num_classes=num_classes)
    if not isinstance(model, nn.Module):
        raise ValueError(f"{name} gives a {type(model).__name__}; expected a torch.nn.Module")
    network = model if isinstance(model, Network) else OwnNetwork(model)
    network.image_size = getattr(model, "image_size", getattr(builder, "image_size", 32))  # type: ignore[misc]
    return network
