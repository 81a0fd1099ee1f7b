import pytest
import torch
from torch import nn

from msd_sweeps.catalog.networks import NETWORKS
from msd_sweeps.distill.models import Network, build, fold_batch_norm

CIFAR = [name for name, facts in NETWORKS.items() if facts.image_size == 32]

# what follows an addition, or a convolution that a shortcut reads too, cannot fold
REMAINING = {"wrn_16_1": 7, "wrn_16_2": 6, "wrn_40_1": 19, "wrn_40_2": 18}


def _trained(name: str) -> Network:
    """A network whose normalisation layers are far from the identity."""
    torch.manual_seed(0)
    network = build(name, num_classes=20)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.uniform_(module.weight, 0.3, 1.0)
            nn.init.normal_(module.bias, std=0.2)
    return network


@pytest.mark.parametrize("name", CIFAR)
def test_folded_network_answers_the_same(name):
    network = _trained(name).train()
    folded = fold_batch_norm(network)
    assert network.training
    assert not folded.training
    network.eval()
    with torch.no_grad():
        images = torch.randn(2, 3, 32, 32)
        expected, actual = network(images), folded(images)
        rows = torch.randn(2, 5, expected.last.shape[1])
        assert torch.equal(folded.classify(rows), network.classify(rows))
    for one, other in zip((*actual.stages, *actual[1:]), (*expected.stages, *expected[1:]), strict=True):
        assert (one - other).abs().max() <= 1e-4 * other.abs().max()
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert norms == REMAINING.get(name, 0)


def test_folded_network_is_frozen_and_apart():
    network = _trained("resnet8")
    before = {key: value.clone() for key, value in network.state_dict().items()}
    folded = fold_batch_norm(network.to(memory_format=torch.channels_last))
    assert not any(parameter.requires_grad for parameter in folded.parameters())
    assert all(parameter.requires_grad for parameter in network.parameters())
    with torch.no_grad():
        for parameter in folded.parameters():
            parameter.zero_()
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


def test_folding_keeps_channels_last():
    folded = fold_batch_norm(_trained("ShuffleNetV2").to(memory_format=torch.channels_last))
    images = torch.randn(2, 3, 32, 32).to(memory_format=torch.channels_last)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        taps = folded(images)
    assert taps.last.is_contiguous(memory_format=torch.channels_last)
    assert taps.last.isfinite().all()
