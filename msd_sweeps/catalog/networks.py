"""What is known of every network without building it, as `python -m msd_sweeps.schema` measures it. Without torch."""

import json
import pkgutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple


class NetworkFacts(NamedTuple):
    """Facts of one network: with 100 classes where it is made for images of 32 pixels, with 1000 elsewhere."""

    channels: int
    """Of the last feature map."""
    reduction: int
    """Side of the input over the side of the last feature map."""
    parameters: int
    multiply_adds: float
    """Millions in the forward pass of one image of `image_size`, in convolutions and matrix products."""
    classifies_regions: bool
    """Whether the classifier can read the channels of the last feature map."""
    image_size: int
    """Side, in pixels, of the images that the network is made for."""
    other_sizes: bool
    """Whether it also takes images of another size."""
    lacks: tuple[str, ...] = ()
    """What its forward pass does not show: stages, last, pooled (see `Taps`)."""

    def multiply_adds_at(self, image_size: int) -> float:
        """Millions in the forward pass of one image of another size: they grow with its area."""
        return self.multiply_adds * (image_size / self.image_size) ** 2


FACTS_FILE = Path(__file__).with_name("networks.json")
BUILDERS: dict[str, Callable[..., Any]] = {}
"""Networks of one's own that are registered by a name."""


class _Networks(dict[str, NetworkFacts]):
    """The facts of all networks by name. Those of one's own and of timm are measured when they are first looked up.

    Looking up raises KeyError for an unknown name, ValueError for a network that cannot be built.
    """

    measured: set[str]

    def __missing__(self, name: str) -> NetworkFacts:
        if name not in BUILDERS and ":" not in name and not name.startswith("timm/"):
            raise KeyError(name)
        self[name] = pkgutil.resolve_name("msd_sweeps.distill.models:measure")(name)  # which needs torch
        self.measured.add(name)
        return self[name]


NETWORKS = _Networks(
    (name, NetworkFacts(**facts)) for name, facts in json.loads(FACTS_FILE.read_text(encoding="utf-8")).items()
)
NETWORKS.measured = set()


class Pair(NamedTuple):
    """What a trial gives its method to compare: names of its networks and of its data, side of the images in pixels."""

    teacher: str
    student: str
    data: str
    image_size: int

    @property
    def map_side(self) -> int:
        """Side, in pixels, of the smaller of both last feature maps."""
        reduction = max(NETWORKS[self.student].reduction, NETWORKS[self.teacher].reduction)
        return max(1, self.image_size // reduction)

    def check_scales(self, scales: Sequence[int], stride: str = "half") -> None:
        """Raises ValueError for a scale that divides the smaller of both last feature maps into less than pixels, and
        for windows that have another name: k − 1 of a side of k tile it as half-sliding windows of scale k/2 do."""
        for scale in scales:
            if scale > self.map_side:
                hint = f"the finest scale of {self.teacher} -> {self.student} on {self.data} is {self.map_side}"
                raise ValueError(f"method.scales: scale {scale} is finer than the feature map; {hint}")
        side, (*coarser, finest) = self.map_side, scales
        if stride == "window" and side > 2 and side == finest + 1 and side % 2 == 0 and coarser in ([], [1]):
            found = f"scale {finest} on a map of {side} x {side} has the windows of stride: half at scale {side // 2}"
            raise ValueError(f"method.scales: {found}, so that one loss would have two names; write it so")

    def check_classifiers(self, *roles: str) -> None:
        """Raises ValueError where the classifier of the student or the teacher cannot label regions."""
        for role in roles:
            model = getattr(self, role)
            if not NETWORKS[model].classifies_regions:
                problem = f"the classifier of the {role} {model} does not read its last feature map"
                hint = "it cannot label regions; use msd with regions: all and projector: linear"
                raise ValueError(f"method: {problem}, so {hint}")
