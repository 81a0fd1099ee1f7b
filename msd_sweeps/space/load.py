"""From the names on a command line to a checked sweep: files found and read, settings applied, all of it checked."""

import hashlib
import itertools
import json
import os
import re
from collections.abc import Iterable, Mapping
from importlib import resources
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
_DICTIONARY = "a dictionary"
"""What a space calls a base that is no file."""
Given = str | Mapping[str, Any]
"""A file by its path or name, or its content as a dictionary."""


def shipped() -> Path:
    """The folder of the spaces that come with the package: in a wheel its data, else the repository's."""
    try:
        return Path(str(resources.files("msd_sweeps.spaces").joinpath("scales.yaml"))).parent
    except ModuleNotFoundError:
        return Path(__file__).resolve().parents[2] / SHIPPED


def load(
    space: Given,
    base: Given | None = None,
    settings: Iterable[str] = (),
    num_samples: int | None = None,
    name: str | None = None,
) -> Sweep:
    """Read a space and its base, apply `path=value` settings, and check every trial in reach. Raises InputError.

    A space that is a dictionary may hold its base as one, too. Without a name such a sweep is named by its content.
    """
    document = _document(space, "space", SHIPPED)
    if base is None and isinstance(space, Mapping):
        base = document.data.get("base")
    overrides = dict(map(setting, settings))
    of_space = {key: value for key, value in overrides.items() if key.split(".")[0] in Space.model_fields}
    of_base = {key: value for key, value in overrides.items() if key not in of_space}
    near = document.path.parent
    load_imports(document.data.get("imports"), near, document.where)
    find_named(document.data, document.where)
    tree = document.data | ({} if base is None else {"base": base if isinstance(base, str) else _DICTIONARY})
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
    base_document = _document(base if isinstance(base, Mapping) else checked.base, "base", SHIPPED / "bases", near)
    trial = _base_trial(base_document, of_base)
    if name:
        name = checked_name(name)
    elif isinstance(space, Mapping) or isinstance(base, Mapping):
        name = _named_by_content(checked, trial)
    else:
        name = _named_by(document.path, base)
    sweep = Sweep(name, checked, trial)
    check_reachable(sweep, where, _where(base_document, of_base), of_base)
    return sweep


def load_base(base: Given, settings: Iterable[str] = ()) -> Trial:
    """Read a base alone. Raises InputError."""
    document = _document(base, "base", SHIPPED / "bases")
    overrides = dict(map(setting, settings))
    trial = _base_trial(document, overrides)
    check_weights(trial, _where(document, overrides)(("teacher", "weights")))
    return trial


def _document(given: Given, what: str, folder: Path, near: Path | None = None) -> Document:
    """A file, found as `find` does, or a dictionary, whose keys are told as `space: key`. Raises InputError."""
    if not isinstance(given, Mapping):
        return parse(find(given, folder, near))
    try:
        return Document(Path(what), json.loads(json.dumps(given, allow_nan=False)), {})
    except (TypeError, ValueError) as error:
        raise InputError(f"{what}: expected texts, finite numbers, lists and dictionaries alone: {error}") from error


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
    ours = shipped() / folder.relative_to(SHIPPED)
    folders = [Path(), *([near, near / "bases"] if near else []), folder, ours]
    for candidate, file_name in itertools.product(folders, (name, f"{name}.yaml")):
        path = candidate / os.path.expanduser(file_name)
        if os.path.exists(path) and not os.path.isdir(path):  # a pipe too; False for a name that no file can have
            return path
    known = {path.stem for candidate in (folder, ours) for path in candidate.glob("*.yaml")}
    raise InputError(f"{name}: no such file, nor one of that name in {folder}/; {nearest(Path(name).stem, known)}")


def _named_by_content(space: Space, base: Trial) -> str:
    """The same name for the same content, less what may change under a name."""
    told = space.model_dump(mode="json", exclude={"resources", "tracking", "report", "keep"})
    text = json.dumps([told, base.model_dump(mode="json")], sort_keys=True)
    return f"{space.design}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _named_by(file: Path, base: str | None) -> str:
    """The name of a sweep by the names of its files. Raises InputError where they make none."""
    name = file.stem if base is None else f"{file.stem}-{Path(base).stem}"
    if not os.path.isfile(file):
        raise InputError(f"{file}: is not a file with a name of its own; name the sweep with --name")
    try:
        return checked_name(name)
    except InputError as error:
        such = "-".join(re.findall(r"[\w.+]+", name)).strip(".-")[:40] or "my-sweep"
        raise InputError(f"{file}: cannot name the sweep after it; give a name, such as --name {such}") from error


def checked_name(name: str) -> str:
    """The name of a sweep, safe as the name of a folder. Raises InputError."""
    is_safe = bool(name) and name[0] not in ".-" and all(c.isalnum() or c in "._-+" for c in name)
    if not is_safe or len(name.encode()) > 100:
        expected = "letters, digits and . _ - + only, does not begin with . or -, and is at most 100 bytes of UTF-8"
        raise InputError(f"--name {name!r}: a name has {expected}")
    if name in ("teachers", "timings.json"):  # these lie in the folder of the sweeps, too
        raise InputError(f"--name {name}: this name is taken by the platform itself; choose another")
    return name
