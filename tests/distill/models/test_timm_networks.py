import importlib.util
import sys

import pytest
import torch

from msd_sweeps.distill.models import CannotClassifyRegions, build
from msd_sweeps.distill.models.timm_networks import _timm

NAMES = {
    "swin_tiny": "swin_tiny_patch4_window7_224",
    "vit_small": "vit_small_patch16_224",
    "deit_tiny": "deit_tiny_patch16_224",
    "mixer_b16": "mixer_b16_224",
    "convnext_tiny": "convnext_tiny",
}
needs_timm = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="needs timm")


@needs_timm
@pytest.mark.parametrize("name", NAMES)
def test_timm_weights_load_and_answer_the_same(name):
    original = _timm().create_model(NAMES[name], pretrained=False, num_classes=10).eval()
    network = build(name, num_classes=10).eval()
    network.load_state_dict(original.state_dict(), strict=True)
    network.load_state_dict(network.state_dict(), strict=True)
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        taps = network(images)
        torch.testing.assert_close(taps.logits, original(images))
        if name in ("vit_small", "deit_tiny"):
            with pytest.raises(CannotClassifyRegions):
                network.classify(taps.pooled)
        else:
            logits = network.classify(taps.last.mean((2, 3)))
            torch.testing.assert_close(logits, taps.logits, rtol=1e-4, atol=1e-4)
            assert network.classify(taps.last.flatten(2).transpose(1, 2)).shape[::2] == (1, 10)


@needs_timm
@pytest.mark.parametrize(
    ("name", "last"), [("deit_tiny", (192, 14)), ("mixer_b16", (768, 14)), ("swin_tiny", (768, 7))]
)
def test_all_of_a_network_trains(name, last):
    network = build(name, num_classes=10).train()
    with torch.autocast("cpu", torch.bfloat16):
        taps = network(torch.randn(2, 3, 224, 224))
        loss = sum(tap.square().mean() for tap in (*taps.stages, taps.last, taps.pooled, taps.logits))
    loss.backward()
    assert taps.last.shape == (2, last[0], last[1], last[1])
    assert len(taps.stages) == 4
    assert all(parameter.grad is not None for parameter in network.parameters())


@needs_timm
def test_class_token_is_dropped_from_the_map():
    network = build("deit_tiny", num_classes=10).eval()
    with torch.no_grad():
        images = torch.randn(1, 3, 224, 224)
        tokens = network.model.forward_features(images)  # [B, 1 + 14 · 14, C]
        last = network(images).last
    assert torch.equal(last[:, :, 1, 0], tokens[:, 1 + 14])


def test_missing_timm_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ModuleNotFoundError, match=r"msd-sweeps\[transformers\]"):
        build("vit_small", num_classes=10)
