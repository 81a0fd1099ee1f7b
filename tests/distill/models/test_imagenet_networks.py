import pytest
import torch
from torch import nn

from msd_sweeps.distill.models import build, fold_batch_norm
from msd_sweeps.distill.models.imagenet import torchvision

TORCHVISION = {
    "imagenet_resnet18": "resnet18",
    "imagenet_resnet34": "resnet34",
    "imagenet_resnet50": "resnet50",
    "imagenet_mobilenet_v2": "mobilenet_v2",
}


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision_weights_load_and_answer_the_same(name):
    original = torchvision().models.get_model(TORCHVISION[name], weights=None, num_classes=10).eval()
    network = build(name, num_classes=10).eval()
    network.load_state_dict(original.state_dict(), strict=True)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(network(images).logits, original(images))


@pytest.mark.parametrize("name", [*TORCHVISION, "imagenet_mobilenet_v1"])
def test_classifies_the_mean_of_the_last_map_and_trains(name):
    network = build(name, num_classes=10).to(memory_format=torch.channels_last)
    images = torch.randn(2, 3, 64, 64).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        taps = network.train()(images)
        loss = sum(tap.square().mean() for tap in (*taps.stages, taps.last, taps.pooled, taps.logits))
    loss.backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    with torch.no_grad():
        taps = network.eval()(images)
        assert torch.equal(network.classify(taps.last.mean((2, 3))), taps.logits)
        folded = fold_batch_norm(network)
        torch.testing.assert_close(folded(images).logits, taps.logits, rtol=1e-3, atol=1e-3)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())


def test_mobilenet_v1_is_named_as_published():
    with torch.device("meta"):
        state = build("imagenet_mobilenet_v1", num_classes=1000).state_dict()
    assert {"model.0.1.weight", "model.1.3.weight", "model.13.4.running_var", "fc.bias"} <= set(state)
