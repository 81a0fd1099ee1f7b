"""Batch normalisation folded into the convolutions before it, for networks that only run forward."""

import copy

from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from msd_sweeps.distill.models.network import Network
from msd_sweeps.distill.models.shufflenet import ChannelShuffle


class _Tracer(fx.Tracer):
    """Symbolic tracing that does not look into ChannelShuffle, whose path depends on the memory layout."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, ChannelShuffle) or super().is_leaf_module(m, module_qualified_name)


def fold_batch_norm(network: Network) -> Network:
    """A frozen copy in eval mode whose BatchNorm2d layers are folded into convolutions where they can be.

    A BatchNorm2d folds when it alone reads the output of a Conv2d; it becomes an Identity. The others stay:
    in pre-activation networks those that follow an addition, or a convolution that a shortcut reads too.
    Taps and `classify` are those of the network, up to rounding.
    """
    folded = copy.deepcopy(network).eval().requires_grad_(False)
    for node in _Tracer().trace(folded).nodes:
        if node.op != "call_module" or not isinstance(node.args[0], fx.Node):
            continue
        source = node.args[0]
        if source.op != "call_module" or len(source.users) > 1:
            continue
        before, after = str(source.target), str(node.target)
        convolution, norm = folded.get_submodule(before), folded.get_submodule(after)
        if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            folded.set_submodule(before, fuse_conv_bn_eval(convolution, norm))
            folded.set_submodule(after, nn.Identity())
    return folded.requires_grad_(False)
