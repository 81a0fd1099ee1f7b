"""What every network answers, whatever its family, and its frozen copy without batch normalisation."""

import copy
from collections.abc import Container, Iterable, Sequence
from typing import ClassVar, NamedTuple

import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


class Taps(NamedTuple):
    """What one forward pass shows of a network; batch first.

    stages: one feature map [B, C_i, H_i, W_i] per stage, fine to coarse, after its activation.
    last: the last feature map before global pooling, [B, C, H, W].
    pooled: the feature that the classifier reads, [B, D].
    logits: [B, K].
    """

    stages: tuple[Tensor, ...]
    last: Tensor
    pooled: Tensor
    logits: Tensor

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return (*self.stages, self.last, self.pooled, self.logits)

    @classmethod
    def of(cls, tensors: Sequence[Tensor]) -> "Taps":
        """The taps that have these `tensors`."""
        *stages, last, pooled, logits = tensors
        return cls(tuple(stages), last, pooled, logits)


class CannotClassifyRegions(ValueError):
    """The network's classifier does not read the channels of its last feature map."""


class Network(nn.Module):
    """A classifier whose forward pass returns its `Taps`."""

    image_size: ClassVar[int] = 32
    """Side, in pixels, of the images that the network is made for."""
    head_path: ClassVar[str | None] = None
    """Where the layer is that makes logits of the last feature map's channels; None where there is no such layer."""

    def forward(self, images: Tensor) -> Taps:  # [B, 3, H, W]
        raise NotImplementedError

    def taps(self, stages: Sequence[Tensor], last: Tensor | None = None) -> Taps:
        """The taps of a network whose head reads the mean of its last feature map, by default that of its stages."""
        last = stages[-1] if last is None else last
        pooled = last.mean((2, 3))
        return Taps(tuple(stages), last, pooled, self.classify(pooled))

    def classify(self, rows: Tensor) -> Tensor:
        """Logits [..., K] of rows [..., C] that lie in the channels of the last feature map.

        Raises CannotClassifyRegions where the classifier reads something else.
        """
        if self.head_path is None:
            raise CannotClassifyRegions(f"{type(self).__name__}: no classifier reads its last feature map")
        return self.get_submodule(self.head_path)(rows)


class StagedNetwork(Network):
    """A stem of `conv1`, `bn1` and a relu, and then one module for each stage: `layer1`, `layer2`, and so on."""

    def __init__(self, conv1: nn.Conv2d, stages: Iterable[nn.Module]):
        super().__init__()
        self.conv1, self.bn1 = conv1, nn.BatchNorm2d(conv1.out_channels)
        for number, stage in enumerate(stages, 1):
            self.add_module(f"layer{number}", stage)

    def forward(self, images: Tensor) -> Taps:
        return self.taps(self.stages(images))

    def stem(self, images: Tensor) -> Tensor:
        return F.relu(self.bn1(self.conv1(images)), inplace=True)

    def stages(self, images: Tensor) -> list[Tensor]:
        layers = (layer for name, layer in self.named_children() if name.startswith("layer"))
        return maps_after(layers, self.stem(images))


def maps_after(layers: Iterable[nn.Module], x: Tensor, numbers: Container[int] | None = None) -> list[Tensor]:
    """The maps after the layers of these numbers, counted from 1; after all of them where `numbers` is absent."""
    maps = []
    for number, layer in enumerate(layers, 1):
        x = layer(x)
        if numbers is None or number in numbers:
            maps.append(x)
    return maps


def initialise_he(network: nn.Module, linear_std: float | None = None) -> None:
    """Normal fan-out initialisation of every convolution (He et al. 2015), zero biases.

    linear_std: standard deviation of the linear weights; None keeps PyTorch's default for linear layers.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear) and linear_std is not None:
            nn.init.normal_(module.weight, std=linear_std)
            nn.init.zeros_(module.bias)


def _traced(network: nn.Module) -> Iterable[fx.Node]:
    """The nodes of a network; none of one whose forward pass cannot be traced, such as one that branches on values."""
    try:
        return fx.Tracer().trace(network).nodes
    except Exception:  # own code may raise anything when it is run on stand-ins for tensors
        return ()


def fold_batch_norm(network: Network) -> Network:
    """A frozen copy in eval mode whose BatchNorm2d layers are folded into convolutions where they can be.

    A BatchNorm2d folds when it alone reads the output of a Conv2d; it becomes an Identity. The others stay:
    in pre-activation networks those that follow an addition, or a convolution that a shortcut reads too.
    Taps and `classify` are those of the network, up to rounding.
    """
    folded = copy.deepcopy(network).eval().requires_grad_(False)
    for node in _traced(folded):
        source = node.args[0] if node.op == "call_module" else None
        if not isinstance(source, fx.Node) or source.op != "call_module" or len(source.users) > 1:
            continue
        before, after = str(source.target), str(node.target)
        convolution, norm = folded.get_submodule(before), folded.get_submodule(after)
        if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            folded.set_submodule(before, fuse_conv_bn_eval(convolution, norm))
            folded.set_submodule(after, nn.Identity())
    return folded.requires_grad_(False)
