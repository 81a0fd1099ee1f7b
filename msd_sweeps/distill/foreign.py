"""Weights that other people's code wrote: read without running anything in the file, and fitted to a network."""

import argparse
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from msd_sweeps.space.errors import InputError

_PREFERRED = ("model", "state_dict", "model_state_dict", "net")
"""Where the weights are, of a file that holds several sets of tensors."""
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_HARMLESS: list[Any] = [
    argparse.Namespace,  # the options that RepDistiller's scripts keep beside the weights
    np.dtype,
    *(
        (function, f"{module}.multiarray.scalar")
        for function in (np._core.multiarray.scalar,)  # type: ignore[attr-defined]
        for module in ("numpy.core", "numpy._core")
    ),
    *(type(np.dtype(kind)) for kind in ("bool", "int32", "int64", "float32", "float64")),
]
"""Objects beside the weights that only hold values."""


class TeacherError(InputError):
    """A teacher's file is absent, damaged, unsafe or of another network; the message says which and what to do."""


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a weights file by name, without running anything that the file may hold.

    Understands safetensors, and .pth or .pt state dictionaries, bare or inside another dictionary. Raises TeacherError.
    """
    if not path.is_file():
        raise TeacherError(f"{path}: no such file; teacher.weights names the file of the teacher's weights")
    try:
        if path.suffix == ".safetensors":
            content: Any = safetensors.torch.load_file(path)
        else:
            with torch.serialization.safe_globals(_HARMLESS):
                content = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # unpickling a foreign file can raise anything
        raise TeacherError(
            f"{path}: cannot be read as weights, and nothing else in it was run {_why(path, error)}"
        ) from error
    weights = _unwrapped(content, path)
    for name, tensor in weights.items():
        if tensor.is_complex() or (tensor.is_floating_point() and not tensor.isfinite().all()):
            kind = "complex" if tensor.is_complex() else "not finite"
            raise TeacherError(
                f"{path}: '{name}' has values that are {kind}; give the file of a network that was trained"
            )
    return weights


def _why(path: Path, error: Exception) -> str:
    """Which object was refused, and the line that converts the file; or what else was wrong."""
    text = _COLOURS.sub("", str(error))
    refused = re.search(r"GLOBAL ([\w.]+)", text)
    if refused is None:
        first_line = text.splitlines()[0] if text else "no reason given"
        return f"({type(error).__name__}: {first_line}); expected a .safetensors file or a state dictionary"
    code = (
        f"import torch; c = torch.load({str(path)!r}, weights_only=False); "
        "c = c.get('model', c.get('state_dict', c)) if isinstance(c, dict) else c; "
        "torch.save(c if isinstance(c, dict) else c.state_dict(), 'weights.pt')"
    )
    hint = "if you trust the file, this runs what it holds and keeps the weights alone"
    return f'(it holds a {refused[1]}, which is more than tensors); {hint}:\n  python -c "{code}"'


def _is_weights(value: Any) -> bool:
    return isinstance(value, Mapping) and bool(value) and all(isinstance(one, Tensor) for one in value.values())


def _unwrapped(content: Any, path: Path) -> dict[str, Tensor]:
    """The tensors by name: the content itself, or the one dictionary of tensors inside it."""
    found = dict(_inside(content, ""))
    chosen = [name for name in found if name == ""] or [one for one in _PREFERRED if one in found] or list(found)
    if chosen and (len(found) == 1 or chosen[0] in ("", *_PREFERRED)):
        return dict(found[chosen[0]])
    problem = f"found {len(found)} ({', '.join(found)}); keep one" if found else "found none"
    raise TeacherError(
        f"{path}: expected tensors by name, bare or in one dictionary inside the file, such as 'model'; {problem}"
    )


def _inside(content: Any, name: str) -> Iterator[tuple[str, Mapping[str, Tensor]]]:
    """The dictionaries of tensors in nested dictionaries, by their dotted keys."""
    if _is_weights(content):
        yield name, content
    elif isinstance(content, Mapping):
        for key, value in content.items():
            yield from _inside(value, f"{name}.{key}".lstrip("."))


def fitted(weights: Mapping[str, Tensor], network: nn.Module, path: Path) -> dict[str, Tensor]:
    """The weights by the network's own names, without what wrappers put before them: `module.`, `_orig_mod.`, `model.`.

    Raises TeacherError that names a key that does not fit.
    """
    expected = network.state_dict()
    heads = {name.partition(".")[0] for name in expected}
    named: dict[str, Tensor] = {}
    problems: list[str] = []
    for name, tensor in weights.items():
        own = _own_name(name, expected, heads)
        if own is None or own in named:
            problems.append(f"'{name}' has no place in it")
        else:
            named[own] = tensor
    missing = [name for name in expected if name not in named and not name.endswith("num_batches_tracked")]
    shapes = {name: (list(named[name].shape), list(expected[name].shape)) for name in expected if name in named}
    found = [f"'{name}' is missing" for name in missing]
    found += [f"'{name}' is {found}, expected {own}" for name, (found, own) in shapes.items() if found != own]
    if found or problems:
        what = f"not the weights of a {type(network).__name__} as configured"
        raise TeacherError(f"{path}: {what}: {(found + problems)[0]}")
    return named


def _own_name(name: str, expected: Mapping[str, Tensor], heads: set[str]) -> str | None:
    """The network's name of a key: without leading parts that name nothing in the network; timm's under `model.`."""
    parts = name.split(".")
    for start in range(len(parts)):
        rest = ".".join(parts[start:])
        for own in (rest, f"model.{rest}"):
            if own in expected:
                return own
        if parts[start] in heads - {"model"}:
            return None
    return None
