"""From the names on a command line to a checked sweep: files found and read, settings applied, all of it checked."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from msd_sweeps.space.checks import check_reachable, check_weights
from msd_sweeps.space.designs import Sweep
from msd_sweeps.space.errors import InputError, KeyPath, nearest
from msd_sweeps.space.own_code import find_named, load_imports
from msd_sweeps.space.schema import Space
from msd_sweeps.space.settings import Changes, Where, overlap, paths
from msd_sweeps.space.strict_yaml import Document, parse, parse_scalar
from msd_sweeps.space.trial import Trial, changed

SHIPPED = Path("search_spaces")


def load(
    space: str,
    base: str | None = None,
    settings: Iterable[str] = (),
    num_samples: int | None = None,
    name: str | None = None,
) -> Sweep:
    """Read a space and its base, apply `path=value` settings, and check every trial in reach. Raises InputError."""
    file = find(space, SHIPPED)
    document = parse(file)
    overrides = dict(map(setting, settings))
    of_space = {key: value for key, value in overrides.items() if key.split(".")[0] in Space.model_fields}
    of_base = {key: value for key, value in overrides.items() if key not in of_space}
    load_imports(document.data.get("imports"), file.parent, document.where)
    find_named(document.data, document.where)
    tree = document.data | ({} if base is None else {"base": base})
    checked = Space.of_tree(tree, document.where)
    if num_samples is not None:
        if checked.design != "search":
            raise InputError(f"--num-samples {num_samples}: only a search samples, and this is a {checked.design}")
        of_space["search.num_samples"] = num_samples
    known = paths(checked.model_dump(mode="json"))
    for path, value in of_space.items():
        if path not in known:
            raise InputError(f"--set '{path}' is not a setting; {nearest(path, known)}")
        (*sections, last), _ = known[path]
        inside = tree
        for section in sections:
            inside = inside.setdefault(section, {})
        inside[last] = value
    where = _where(document, of_space)
    checked = Space.of_tree(tree, where)
    base_document = parse(find(checked.base, SHIPPED / "bases", near=file.parent))
    name = name or (file.stem if base is None else f"{file.stem}-{Path(base).stem}")
    sweep = Sweep(checked_name(name), checked, _base_trial(base_document, of_base))
    check_reachable(sweep, where, _where(base_document, of_base), of_base)
    return sweep


def load_base(base: str, settings: Iterable[str] = ()) -> Trial:
    """Read a base alone. Raises InputError."""
    document = parse(find(base, SHIPPED / "bases"))
    overrides = dict(map(setting, settings))
    trial = _base_trial(document, overrides)
    check_weights(trial, _where(document, overrides)(("teacher", "weights")))
    return trial


def setting(text: str) -> tuple[str, Any]:
    """Path and value of one `--set path=value`. Raises InputError."""
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not key:
        raise InputError(f"--set {text!r}: expected path=value, for example --set recipe.epochs=2")
    return key, parse_scalar(value, f"--set {key}")


def _base_trial(document: Document, overrides: Changes) -> Trial:
    """A base with its overrides."""
    load_imports(document.data.get("imports"), document.path.parent, document.where)
    find_named(document.data, document.where)
    tree, data = document.data, document.data.get("data")
    # The location in the file may be of another machine, and reading the base looks for the images.
    located = {path: value for path, value in overrides.items() if path in ("data.root", "data.image_size")}
    if isinstance(data, dict):
        tree = tree | {"data": data | {path.removeprefix("data."): value for path, value in located.items()}}
    return changed(Trial.of_tree(tree, _where(document, located)), overrides, "--set ")


def _where(document: Document, overrides: Changes) -> Where:
    """The place of a key: its option `--set` where the command line sets it, else its line in the file."""

    def where(key: KeyPath) -> str:
        path = ".".join(map(str, key))
        return f"--set {path}: " if path and any(overlap(path, one) for one in overrides) else document.where(key)

    return where


def find(name: str, folder: Path, near: Path | None = None) -> Path:
    """A file by its path, or by its name in a folder here or beside the package. Raises InputError."""
    file_name = name if name.endswith((".yaml", ".yml", ".json")) else f"{name}.yaml"
    package_root = Path(__file__).resolve().parents[2]
    folders = [Path(), *([near, near / "bases"] if near else []), folder, package_root / folder]
    for candidate in folders:
        if os.path.isfile(candidate / file_name):  # unlike Path.is_file, False for a name that no file can have
            return candidate / file_name
    known = {path.stem for candidate in (folder, package_root / folder) for path in candidate.glob("*.yaml")}
    raise InputError(f"{name}: no such file, nor one of that name in {folder}/; {nearest(Path(file_name).stem, known)}")


def checked_name(name: str) -> str:
    """The name of a sweep, safe as the name of a folder. Raises InputError."""
    if not name or len(name) > 100 or name[0] in ".-" or not all(c.isalnum() or c in "._-+" for c in name):
        expected = "letters, digits and . _ - + only, does not begin with . or -, and is at most 100 characters long"
        raise InputError(f"--name {name!r}: a name has {expected}")
    if name in ("teachers", "timings.json"):  # these lie in the folder of the sweeps, too
        raise InputError(f"--name {name}: this name is taken by the platform itself; choose another")
    return name
