"""What holds for every CIFAR network, and what a checkpoint of RepDistiller expects."""

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from msd_sweeps.catalog import networks as catalog
from msd_sweeps.distill.models import NETWORKS, CannotClassifyRegions, Network, build
from msd_sweeps.distill.models.shufflenet import channel_shuffle

CIFAR = [name for name, facts in catalog.NETWORKS.items() if facts.image_size == 32]
WEIGHTS = Path(__file__).resolve().parents[3] / "../shared/data/weights"

# counted in RepDistiller with 100 classes
PARAMETERS = {
    "resnet8": 83892,
    "resnet14": 181108,
    "resnet20": 278324,
    "resnet32": 472756,
    "resnet44": 667188,
    "resnet56": 861620,
    "resnet110": 1736564,
    "resnet8x4": 1233540,
    "resnet32x4": 7433860,
    "wrn_16_1": 180916,
    "wrn_16_2": 703284,
    "wrn_40_1": 569780,
    "wrn_40_2": 2255156,
    "vgg8": 3965028,
    "vgg13": 9462180,
    "MobileNetV2": 812836,
    "ShuffleNetV1": 949258,
    "ShuffleNetV2": 1355528,
    "ResNet50": 23705252,
}

STAGES = {
    "resnet20": [(16, 32), (32, 16), (64, 8)],
    "resnet8x4": [(64, 32), (128, 16), (256, 8)],
    "wrn_40_2": [(32, 32), (64, 16), (128, 8)],
    "vgg13": [(128, 16), (256, 8), (512, 4), (512, 4)],
    "MobileNetV2": [(12, 16), (16, 8), (48, 4), (160, 2)],
    "ShuffleNetV1": [(240, 16), (480, 8), (960, 4)],
    "ShuffleNetV2": [(116, 16), (232, 8), (464, 4)],
    "ResNet50": [(256, 32), (512, 16), (1024, 8), (2048, 4)],
}

KEYS = {
    "resnet8x4": ["conv1", "bn1", "layer1.0.conv1", "layer1.0.bn2", "layer1.0.downsample.1", "fc"],
    "wrn_16_2": ["conv1", "block1.layer.0.convShortcut", "block2.layer.1.bn1", "bn1", "fc"],
    "vgg13": ["block0.0", "block0.1", "block0.3", "block4.4", "classifier"],
    "MobileNetV2": ["conv1.0", "blocks.0.0.conv.0", "blocks.6.0.conv.7", "conv2.1", "classifier.0"],
    "ShuffleNetV1": ["conv1", "layer1.0.bn3", "layer3.3.conv2", "linear"],
    "ShuffleNetV2": ["layer1.0.conv5", "layer1.3.bn3", "conv2", "bn2", "linear"],
    "ResNet50": ["conv1", "layer1.0.shortcut.1", "layer4.2.bn3", "linear"],
}


