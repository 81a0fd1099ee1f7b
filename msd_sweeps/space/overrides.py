"""Overrides: dotted paths and the values they get. A value is replaced as it stands; nothing is merged."""

from collections.abc import Mapping
from typing import Any

from msd_sweeps.space.errors import InputError, nearest
from msd_sweeps.space.schema import Changes
from msd_sweeps.space.settings import dotted, key_paths
from msd_sweeps.space.trial import Trial


def changed(trial: Trial, changes: Changes, where: str = "") -> Trial:
    """A trial with the values at some paths replaced.

    Raises InputError, which begins with `where`, for an unknown path or a value that does not fit.
    """
    tree = trial.model_dump(mode="json")
    if {"data.name", "data.root", "data.image_size"} & set(changes):
        tree["data"]["content"] = None  # other files: they are examined again
    for position, (path, value) in enumerate(changes.items(), 1):
        if path == "method.name" and value != tree["method"]["name"]:
            whole = f"method={{name: {value}}}, or in a space 'method: {{choices: [{{name: {value}}}]}}'"
            raise InputError(f"{where}{path}: another method has other settings, so replace it whole: {whole}")
        *sections, last = path.split(".")
        inside: Any = tree
        for section in sections:
            inside = inside.get(section) if isinstance(inside, dict) else None
        if not isinstance(inside, dict) or last not in inside:
            raise InputError(f"{where}'{path}' is not a setting; {nearest(path, key_paths(tree))}")
        inside[last] = value
        if path == "method" and position < len(changes):
            # Later paths may name the defaults of the new method.
            tree = Trial.of_tree(tree, dotted(where)).model_dump(mode="json")
    return Trial.of_tree(tree, dotted(where))


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of nested dictionaries by their dotted paths; lists stay whole, empty dictionaries are left out."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def overlap(one: str, other: str) -> bool:
    """Whether two dotted paths are the same, or one is a section that holds the other."""
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")
