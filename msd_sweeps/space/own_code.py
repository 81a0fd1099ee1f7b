"""Methods, networks, data sets and metrics of one's own: imported by a name in a space or a base, without torch here.

A space says `imports: [my_losses.py]`. The file is read once, its text is kept in `SOURCES`, and every process imports
that text: the driver, and the workers on every node. What is imported registers itself with the decorators below.
"""

import functools
import inspect
import json
import re
import sys
import typing
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import ConfigDict, JsonValue, create_model

from msd_sweeps.catalog.networks import BUILDERS, NETWORKS, NetworkFacts
from msd_sweeps.space import settings
from msd_sweeps.space.data import DATA, Data, OwnData
from msd_sweeps.space.errors import InputError, KeyPath
from msd_sweeps.space.methods import METHODS, LogitSettings, MethodSettings
from msd_sweeps.space.own_sources import (
    SOURCES,
    Source,
    install,
    is_place,
    note_installed,
    own_frame,
    resolved,
    sources_of,
)
from msd_sweeps.space.settings import Where
from msd_sweeps.space.trial import METRICS, Trial

Anything = TypeVar("Anything", bound=Callable[..., Any])
_DATASET = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


# The decorators, which are msd_sweeps.method, .network, .dataset and .metric.


def method(name: str) -> Callable[[Anything], Anything]:
    """Register a `Distiller` as a method of this name. Its class `Settings`, a `MethodSettings`, are its settings.

    Raises TypeError for a name that a built-in method has.
    """

    def register(distiller: Anything) -> Anything:
        base: type[MethodSettings] = getattr(distiller, "Settings", LogitSettings)
        _replace(METHODS, name)
        own = _named(base, name, distiller.__name__, distiller.__doc__)
        own.distiller = f"{distiller.__module__}:{distiller.__qualname__}"
        settings.mark_stale()
        return distiller

    return register


def network(name: str) -> Callable[[Anything], Anything]:
    """Register a function of `num_classes` that builds a network: a module that answers with `Taps`, or with logits."""

    def register(builder: Anything) -> Anything:
        if name in NETWORKS and name not in BUILDERS:
            raise TypeError(f"a network is named '{name}' already; choose another name")
        NETWORKS.pop(name, None)
        BUILDERS[name] = builder
        return builder

    return register


def dataset(name: str) -> Callable[[Anything], Anything]:
    """Register a function that gives a training and a test set; its arguments are settings beside `name`.

    Each set is a pair of images (uint8: [N, 3, H, W], [N, H, W, 3] or [N, H, W]) and labels [N], or a map-style data
    set of such pairs.
    """

    def register(function: Anything) -> Anything:
        _replace(DATA, name)
        hints, taken = typing.get_type_hints(function), Data.model_fields
        fields: dict[str, Any] = {}
        for parameter in inspect.signature(function).parameters.values():
            if parameter.name not in taken:
                default = ... if parameter.default is parameter.empty else parameter.default
                fields[parameter.name] = (hints.get(parameter.name, JsonValue), default)
        own = _named(OwnData, name, function.__name__, function.__doc__, **fields)
        own.function = staticmethod(function)
        DATA[name] = own
        settings.mark_stale()
        return function

    return register


def metric(name: str, mode: Literal["max", "min"] = "max") -> Callable[[Anything], Anything]:
    """Register a function of logits [N, K] and labels [N] as the metrics `val_NAME` and `test_NAME`.

    mode: which direction is better.
    """

    def register(function: Anything) -> Anything:
        METRICS[name] = (function, mode)
        settings.mark_stale()
        return function

    return register


def _named(base: type[settings.Settings], name: str, title: str, doc: str | None = None, **fields: Any) -> Any:
    """A model that stands for a name in the union of its kind."""
    create: Any = create_model  # whose types are for models that are written out
    return create(title, __base__=base, __doc__=doc, name=(Literal[name], ...), **fields)


def _replace(registry: dict[str, Any], name: str) -> None:
    """Make room for a name that own code had before, such as a notebook's cell that runs again. Raises TypeError."""
    if name in registry and registry[name].__module__.partition(".")[0] == "msd_sweeps" and not _is_own(registry[name]):
        raise TypeError(f"'{name}' is built in; choose another name")
    registry.pop(name, None)


def _is_own(kind: Any) -> bool:
    return issubclass(kind, OwnData) or not kind.distiller.startswith("msd_sweeps.")


# How a file's names are found.


