"""Transformers, mixers and ConvNeXt from timm, their tokens read as feature maps."""

from types import ModuleType
from typing import Any, ClassVar

from torch import Size, Tensor, nn

from msd_sweeps.distill.models.imagenet import torchvision
from msd_sweeps.distill.models.network import CannotClassifyRegions, Network, Taps
from msd_sweeps.space.errors import nearest


def _timm() -> ModuleType:
    torchvision()  # timm imports it, and may need the repair that is made there
    try:
        import timm
    except ModuleNotFoundError as error:
        if error.name != "timm":
            raise
        raise ModuleNotFoundError("needs timm: pip install 'msd-sweeps[transformers]'") from error
    return timm


class TimmNetwork(Network):
    """A timm model; last map [B, C, H, W] is the final tokens after their norm, without the class token.

    stages: the four stages, or for a network without stages the tokens after each quarter of its blocks.
    timm's own state dicts load unchanged. Fits MLP-Mixer (Tolstikhin et al. 2021): last map [B, 768, H/16, W/16].
    """

    image_size = 224
    head_path: ClassVar[str] = "model.head"
    layers_path: ClassVar[str] = "model.blocks"

    def __init__(self, name: str, num_classes: int):
        super().__init__()
        self.model: Any = _timm().create_model(name, pretrained=False, num_classes=num_classes)
        depth = len(list(self.get_submodule(self.layers_path).children()))
        self.indices = [quarter * depth // 4 - 1 for quarter in range(1, 5)]
        self.register_load_state_dict_pre_hook(_accept_timm_keys)

    def _map(self, features: Tensor, grid: Size) -> Tensor:
        """timm's final features as a map: [B, class token + H·W, C] -> [B, C, H, W]."""
        return features[:, -grid.numel() :].transpose(1, 2).unflatten(2, grid)

    def forward(self, images: Tensor) -> Taps:
        features, stages = self.model.forward_intermediates(images, indices=self.indices, output_fmt="NCHW")
        pooled = self.model.forward_head(features, pre_logits=True)
        logits = self.get_submodule(self.head_path)(pooled)
        return Taps(tuple(stages), self._map(features, stages[-1].shape[2:]), pooled, logits)


class TimmViT(TimmNetwork):
    """Vision transformer (Dosovitskiy et al. 2021; Touvron et al. 2021): last map [B, C, H/16, W/16].

    The classifier reads the class token, so regions cannot be classified.
    """

    def classify(self, rows: Tensor) -> Tensor:
        raise CannotClassifyRegions("its classifier reads the class token, not the last feature map")


class TimmSwin(TimmNetwork):
    """Swin transformer (Liu et al. 2021): last map [B, 768, H/32, W/32]."""

    head_path = "model.head.fc"
    layers_path = "model.layers"

    def _map(self, features: Tensor, grid: Size) -> Tensor:
        return features.permute(0, 3, 1, 2)  # timm keeps [B, H, W, C]


class TimmConvNeXt(TimmNetwork):
    """ConvNeXt (Liu et al. 2022): last map [B, 768, H/32, W/32]; the norm follows the pooling."""

    head_path = "model.head.fc"
    layers_path = "model.stages"

    def _map(self, features: Tensor, grid: Size) -> Tensor:
        return features

    def classify(self, rows: Tensor) -> Tensor:
        channels_first = rows.reshape(-1, rows.shape[-1], 1, 1)
        return self.model.head.fc(self.model.head.norm(channels_first).reshape(rows.shape))


class AnyTimm(Network):
    """Any classifier of timm, as `timm/NAME`: its feature maps where timm shows them, its pooled features, its logits.

    Regions are classified in ResNets and their kin alone, where a linear layer reads the mean of the last map.
    """

    def __init__(self, name: str, num_classes: int):
        super().__init__()
        timm = _timm()
        if not timm.is_model(name):
            raise ValueError(f"timm has no network '{name}'; {nearest(name, timm.list_models(), only_close=True)}")
        self.model: Any = timm.create_model(name, pretrained=False, num_classes=num_classes)
        self.image_size = self.model.default_cfg["input_size"][-1]  # type: ignore[misc]
        self.register_load_state_dict_pre_hook(_accept_timm_keys)
        depth = len(getattr(self.model, "feature_info", ()))
        quarters = [quarter * depth // 4 - 1 for quarter in range(1, 5)]
        self.indices = list(range(depth)) if depth <= 6 else quarters

    def forward(self, images: Tensor) -> Taps:
        if hasattr(self.model, "forward_intermediates"):
            final, stages = self.model.forward_intermediates(images, indices=self.indices, output_fmt="NCHW")
        else:
            final, stages = self.model.forward_features(images), []
        pooled = self.model.forward_head(final, pre_logits=True)
        last = self._map(final, stages)
        return Taps(tuple(stages), last, pooled, self.model.get_classifier()(pooled))

    def _map(self, final: Tensor, stages: list[Tensor]) -> Tensor:
        """timm's final features as a map [B, C, H, W]: [B, C, H, W], [B, H, W, C], or [B, class token + H·W, C]."""
        if final.dim() == 3 and stages:
            grid = stages[-1].shape[2:]
            return final[:, -grid.numel() :].transpose(1, 2).unflatten(2, grid)
        if final.dim() != 4:
            return final.new_empty(len(final), 0, 1, 1)
        return final if final.shape[1] == self.model.num_features else final.permute(0, 3, 1, 2)

    def classify(self, rows: Tensor) -> Tensor:
        if not isinstance(getattr(self.model, "fc", None), nn.Linear):
            raise CannotClassifyRegions("no linear layer reads the mean of its last feature map")
        return self.model.fc(rows)


def _accept_timm_keys(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Puts timm's keys under `model.`; keys that are there already stay."""
    inner = f"{prefix}model."
    for key in [key for key in state if key.startswith(prefix) and not key.startswith(inner)]:
        state[inner + key.removeprefix(prefix)] = state.pop(key)
