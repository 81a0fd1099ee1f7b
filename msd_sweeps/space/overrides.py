"""Overrides: dotted paths and the values they get. A value is replaced as it stands; nothing is merged."""

from collections.abc import Iterable, Mapping
from typing import Any

from msd_sweeps.space.errors import InputError, nearest
from msd_sweeps.space.schema import Changes
from msd_sweeps.space.trial import Trial
from msd_sweeps.space.validation import dotted, split_path, validated


def changed(trial: Trial, changes: Changes, where: str = "") -> Trial:
    """A trial with the values at some paths replaced.

    Raises InputError, which begins with `where`, for a path that is not there or a value that does not fit.
    """
    tree = trial.model_dump(mode="json")
    if {"data.name", "data.root", "data.image_size"} & set(changes):
        tree["data"]["content"] = None  # other files: they are looked at again
    for position, (path, value) in enumerate(changes.items(), 1):
        _refuse_half_a_method(tree, path, value, where)
        replace(tree, path, value, where, known=tree)
        if path == "method" and position < len(changes):
            # Later paths may name the defaults of the new method.
            tree = validated(Trial, tree, dotted(where)).model_dump(mode="json")
    return validated(Trial, tree, dotted(where))


def _refuse_half_a_method(tree: dict[str, Any], path: str, value: Any, where: str) -> None:
    if path == "method.name" and value != tree["method"]["name"]:
        raise InputError(
            f"{where}{path}: another method has other settings, so replace it whole: method={{name: {value}}}, or "
            f"in a space 'method: {{choices: [{{name: {value}}}]}}'"
        )


def replace(tree: dict[str, Any], path: str, value: Any, where: str, known: dict[str, Any]) -> None:
    """Replace the value at a dotted path of a tree; `known` holds every path that exists. Raises InputError."""
    parts, inside = list(map(str, split_path(known, path))), known
    for depth, part in enumerate(parts):
        if not isinstance(inside, dict) or part not in inside:
            raise InputError(f"{where}'{path}' is not a setting; {nearest(path, with_sections(flatten(known)))}")
        inside = inside[part]
        if depth < len(parts) - 1:
            if not isinstance(tree.get(part), dict):
                tree[part] = {}
            tree = tree[part]
    tree[parts[-1]] = value


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of nested dictionaries by their dotted paths; lists stay whole, empty dictionaries are left out."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def with_sections(paths: Iterable[str]) -> list[str]:
    """Dotted paths, and before them the sections that they stand in: `a.b.c` gives `a`, `a.b` and `a.b.c`."""
    parts = (path.split(".") for path in paths)
    return list(dict.fromkeys(".".join(keys[:end]) for keys in parts for end in range(1, len(keys) + 1)))
