"""Networks in single files, in three formats, each with its card inside; and reading such files to evaluate them."""

import io
import json
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from msd_sweeps.distill import models
from msd_sweeps.distill.data.splits import Splits
from msd_sweeps.distill.device import choose_dtype
from msd_sweeps.distill.evaluation import Predict
from msd_sweeps.distill.foreign import fitted, read_weights
from msd_sweeps.distill.models.network import Network
from msd_sweeps.records.files import write_whole
from msd_sweeps.records.kept import Card, Kept
from msd_sweeps.space.errors import InputError

_KEY = "msd_sweeps"
"""Names the card in a file's own metadata."""
_NEEDED = "needs onnx, onnxscript and onnxruntime: pip install 'msd-sweeps[onnx]'"


class Classifier(nn.Module):
    """Images [B, 3, H, W], uint8, to logits [B, K]: normalisation and network in one."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: Network, card: Card):
        super().__init__()
        self.network = network
        self.register_buffer("mean", 255 * torch.tensor(card["mean"])[:, None, None])
        self.register_buffer("std", 255 * torch.tensor(card["std"])[:, None, None])

    def forward(self, images: Tensor) -> Tensor:
        return self.network((images.float() - self.mean) / self.std).logits


def network_of(card: Card, weights: dict[str, Tensor], source: Path) -> Network:
    """The network that a card names, with these weights, in evaluation mode. Raises TeacherError as `fitted`."""
    network = models.build(card["model"], card["num_classes"])
    network.load_state_dict(fitted(weights, network, source), strict=False)
    return network.eval()


def export(kept: Kept, out: Path, form: str) -> None:
    """Write a kept student into one file. Raises InputError where a package is missing, OSError.

    safetensors, torch: the state dictionary as it was trained, for `read_weights`. onnx: `Classifier` in float32, whose
    input `images` is uint8 [batch, 3, H, W] and whose output is `logits`.
    """
    tensors, text = safetensors.torch.load_file(kept.weights), json.dumps(kept.card)
    if form == "safetensors":
        content = safetensors.torch.save(tensors, {_KEY: text})
    elif form == "torch":
        buffer = io.BytesIO()
        torch.save({"state_dict": tensors, _KEY: text}, buffer)
        content = buffer.getvalue()
    else:
        content = _onnx(Classifier(network_of(kept.card, tensors, kept.weights), kept.card).eval(), text)
    write_whole(out, content)


def _onnx(classifier: Classifier, card: str) -> bytes:
    try:
        import onnxscript  # noqa: F401  torch's exporter imports it late
    except ModuleNotFoundError as error:
        raise InputError(f"--format onnx {_NEEDED}") from error
    side = json.loads(card)["image_size"]
    images = torch.zeros(2, 3, side, side, dtype=torch.uint8)
    shapes = {"images": {0: torch.export.Dim("batch")}}
    program: Any = torch.onnx.export(
        classifier,
        (images,),
        dynamo=True,
        dynamic_shapes=shapes,
        verbose=False,
        input_names=["images"],
        output_names=["logits"],
    )
    program.model.metadata_props[_KEY] = card
    return program.model_proto.SerializeToString()


def card_in(path: Path) -> Card | None:
    """The card of a file: in its metadata, or beside it as `card.json` or `teacher.json`. None where there is none.

    Raises InputError for a damaged file or card.
    """
    beside = [path.with_name(name) for name in ("card.json", "teacher.json")]
    found: Path | str | None = _metadata(path) or next((file for file in beside if file.is_file()), None)
    try:
        return json.loads(found.read_bytes() if isinstance(found, Path) else found) if found else None
    except ValueError as error:
        raise InputError(f"{path}: its card ({found if isinstance(found, Path) else 'inside'}) is damaged") from error


def _metadata(path: Path) -> str | None:
    """The card inside a file. Raises InputError for a damaged file."""
    try:
        if path.suffix == ".safetensors":
            with safetensors.safe_open(path, framework="pt") as file:
                return (file.metadata() or {}).get(_KEY)
        if path.suffix == ".onnx":
            return _session(path).get_modelmeta().custom_metadata_map.get(_KEY)
        content = torch.load(path, weights_only=True, map_location="cpu")
        return content.get(_KEY) if isinstance(content, dict) else None
    except InputError:
        raise
    except Exception:  # foreign bytes raise anything; other people's files hold more than tensors, and have no card
        read_weights(path)
        return None


def predictor(path: Path, card: Card, splits: Splits, device: torch.device) -> Predict:
    """The logits that a file's network gives images of `splits`. Raises InputError for a file that does not fit."""
    if path.suffix == ".onnx":
        return _onnx_predictor(path, splits)
    network = network_of(card, read_weights(path), path).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    dtype, normalise = choose_dtype(card["precision"], device), splits.normaliser()

    def predict(images: Tensor) -> Tensor:
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            return network(normalise(images)).logits.float()

    return predict


def _onnx_predictor(path: Path, splits: Splits) -> Predict:
    session = _session(path)
    wanted, found = session.get_inputs()[0].shape[1:], list(splits.test.image_shape)
    if wanted != found:
        raise InputError(f"{path}: takes images {wanted}, and the data has {found}; set data.image_size")

    def predict(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run(["logits"], {"images": images.cpu().numpy()})[0]).to(images.device)

    return predict


def _session(path: Path) -> Any:
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise InputError(f"{path}: {_NEEDED}") from error
    try:
        return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    except Exception as error:  # foreign bytes raise anything
        raise InputError(f"{path}: cannot be read as ONNX: {str(error).splitlines()[0]}") from error
