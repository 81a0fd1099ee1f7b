"""Overrides: dotted paths and the values they get. A value is replaced as it stands; nothing is merged."""

import difflib
from collections.abc import Iterator
from typing import Any

from msd_sweeps.space.schema import Changes
from msd_sweeps.space.strict_yaml import InputError, parse_scalar
from msd_sweeps.space.trial import Trial
from msd_sweeps.space.validation import dotted, split_path, validated


def setting(text: str) -> tuple[str, Any]:
    """Path and value of one `--set path=value`. Raises InputError."""
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not key:
        raise InputError(f"--set {text!r}: expected path=value, for example --set recipe.epochs=2")
    return key, parse_scalar(value, f"--set {key}")


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
            raise InputError(f"{where}'{path}' is not a setting; {nearest_path(path, list(paths(known)))}")
        inside = inside[part]
        if depth < len(parts) - 1:
            if not isinstance(tree.get(part), dict):
                tree[part] = {}
            tree = tree[part]
    tree[parts[-1]] = value


def paths(tree: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Every dotted path of a tree."""
    for key, value in tree.items():
        yield prefix + key
        if isinstance(value, dict):
            yield from paths(value, f"{prefix}{key}.")


def nearest_path(path: str, known: list[str]) -> str:
    """`did you mean 'x'?` with the paths that end alike, else with the one that is spelt most alike."""
    last = path.rsplit(".", 1)[-1]
    alike = [name for name in known if name.rsplit(".", 1)[-1] == last]
    alike = difflib.get_close_matches(path, alike, n=2, cutoff=0) or difflib.get_close_matches(
        path, known, n=1, cutoff=0
    )
    return "did you mean " + " or ".join(f"'{name}'" for name in alike) + "?"
