"""A strict subset of YAML: 1.2 scalars, no tags, aliases or repeated keys; the line of every value is known."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from msd_sweeps.space.errors import InputError, KeyPath, blank_missing

_LARGEST_FILE_BYTES = 50_000
_DEEPEST_NESTING = 50
_MOST_DIGITS = 15
"""Whole numbers up to here are the same in JSON, in Parquet and in a float."""
_NUMBER = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")
_INTEGER = re.compile(r"[-+]?[0-9]+")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_WORDS = dict.fromkeys(("", "~", "null", "Null", "NULL")) | {
    word: word.lower() == "true" for word in ("true", "True", "TRUE", "false", "False", "FALSE")
}
# libyaml reads the same language twenty times faster, where PyYAML was built with it.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Place = Callable[[int], str]
"""Names a line, counted from 0, and ends with ": "."""


class Document(NamedTuple):
    """A parsed file: plain dictionaries, lists and scalars, and the line of each of them, counted from 1.

    A dictionary that is no file has no lines, and a name in place of its path.
    """

    path: Path
    data: dict[str, Any]
    lines: dict[KeyPath, int]

    def where(self, key: KeyPath) -> str:
        """`file:line: dotted.key: `, with the line of the key or else of the section that should hold it."""
        line = next((self.lines[key[:end]] for end in range(len(key), -1, -1) if key[:end] in self.lines), None)
        dotted = ".".join(map(str, key))
        return f"{self.path}:{f'{line}:' if line else ''} {dotted + ': ' if dotted else ''}"


def parse(path: Path) -> Document:
    """Read a mapping from a YAML file. Raises InputError with file and line for what cannot be read, or is refused."""
    content = b""
    try:
        with path.open("rb") as file:  # once, as it may be a pipe
            content = file.read(_LARGEST_FILE_BYTES + 1)
        if len(content) > _LARGEST_FILE_BYTES:
            raise InputError(f"{path}: a space or base is at most {_LARGEST_FILE_BYTES:,} bytes, and this is larger")
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        line, byte = content.count(b"\n", 0, error.start) + 1, content[error.start]
        raise InputError(f"{path}:{line}: not UTF-8 text (found the byte 0x{byte:02x}); save it as UTF-8") from error
    lines: dict[KeyPath, int] = {(): 1}
    data = _read(text, lambda line: f"{path}:{line + 1}: ", lines)
    if not isinstance(data, dict):
        found = {list: "a list", type(None): "an empty file"}.get(type(data), "a single value")
        raise InputError(f"{path}:{lines[()]}: expected a mapping of keys to values at the top level, found {found}")
    return Document(path, data, lines)


def parse_scalar(text: str, where: str) -> Any:
    """One value as it would stand in a YAML file, for `--set path=value`. Raises InputError that begins `where`."""
    return _read(text, lambda line: f"{where}: ", {})


def dump(tree: dict[str, Any]) -> str:
    """The text of a file that `parse` reads as the same tree of plain JSON types."""
    plain = json.loads(json.dumps(tree))  # equal lists are not one object, which YAML would show as an alias
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, default_flow_style=None, width=110)


def _read(text: str, place: Place, lines: dict[KeyPath, int]) -> Any:
    """The value of a text, None where there is none; `lines` gets the line of each value. Raises InputError."""
    bad = _CONTROL.search(text)
    if bad is not None:
        line = text.count("\n", 0, bad.start())
        raise InputError(f"{place(line)}the control character {bad[0]!r} is not used here; remove it")
    try:
        _check_events(text, place)
        root = yaml.compose(text, Loader=_LOADER)
    except yaml.YAMLError as error:
        is_marked = isinstance(error, yaml.MarkedYAMLError)  # a character that YAML forbids has a position alone
        mark = (error.problem_mark or error.context_mark) if is_marked else None
        line = mark.line if mark else text.count("\n", 0, getattr(error, "position", 0))
        problem = ", ".join(filter(None, (error.context, error.problem))) if is_marked else str(error)
        raise InputError(f"{place(line)}not valid YAML: {problem}{_advice(text, line, problem)}") from error
    return None if root is None else _value(root, (), place, lines)


def _advice(text: str, line: int, problem: str) -> str:
    """What to do about a line that is not YAML, for the most frequent mistakes."""
    if re.match(r" *\t", "".join(text.splitlines()[line : line + 1])):
        return "; indent with spaces, not tabs"
    near = text.splitlines()[max(0, line - 2) : line + 1]  # the parser notices up to two lines later
    if advice := next(filter(None, map(blank_missing, reversed(near))), ""):
        return advice
    if problem.startswith("mapping values are not allowed"):
        return "; one key to a line, and quotes around text that holds ': '"
    return "; look for an unclosed bracket or quote, or for another indentation than the lines around it"


def _check_events(text: str, place: Place) -> None:
    """Refuse what a space does not use. Events come without a tree, so nothing is refused after it took memory."""
    depth = documents = 0
    for event in yaml.parse(text, Loader=_LOADER):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        documents += isinstance(event, yaml.DocumentStartEvent)
        if documents > 1:
            raise _error(place, event, "a second document begins; keep one to a file")
        if isinstance(event, yaml.AliasEvent):
            raise _error(place, event, f"aliases (*{event.anchor}) are not used here; write the value out")
        if depth > _DEEPEST_NESTING:
            raise _error(place, event, f"nested more than {_DEEPEST_NESTING} levels deep")
        if getattr(event, "tag", None) not in (None, "!"):
            raise _error(place, event, f"tags ({event.tag}) are not used here; write a plain value")


def _value(node: yaml.Node, key: KeyPath, place: Place, lines: dict[KeyPath, int]) -> Any:
    """The value of a node that stands at a key. Raises InputError."""
    lines.setdefault(key, node.start_mark.line + 1)
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node, place)
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, (*key, index), place, lines) for index, item in enumerate(node.value)]
    mapping: dict[str, Any] = {}
    for key_node, value_node in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            raise _error(place, key_node, "a key must be plain text, not a list or mapping")
        inner = (*key, key_node.value)
        if key_node.value in mapping:
            problem = f"the key '{key_node.value}' is repeated (first on line {lines[inner]}); keep one"
            raise _error(place, key_node, problem)
        lines[inner] = key_node.start_mark.line + 1
        mapping[key_node.value] = _value(value_node, inner, place, lines)
    return mapping


def _scalar(node: yaml.ScalarNode, place: Place) -> Any:
    text = node.value
    if node.style:  # quoted or block text is text
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        if len(text.lstrip("+-0")) > _MOST_DIGITS:
            raise _error(place, node, f"{text[:30]} is too large; a whole number has at most {_MOST_DIGITS} digits")
        return int(text)
    if _NUMBER.fullmatch(text):
        if math.isinf(float(text)):
            raise _error(place, node, f"{text[:30]} is too large for a number")
        return float(text)
    return text


def _error(place: Place, found: yaml.Event | yaml.Node, problem: str) -> InputError:
    return InputError(f"{place(found.start_mark.line)}{problem}")
