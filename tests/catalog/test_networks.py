"""The facts that the configuration is checked with, against the networks themselves."""

import importlib.util
import subprocess
import sys

import pytest
import torch

from msd_sweeps.catalog.networks import ARCHITECTURES
from msd_sweeps.distill.models import NETWORKS, CannotClassifyRegions, build

TIMM = {"swin_tiny", "vit_small", "deit_tiny", "mixer_b16", "convnext_tiny"}


def test_every_network_has_facts():
    assert list(ARCHITECTURES) == list(NETWORKS)


def test_facts_need_no_torch():
    code = "import sys, msd_sweeps.catalog.networks; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", NETWORKS)
def test_facts_match_the_network(name):
    if name in TIMM and importlib.util.find_spec("timm") is None:
        pytest.skip("needs timm")
    facts = ARCHITECTURES[name]
    with torch.device("meta"):  # shapes only
        network = build(name, num_classes=100 if facts.image_size == 32 else 1000).eval()
        taps = network(torch.empty(2, 3, facts.image_size, facts.image_size))
    side = facts.image_size // facts.reduction
    assert taps.last.shape == (2, facts.channels, side, side)
    assert sum(parameter.numel() for parameter in network.parameters()) == facts.parameters
    try:
        assert network.classify(taps.last.mean((2, 3))).shape == taps.logits.shape
        assert facts.classifies_regions
    except CannotClassifyRegions:
        assert not facts.classifies_regions
