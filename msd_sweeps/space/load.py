"""From the names on a command line to a checked sweep: files found and read, settings applied, all of it checked."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from msd_sweeps.space.checks import Sources, check_reachable, check_weights
from msd_sweeps.space.designs import Sweep
from msd_sweeps.space.errors import InputError, KeyPath, nearest
from msd_sweeps.space.overrides import changed, replace
from msd_sweeps.space.schema import Changes, Space
from msd_sweeps.space.strict_yaml import Document, parse, parse_scalar
from msd_sweeps.space.trial import Trial
from msd_sweeps.space.validation import Where, validated

SHIPPED = Path("search_spaces")
_RESERVED = ("teachers", "timings.json")
"""What else lies in the folder of the sweeps."""


def load(
    space: str,
    base: str | None = None,
    settings: Iterable[str] = (),
    num_samples: int | None = None,
    name: str | None = None,
) -> Sweep:
    """Read a space and its base, apply `path=value` settings, and check every trial that can be reached.

    Raises InputError that names file, line and key.
    """
    path = find(space, SHIPPED)
    document = parse(path)
    overrides = [setting(text) for text in settings]
    tree = dict(document.data)
    if base is not None:
        tree["base"] = base
    checked = validated(Space, tree, document.where)
    if num_samples is not None:
        if checked.design != "search":
            raise InputError(f"--num-samples {num_samples}: only a search samples, and this is a {checked.design}")
        tree["search"] = {**(tree.get("search") or {}), "num_samples": num_samples}
        checked = validated(Space, tree, lambda key: "--num-samples: ")
    of_space = {key: value for key, value in overrides if key.split(".")[0] in Space.model_fields}
    for key, value in of_space.items():
        replace(tree, key, value, "--set ", known=checked.model_dump(mode="json"))
    if of_space:
        checked = validated(Space, tree, _set_by(of_space, document))
    base_document = parse(find(checked.base, SHIPPED / "bases", near=path.parent))
    of_base = {key: value for key, value in overrides if key not in of_space}
    base_trial = _base_of(base_document, of_base)
    stem = path.stem if base is None else f"{path.stem}-{Path(base).stem}"
    sweep = Sweep(
        checked_name(name or stem), checked, changed(base_trial, of_base, "--set ") if of_base else base_trial
    )
    check_reachable(sweep, Sources(document, base_document, tree, of_base))
    return sweep


def load_base(base: str, settings: Iterable[str] = ()) -> Trial:
    """Read a base alone. Raises InputError."""
    document = parse(find(base, SHIPPED / "bases"))
    overrides = dict(setting(text) for text in settings)
    trial = changed(_base_of(document, overrides), overrides, "--set ")
    where = "--set teacher.weights: " if "teacher.weights" in overrides else ""
    check_weights(trial, where or document.where(("teacher", "weights")))
    return trial


def setting(text: str) -> tuple[str, Any]:
    """Path and value of one `--set path=value`. Raises InputError."""
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not key:
        raise InputError(f"--set {text!r}: expected path=value, for example --set recipe.epochs=2")
    return key, parse_scalar(value, f"--set {key}")


def _base_of(document: Document, overrides: Changes) -> Trial:
    """A base before its overrides, but for where its images lie: the file may name what only another machine has."""
    data = document.data.get("data")
    located = {key: overrides[f"data.{key}"] for key in ("root", "image_size") if f"data.{key}" in overrides}
    if not located or not isinstance(data, dict):
        return validated(Trial, document.data, document.where)

    def where(key: KeyPath) -> str:
        set_here = len(key) == 2 and key[0] == "data" and key[1] in located
        return f"--set data.{key[1]}: " if set_here else document.where(key)

    return validated(Trial, {**document.data, "data": {**data, **located}}, where)


def _set_by(overrides: Changes, document: Document) -> Where:
    """Places in a space that was changed on the command line: what was set there is named by its option."""

    def where(key: KeyPath) -> str:
        path = ".".join(map(str, key))
        by_option = any(f"{path}.".startswith(f"{name}.") or f"{name}.".startswith(f"{path}.") for name in overrides)
        return f"--set {path}: " if by_option else document.where(key)

    return where


def find(name: str, folder: Path, near: Path | None = None) -> Path:
    """A file by its path, or by its name in a folder: below the working directory, then beside the package."""
    file_name = name if name.endswith((".yaml", ".yml")) else f"{name}.yaml"
    package_root = Path(__file__).resolve().parents[2]
    folders = [Path(), *([near, near / "bases"] if near else []), folder, package_root / folder]
    for candidate in folders:
        try:
            if (candidate / file_name).is_file():
                return candidate / file_name
        except (OSError, ValueError):  # a name that no file can have
            break
    known = {path.stem for candidate in (folder, package_root / folder) for path in candidate.glob("*.yaml")}
    raise InputError(f"{name}: no such file, nor one of that name in {folder}/; {nearest(Path(file_name).stem, known)}")


def checked_name(name: str) -> str:
    """The name of a sweep, safe as the name of a folder. Raises InputError."""
    if not name or len(name) > 100 or name[0] in ".-" or not all(c.isalnum() or c in "._-+" for c in name):
        raise InputError(
            f"--name {name!r}: a name has letters, digits and . _ - + only, does not begin with . or -, "
            "and is at most 100 characters long"
        )
    if name in _RESERVED:
        raise InputError(f"--name {name}: this name is taken by the platform itself; choose another")
    return name
