"""Modules of one's own: their texts, read from files once and imported from these texts in every process."""

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import pkgutil
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from msd_sweeps.space.errors import InputError, nearest


class Source(NamedTuple):
    """A module of one's own. Those with a path reach every process as text; the others are installed everywhere."""

    module: str
    text: str
    path: str = ""

    @property
    def file(self) -> str:
        """Its path below the folder that Python finds it in."""
        name = "/".join(self.module.split("."))
        return f"{name}/__init__.py" if self.path.endswith("__init__.py") else f"{name}.py"


SOURCES: dict[str, Source] = {}
"""By the name of the module; all of them decide numbers, so they are part of a trial's fingerprint."""


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.ExecutionLoader):
    """Gives Python the modules of SOURCES that have a path, from their texts: the same in every process."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        source = SOURCES.get(fullname)
        if source is None or not source.path:
            return None
        return importlib.util.spec_from_loader(fullname, self, is_package=self.is_package(fullname))

    def is_package(self, fullname: str) -> bool:
        return SOURCES[fullname].path.endswith("__init__.py")

    def get_filename(self, fullname: str) -> str:
        return SOURCES[fullname].path

    def get_source(self, fullname: str) -> str:
        return SOURCES[fullname].text


def is_place(name: str) -> bool:
    return name.endswith(".py") or "/" in name


def sources_of(name: str, near: Path, where: str) -> list[Source]:
    """The texts of a file, or of a folder that is a package; none for an installed module. Raises InputError."""
    if not is_place(name):
        return []
    places = [near / name, Path(name)]
    path = next((place for place in places if place.is_file() or (place / "__init__.py").is_file()), None)
    if path is None:
        beside = [one.name for one in near.glob("*.py")]
        raise InputError(f"{where}no such file or package: {name}, beside this file or here; {nearest(name, beside)}")
    path = path.resolve()
    files = [path] if path.is_file() else sorted(path.rglob("*.py"))
    root = path.parent
    sources = []
    for file in files:
        module = ".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        if not all(part.isidentifier() for part in module.split(".")):
            raise InputError(f"{where}{file.name} cannot be imported: a module's name has letters, digits and _ only")
        sources.append(Source(module, file.read_text(encoding="utf-8"), str(file)))
    return sources


def install(sources: Iterable[Source], names: Iterable[str] = ()) -> None:
    """Import modules from their texts, and installed ones by `names`. A module whose text has changed is made anew."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    sources = list(sources)
    for source in sources:
        known = SOURCES.get(source.module)
        if known is not None and known.text != source.text:
            sys.modules.pop(source.module, None)
        elif known is None and source.path and source.module in sys.modules:
            raise ImportError(f"a module '{source.module}' is imported already; rename {Path(source.path).name}")
        SOURCES[source.module] = source
    for name in dict.fromkeys([*(source.module for source in sources), *names]):
        module = importlib.import_module(name)
        if name not in SOURCES:
            note_installed(module)


def note_installed(module: Any) -> None:
    """Keep the text of an installed module, because it decides numbers too."""
    try:
        text = inspect.getsource(module)
    except (OSError, TypeError):  # it has no source
        text = ""
    SOURCES.setdefault(module.__name__, Source(module.__name__, text))


def resolved(name: str) -> Any:
    """The object `module:name`; its module's text is kept. Raises ValueError where it cannot be imported."""
    try:
        found = pkgutil.resolve_name(name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{name} cannot be imported ({error}); list its file under imports, or install it") from error
    note_installed(sys.modules[name.partition(":")[0]])
    return found


def own_frame(error: BaseException) -> str:
    """`my_losses.py:12 in forward: `, the last place in one's own code of an exception; empty where there is none."""
    own = {source.path for source in SOURCES.values()}
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in own]
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno} in {frames[-1].name}: " if frames else ""