@pytest.mark.parametrize("name", CIFAR)
def test_parameters_are_those_of_the_published_networks(name):
    with torch.device("meta"):
        network = build(name, num_classes=100)
    assert sum(parameter.numel() for parameter in network.parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", STAGES)
def test_stages_run_from_fine_to_coarse(name):
    with torch.device("meta"):
        taps = build(name, num_classes=10)(torch.empty(2, 3, 32, 32))
    assert [tuple(stage.shape) for stage in taps.stages] == [(2, c, side, side) for c, side in STAGES[name]]


@pytest.mark.parametrize("name", KEYS)
def test_modules_are_named_as_in_published_checkpoints(name):
    with torch.device("meta"):
        state = build(name, num_classes=10).state_dict()
    assert {f"{key}.weight" for key in KEYS[name]} <= set(state)


@pytest.mark.parametrize("name", CIFAR)
def test_classifier_reads_the_mean_of_the_last_map(name):
    network = build(name, num_classes=7).eval()
    with torch.no_grad():
        taps = network(torch.randn(3, 3, 32, 32))
        assert torch.equal(taps.last.mean((2, 3)), taps.pooled)
        assert torch.equal(network.classify(taps.pooled), taps.logits)
        rows = taps.last.flatten(2).transpose(1, 2)  # [B, R, C]
        regions = network.classify(rows)  # [B, R, K]
    torch.testing.assert_close(regions.mean(1), taps.logits, rtol=1e-4, atol=1e-4)
    assert taps.last.min() >= 0  # activated


@pytest.mark.parametrize("name", CIFAR)
def test_trains_in_channels_last_and_bfloat16(name):
    network = build(name, num_classes=7).train().to(memory_format=torch.channels_last)
    images = torch.randn(2, 3, 32, 32).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        taps = network(images)
        # a square keeps the tap for its backward pass, which fails if the network has written to it since
        loss = sum(tap.square().mean() for tap in (*taps.stages, taps.last, taps.pooled, taps.logits))
    assert taps.last.is_contiguous(memory_format=torch.channels_last)
    loss.backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key


@pytest.mark.parametrize("name", ["resnet20", "wrn_16_2", "vgg8", "MobileNetV2", "ShuffleNetV1", "ShuffleNetV2"])
def test_memory_layout_does_not_change_the_result(name):
    network = build(name, num_classes=7).eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = network(images).logits
        network.to(memory_format=torch.channels_last)
        actual = network(images.to(memory_format=torch.channels_last)).logits
    torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-4)


def test_channel_shuffle_interleaves_groups():
    x = torch.arange(6.0).reshape(1, 6, 1, 1).repeat(2, 1, 2, 3)
    for layout in (torch.contiguous_format, torch.channels_last):
        out = channel_shuffle(x.contiguous(memory_format=layout), 3)
        assert out[1, :, 1, 2].tolist() == [0, 2, 4, 1, 3, 5]
        assert out.is_contiguous(memory_format=layout)


def test_wide_resnet_taps_what_the_next_stage_reads():
    network = build("wrn_16_1", num_classes=7).eval()
    read = []
    network.block2.layer[0].conv1.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
    with torch.no_grad():
        taps = network(torch.randn(2, 3, 32, 32))
    assert taps.stages[0] is read[0]
    assert taps.stages[0].min() >= 0


@pytest.mark.parametrize("name", ["resnet32x4", "wrn_40_2", "vgg13", "MobileNetV2", "ResNet50"])
def test_convolutions_start_from_fan_out(name):
    torch.manual_seed(0)
    network = build(name, num_classes=100)
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 5000:
            fan_out = math.prod(module.kernel_size) * module.out_channels
            assert module.weight.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=0.1)


def test_classifiers_start_as_published():
    torch.manual_seed(0)
    assert build("vgg13", 100).classifier.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert build("MobileNetV2", 100).classifier[0].weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert build("wrn_40_2", 100).fc.bias.abs().max() == 0
    assert build("resnet20", 100).fc.bias.abs().max() > 0


def test_published_resnet56_loads():
    path = WEIGHTS / "cifar100_resnet56/cifar100_resnet56-f2eff4c8.pt"
    if not path.exists():
        pytest.skip("needs the shared weights")
    build("resnet56", num_classes=100).load_state_dict(torch.load(path, weights_only=True), strict=True)


def test_unknown_name_gives_the_nearest():
    with pytest.raises(ValueError, match="resnet56"):
        build("resnet_56", num_classes=100)
    with pytest.raises(ValueError, match="MobileNetV2"):
        build("mobilenetv2", num_classes=100)
    with pytest.raises(ValueError, match="wrn_40_2"):
        build("?", num_classes=100)


def test_regions_are_refused_by_default():
    with pytest.raises(CannotClassifyRegions, match="Network"):
        Network().classify(torch.zeros(1, 2))


def test_impossible_depths_are_refused():
    from msd_sweeps.distill.models.resnet_cifar import ResNetCifar, WideResNet

    with pytest.raises(ValueError, match="21"):
        ResNetCifar(21, (16, 16, 32, 64), 10)
    with pytest.raises(ValueError, match="20"):
        WideResNet(20, 1, 10)


def test_every_cifar_network_is_counted():
    assert set(PARAMETERS) == set(CIFAR) <= set(NETWORKS)
