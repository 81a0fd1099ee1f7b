"""What decides a trial's numbers beside its configuration, as named facts, and the hash of source code among them."""

import ast
import functools
import hashlib
from collections import Counter
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import TypeAlias

Fingerprint: TypeAlias = dict[str, str]
"""Facts by name: torch, device, processor, workers, threads, precision, and hashes of code, data and teacher. Trials of
one id and equal facts have equal numbers. A name says whose fact it is, such as `method kd`, so that two trials share
a name only where the facts should be equal."""

PACKAGE = Path(__file__).resolve().parents[1]
"""The code whose hashes are taken."""
_CORE = "msd_sweeps.distill."


class _WithoutDocstrings(ast.NodeTransformer):
    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        return None if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str) else node


@functools.cache
def source_hash(
    modules: tuple[str, ...], texts: tuple[tuple[str, str], ...] = (), classes: tuple[type, ...] = ()
) -> str:
    """A hash of the code of modules and of all that they import from the training core.

    Comments, docstrings and layout do not count. The faces of packages (`__init__`) are not followed: they list every
    method and network. texts: names and texts of further modules. classes: of which the definition alone counts, not
    their module.
    """
    code = {name: _code(ast.parse(text)) for name, text in texts}
    waiting = [(name, _file(name)) for name in modules]
    while waiting:
        name, path = waiting.pop()
        if name not in code:
            code[name], imported = _parsed(path)
            waiting += [(module, path) for module in imported if (path := _file(module)).is_file()]
    for one in classes:
        code[one.__qualname__] = _definitions(_file(one.__module__))[one.__name__]
    return hashlib.sha256(repr(sorted(code.items())).encode()).hexdigest()[:12]


def _file(module: str) -> Path:
    if module.startswith("msd_sweeps."):
        return PACKAGE.joinpath(*module.split(".")[1:]).with_suffix(".py")
    spec = find_spec(module)
    return Path(spec.origin or "" if spec else "")


@functools.cache
def _parsed(path: Path) -> tuple[str, list[str]]:
    """The code of a file as its syntax tree gives it, and the names that it imports from the core."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            imported += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            imported += [alias.name for alias in node.names]
    return _code(tree), [name for name in imported if name.startswith(_CORE)]


def _code(tree: ast.Module) -> str:
    return ast.unparse(_WithoutDocstrings().visit(tree))


@functools.cache
def _definitions(path: Path) -> dict[str, str]:
    """The code of the classes at the top of a file."""
    tree = _WithoutDocstrings().visit(ast.parse(path.read_text(encoding="utf-8")))
    return {node.name: ast.unparse(node) for node in tree.body if isinstance(node, ast.ClassDef)}


def differences(there: Fingerprint, here: Fingerprint) -> list[str]:
    """Each fact in which two fingerprints differ, in words."""
    names = [name for name in sorted({**there, **here}) if there.get(name) != here.get(name)]
    return [f"{name}: {there.get(name, 'unknown')} there, {here.get(name, 'unknown')} here" for name in names]


def counted(found: Iterable[Iterable[str]]) -> str:
    """The differences of several trials, each with the number of trials that have it."""
    return "; ".join(
        f"{text} ({count} trials)" for text, count in Counter(text for one in found for text in one).items()
    )


def mixtures(rows: Iterable[tuple[str, Iterable[Fingerprint]]]) -> list[str]:
    """For each fact that has several values among the rows of a table: the values, and which rows have them.

    rows: the label of a row, and the fingerprint of each attempt of each of its trials.
    """
    found: dict[str, dict[str, dict[str, None]]] = {}
    for label, fingerprints in rows:
        for fingerprint in fingerprints:
            for name, value in fingerprint.items():
                if name != "precision":  # a part of the configuration, which rows may differ in
                    found.setdefault(name, {}).setdefault(value, {})[label] = None
    notes = []
    for name, values in sorted(found.items()):
        every = {label for labels in values.values() for label in labels}
        parts = [
            f"{value} in {'every row' if every == labels.keys() and len(every) > 1 else ', '.join(labels)}"
            for value, labels in values.items()
        ]
        notes += [f"{name}: {'; '.join(parts)}"] * (len(values) > 1)
    return notes
