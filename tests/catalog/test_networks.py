"""The facts that the configuration is checked with, against the networks themselves."""

import importlib.util
import subprocess
import sys

import pytest

from msd_sweeps import schema
from msd_sweeps.catalog.networks import NETWORKS
from msd_sweeps.distill import models
from msd_sweeps.distill.models import measure

needs_timm = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="needs timm")


def test_every_network_has_facts():
    assert list(NETWORKS) == list(models.NETWORKS)


def test_facts_need_no_torch():
    code = "import sys, msd_sweeps.catalog.networks; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", models.NETWORKS)
def test_facts_are_those_that_are_measured(name):
    try:
        measured = measure(name)
    except ModuleNotFoundError as error:
        pytest.skip(str(error))
    assert measured == NETWORKS[name]


def test_facts_by_hand():
    """resnet8 with 100 classes, layer by layer: 3 × 3 convolutions, two 1 × 1 shortcuts, and the classifier."""
    convolutions = [(3, 16, 32), (16, 16, 32), (16, 16, 32), (16, 32, 16), (32, 32, 16), (32, 64, 8), (64, 64, 8)]
    shortcuts = [(16, 32, 16), (32, 64, 8)]
    multiply_adds = sum(9 * before * after * side**2 for before, after, side in convolutions)
    multiply_adds += sum(before * after * side**2 for before, after, side in shortcuts) + 64 * 100
    weights = sum(9 * before * after for before, after, _ in convolutions)
    weights += sum(before * after for before, after, _ in shortcuts)
    norms = 2 * sum(after for _, after, _ in [*convolutions, *shortcuts])
    found = measure("resnet8")
    assert found.multiply_adds == round(multiply_adds / 1e6, 1)
    assert found.parameters == weights + norms + 64 * 100 + 100
    assert (found.channels, found.reduction, found.image_size, found.other_sizes) == (64, 4, 32, True)


@needs_timm
def test_what_a_network_can_do_is_tried():
    assert not measure("deit_tiny").classifies_regions
    assert not measure("swin_tiny").other_sizes
    assert measure("convnext_tiny").other_sizes


def test_networks_whose_package_is_missing_keep_their_facts(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "timm", None)
    text = schema.facts_text.__wrapped__()
    assert text == schema.FACTS_FILE.read_text(encoding="utf-8")
    assert "vit_small: not measured, its facts stay as they are: needs timm" in capsys.readouterr().err


def test_stale_facts_are_noticed_and_measured_again(tmp_path, capsys):
    folder = ["--folder", str(tmp_path)]
    assert schema.main(folder) == 0
    path = tmp_path / "networks.json"
    current = path.read_text()
    path.write_text(current.replace("83892", "83893"))
    assert schema.main(["--check", *folder]) == 1
    assert "networks.json: not current" in capsys.readouterr().err
    assert schema.main(folder) == 0
    assert path.read_text() == current
