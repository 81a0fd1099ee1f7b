"""What is known of every network without building it. This module needs no torch.

The facts are measured on `msd_sweeps.distill.models.NETWORKS`: `python -m msd_sweeps.schema` writes them to
`networks.json`.
"""

import json
from pathlib import Path
from typing import NamedTuple


class NetworkFacts(NamedTuple):
    """Facts of one network: with 100 classes where it is made for images of 32 pixels, with 1000 elsewhere."""

    channels: int
    """Channels of the last feature map."""
    reduction: int
    """Side of the input over the side of the last feature map."""
    parameters: int
    """Number of parameters."""
    multiply_adds: float
    """Millions in the forward pass of one image of `image_size`, in convolutions and matrix products."""
    classifies_regions: bool
    """Whether the classifier can read the channels of the last feature map."""
    image_size: int
    """Side, in pixels, of the images that the network is made for."""
    other_sizes: bool
    """Whether it also takes images of another size."""

    def multiply_adds_at(self, image_size: int) -> float:
        """Millions in the forward pass of one image of another size: they grow with its area."""
        return self.multiply_adds * (image_size / self.image_size) ** 2


FACTS_FILE = Path(__file__).with_name("networks.json")
NETWORKS: dict[str, NetworkFacts] = {
    name: NetworkFacts(**facts) for name, facts in json.loads(FACTS_FILE.read_text(encoding="utf-8")).items()
}