def load_imports(imports: Any, near: Path, where: Where) -> None:
    """Import what the key `imports` of a file in the folder `near` lists. Raises InputError with the key's place."""
    if not isinstance(imports, list) or not all(isinstance(name, str) for name in imports):
        return  # the schema says what is wrong
    found: list[Source] = []
    for index, name in enumerate(imports):
        found += sources_of(name, near, where(("imports", index)))
    names = [source.module for source in found] + [name for name in imports if not is_place(name)]
    try:
        install(found, names)
    except Exception as error:  # whatever the user's code raises while it is imported
        raise InputError(f"{where(('imports',))}{own_frame(error)}{type(error).__name__}: {error}") from error


def find_named(tree: Any, where: Where, key: KeyPath = ()) -> None:
    """Import what a file names without an import: data sets as `module:function`, and installed packages' own code.

    Networks are found where they are looked up. Raises InputError.
    """
    if not key:
        load_entry_points()
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for name, value in items:
        find_named(value, where, (*key, name))
    if isinstance(tree, str) and _DATASET.fullmatch(tree) and {"data", "data.name"} & set(key) and tree not in DATA:
        try:
            dataset(tree)(resolved(tree))
        except Exception as error:  # whatever the user's code raises while it is imported
            raise InputError(f"{where(key)}{own_frame(error)}{error}") from error


@functools.cache
def load_entry_points() -> None:
    """Register what installed packages offer under `msd_sweeps.methods` and the like. Raises InputError."""
    registries: dict[str, Any] = {"methods": METHODS, "networks": BUILDERS, "datasets": DATA, "metrics": METRICS}
    for (group, registry), decorate in zip(registries.items(), (method, network, dataset, metric), strict=True):
        for point in metadata.entry_points(group=f"msd_sweeps.{group}"):
            try:
                found = point.load()
                note_installed(sys.modules[found.__module__])
                if point.name not in registry:  # it has no decorator
                    decorate(point.name)(found)
            except Exception as error:  # whatever the package raises
                package = point.dist.name if point.dist else point.value
                raise InputError(
                    f"{package}: its msd_sweeps.{group} '{point.name}' cannot be loaded: {error}"
                ) from error


def trial_of(config: str, sources: Iterable[Source]) -> Trial:
    """A trial from its recorded configuration, in a process that may not have its code yet. Raises what it raises."""
    sources = list(sources)
    install([source for source in sources if source.path], [source.module for source in sources if not source.path])
    tree = json.loads(config)
    find_named(tree, settings.dotted())
    settings.refresh()
    return Trial.model_validate_json(config)


# What a ledger keeps of own code, so that it is read where that code is not.


def recorded() -> dict[str, Any]:
    """The sources and what they have registered, of plain JSON types; empty where there is nothing of one's own."""
    own = {
        "sources": [list(source) for source in SOURCES.values()],
        "methods": [name for name, kind in METHODS.items() if _is_own(kind)],
        "datasets": [name for name, kind in DATA.items() if _is_own(kind)],
        "networks": {name: facts._asdict() for name, facts in NETWORKS.items() if name in NETWORKS.measured},
        "metrics": {name: mode for name, (_, mode) in METRICS.items()},
    }
    return own if any(own.values()) else {}


def restore(own: Mapping[str, Any], *trees: Any) -> None:
    """Import recorded sources: the files as they are now where they still lie in their places, else the texts.

    trees: a recorded space and base, whose names are looked up again. Raises InputError, and what the code raises.
    """
    sources = [Source(*source) for source in own.get("sources", ())]
    texts = [
        source._replace(text=Path(source.path).read_text(encoding="utf-8")) if Path(source.path).is_file() else source
        for source in sources
        if source.path
    ]
    install(texts, [source.module for source in sources if not source.path])
    for tree in trees:
        find_named(tree, settings.dotted())
    settings.refresh()


def stand_in(own: Mapping[str, Any]) -> None:
    """Let recorded names be read although their code is not imported here: nothing of it is run."""
    loose = ConfigDict(extra="allow")
    for name in set(own.get("methods", ())) - set(METHODS):
        _named(_RecordedMethod, name, name).distiller = f"recorded:{name}"
        settings.mark_stale()
    for name in set(own.get("datasets", ())) - set(DATA):
        kind: Any = type("RecordedData", (OwnData,), {"model_config": loose, "__module__": __name__})
        DATA[name] = _named(kind, name, name)
        settings.mark_stale()
    for name in set(own.get("metrics", ())) - set(METRICS):
        METRICS[name] = (None, own["metrics"][name])
        settings.mark_stale()
    for name, facts in own.get("networks", {}).items():
        NETWORKS.setdefault(name, NetworkFacts(**{**facts, "lacks": tuple(facts["lacks"])}))
        NETWORKS.measured.add(name)
    settings.refresh()


class _RecordedMethod(MethodSettings):
    """A method that only its ledger knows here: its settings are as they were recorded."""

    model_config = ConfigDict(extra="allow")

    @property
    def term_weights(self) -> dict[str, float]:
        return {"recorded_weight": 1.0}
