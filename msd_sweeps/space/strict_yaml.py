"""YAML without surprises: YAML 1.2 scalars, no tags, no aliases, no repeated keys, and a line for every value."""

import math
import re
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from msd_sweeps.space.errors import InputError, KeyPath

_LARGEST_FILE_BYTES = 50_000
_DEEPEST_NESTING = 50
_MOST_DIGITS = 15
"""Whole numbers up to here are the same in JSON, in Parquet and in a float."""
_NUMBER = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")
_INTEGER = re.compile(r"[-+]?[0-9]+")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_WORDS: dict[str, Any] = {
    "": None,
    "~": None,
    "null": None,
    "Null": None,
    "NULL": None,
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
}
# libyaml reads the same language twenty times faster, where PyYAML was built with it.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Document(NamedTuple):
    """A parsed file: plain dictionaries, lists and scalars, and the line on which each of them stands."""

    path: Path
    data: dict[str, Any]
    lines: dict[KeyPath, int]

    def where(self, key: KeyPath) -> str:
        """`file:line: dotted.key: ` of the nearest thing that was written in the file."""
        for length in range(len(key), -1, -1):
            if key[:length] in self.lines:
                dotted = ".".join(map(str, key))
                return f"{self.path}:{self.lines[key[:length]]}: {dotted + ': ' if dotted else ''}"
        return f"{self.path}: "


def parse(path: Path) -> Document:
    """Read a mapping from a YAML file.

    Raises InputError with file and line for a file that cannot be read, is too large, is malformed, nests too
    deeply, repeats a key, or uses a tag or an alias.
    """
    text = _read(path)
    root = _compose(text, str(path))
    if root is None:
        raise InputError(f"{path}:1: the file is empty; expected a mapping of keys to values")
    if not isinstance(root, yaml.MappingNode):
        kind = "a list" if isinstance(root, yaml.SequenceNode) else "a single value"
        raise InputError(
            f"{path}:{root.start_mark.line + 1}: expected a mapping of keys to values at the top level, found {kind}"
        )
    lines: dict[KeyPath, int] = {(): 1}
    data = _value(root, (), lines, str(path))
    return Document(path, data, lines)


def parse_scalar(text: str, where: str) -> Any:
    """One value as it would stand in a YAML file, for `--set path=value`. Raises InputError that begins `where`."""
    try:
        node = _compose(text, where)
        return None if node is None else _value(node, (), {}, where)
    except InputError as error:
        raise InputError(re.sub(f"^{re.escape(where)}:[0-9]+: ", f"{where}: ", str(error))) from error


def _read(path: Path) -> str:
    try:
        size = path.stat().st_size
        if size > _LARGEST_FILE_BYTES:
            raise InputError(f"{path}: {size:,} bytes; a space or base is at most {_LARGEST_FILE_BYTES:,} bytes")
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}:{line}: not UTF-8 text (found the byte 0x{content[error.start]:02x}); save it as UTF-8"
        ) from error


def _compose(text: str, name: str) -> yaml.Node | None:
    """The tree of nodes of a text that was found harmless. Raises InputError."""
    bad = _CONTROL.search(text)
    if bad is not None:
        line = text.count("\n", 0, bad.start()) + 1
        raise InputError(f"{name}:{line}: the control character {bad[0]!r} is not used here; remove it")
    try:
        _check_events(text, name)
        return yaml.compose(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{name}:{mark.line + 1}" if mark else name
        problem = ", ".join(filter(None, (error.context, error.problem)))
        raise InputError(f"{place}: not valid YAML: {problem}{_advice(text, mark, problem)}") from error
    except yaml.YAMLError as error:
        raise InputError(f"{name}: not valid YAML: {error}") from error


def _advice(text: str, mark: yaml.Mark | None, problem: str) -> str:
    """What to do about a line that YAML does not take, for the mistakes that are made most."""
    lines = text.splitlines()
    written = lines[mark.line] if mark and mark.line < len(lines) else ""
    if written[: len(written) - len(written.lstrip())].count("\t"):
        return "; indent with spaces, not tabs"
    if problem.startswith("mapping values are not allowed"):
        return "; one key to a line, and quotes around text that holds ': '"
    return "; look for an unclosed bracket or quote, or for another indentation than the lines around it"


def _check_events(text: str, name: str) -> None:
    """Bound the work before any tree is built: nesting and aliases are seen as events, without recursion."""
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        problem = None
        if isinstance(event, yaml.AliasEvent):
            problem = f"aliases (*{event.anchor}) are not used here; write the value out"
        elif depth > _DEEPEST_NESTING:
            problem = f"nested more than {_DEEPEST_NESTING} levels deep"
        elif getattr(event, "tag", None) not in (None, "!"):
            problem = f"tags ({event.tag}) are not used here; write a plain value"
        if problem:
            raise InputError(f"{name}:{event.start_mark.line + 1}: {problem}")


def _value(node: yaml.Node, key: KeyPath, lines: dict[KeyPath, int], name: str) -> Any:
    line = node.start_mark.line + 1
    lines.setdefault(key, line)
    if isinstance(node, yaml.MappingNode):
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise InputError(f"{name}:{line}: a key must be plain text, not a list or mapping")
            inner = (*key, key_node.value)
            if key_node.value in mapping:
                raise InputError(
                    f"{name}:{line}: the key '{key_node.value}' is repeated (first on line {lines[inner]}); "
                    "keep one of the two"
                )
            lines[inner] = line
            mapping[key_node.value] = _value(value_node, inner, lines, name)
        return mapping
    if isinstance(node, yaml.SequenceNode):
        return [_value(child, (*key, i), lines, name) for i, child in enumerate(node.value)]
    return _scalar(node, f"{name}:{line}")


def _scalar(node: yaml.ScalarNode, where: str) -> Any:
    text = node.value
    if node.style not in (None, ""):  # quoted or block text is text
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        if len(text.lstrip("+-0")) > _MOST_DIGITS:
            raise InputError(f"{where}: {text[:30]} is too large; a whole number has at most {_MOST_DIGITS} digits")
        return int(text)
    if _NUMBER.fullmatch(text):
        number = float(text)
        if math.isinf(number):
            raise InputError(f"{where}: {text[:30]} is too large for a number")
        return number
    return text
