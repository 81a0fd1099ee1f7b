"""A strict subset of YAML: 1.2 scalars, no tags, aliases or repeated keys; the line of every value is known."""

import math
import re
from collections.abc import Iterator
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
_WORDS: dict[str, Any] = {"": None, "~": None}
for _word, _meaning in (("null", None), ("true", True), ("false", False)):
    _WORDS |= dict.fromkeys((_word, _word.title(), _word.upper()), _meaning)
# libyaml reads the same language twenty times faster, where PyYAML was built with it.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Document(NamedTuple):
    """A parsed file: plain dictionaries, lists and scalars, and the line of each of them, counted from 1."""

    path: Path
    data: dict[str, Any]
    lines: dict[KeyPath, int]

    def where(self, key: KeyPath) -> str:
        """`file:line: dotted.key: `, with the line of the key or else of the section that should hold it."""
        line = next((self.lines[key[:end]] for end in range(len(key), -1, -1) if key[:end] in self.lines), None)
        dotted = ".".join(map(str, key))
        return f"{self.path}:{line}: {dotted + ': ' if dotted else ''}" if line else f"{self.path}: "


def parse(path: Path) -> Document:
    """Read a mapping from a YAML file.

    Raises InputError with file and line for a file that cannot be read, is too large, is malformed, nests too
    deeply, repeats a key, or uses a tag or an alias.
    """
    lines: dict[KeyPath, int] = {(): 1}
    data = _read(_text(path), str(path), lines)
    if isinstance(data, dict):
        return Document(path, data, lines)
    wanted = "expected a mapping of keys to values"
    if data is None:
        raise InputError(f"{path}:1: the file is empty; {wanted}")
    kind = "a list" if isinstance(data, list) else "a single value"
    raise InputError(f"{path}:{lines[()]}: {wanted} at the top level, found {kind}")


def parse_scalar(text: str, where: str) -> Any:
    """One value as it would stand in a YAML file, for `--set path=value`. Raises InputError that begins `where`."""
    try:
        return _read(text, where, {})
    except InputError as error:
        raise InputError(re.sub(f"^{re.escape(where)}:[0-9]+: ", f"{where}: ", str(error))) from error


def _text(path: Path) -> str:
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


def _read(text: str, name: str, lines: dict[KeyPath, int]) -> Any:
    """The value of a text, None where there is none; `lines` gets the line of each value. Raises InputError."""
    bad = _CONTROL.search(text)
    if bad is not None:
        line = text.count("\n", 0, bad.start()) + 1
        raise InputError(f"{name}:{line}: the control character {bad[0]!r} is not used here; remove it")
    try:
        # Events come without a tree and without recursion: what is refused is refused before it takes memory.
        events = (event for event in yaml.parse(text, Loader=_LOADER) if not isinstance(event, yaml.DocumentEndEvent))
        next(events)  # the start of the stream
        if isinstance(next(events), yaml.StreamEndEvent):
            return None
        value = _Reader(events, name, lines).value(next(events), ())
        after = next(events)
        if not isinstance(after, yaml.StreamEndEvent):
            raise InputError(f"{name}:{after.start_mark.line + 1}: a second document begins; keep one to a file")
        return value
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{name}:{mark.line + 1}" if mark else name
        problem = ", ".join(filter(None, (error.context, error.problem)))
        raise InputError(f"{place}: not valid YAML: {problem}{_advice(text, mark, problem)}") from error
    except yaml.YAMLError as error:
        raise InputError(f"{name}: not valid YAML: {error}") from error


def _advice(text: str, mark: yaml.Mark | None, problem: str) -> str:
    """What to do about a line that is not YAML, for the most frequent mistakes."""
    lines = text.splitlines()
    written = lines[mark.line] if mark and mark.line < len(lines) else ""
    if written[: len(written) - len(written.lstrip())].count("\t"):
        return "; indent with spaces, not tabs"
    if problem.startswith("mapping values are not allowed"):
        return "; one key to a line, and quotes around text that holds ': '"
    return "; look for an unclosed bracket or quote, or for another indentation than the lines around it"


class _Reader(NamedTuple):
    """Makes plain values of the parser's events."""

    events: Iterator[yaml.Event]
    name: str
    lines: dict[KeyPath, int]

    def value(self, event: yaml.Event, key: KeyPath) -> Any:
        """The value that begins with an event, and stands at a key. Raises InputError."""
        self._check(event, len(key))
        self.lines.setdefault(key, event.start_mark.line + 1)
        if isinstance(event, yaml.SequenceStartEvent):
            items: list[Any] = []
            while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
                items.append(self.value(event, (*key, len(items))))
            return items
        return self._mapping(key) if isinstance(event, yaml.MappingStartEvent) else self._scalar(event)

    def _mapping(self, key: KeyPath) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            self._check(event, len(key) + 1)
            if not isinstance(event, yaml.ScalarEvent):
                raise self._error(event, "a key must be plain text, not a list or mapping")
            inner = (*key, event.value)
            if event.value in mapping:
                first = self.lines[inner]
                raise self._error(event, f"the key '{event.value}' is repeated (first on line {first}); keep one")
            self.lines[inner] = event.start_mark.line + 1
            mapping[event.value] = self.value(next(self.events), inner)
        return mapping

    def _scalar(self, event: yaml.ScalarEvent) -> Any:
        text = event.value
        if event.style not in (None, ""):  # quoted or block text is text
            return text
        if text in _WORDS:
            return _WORDS[text]
        if _INTEGER.fullmatch(text):
            if len(text.lstrip("+-0")) > _MOST_DIGITS:
                raise self._error(event, f"{text[:30]} is too large; a whole number has at most {_MOST_DIGITS} digits")
            return int(text)
        if _NUMBER.fullmatch(text):
            number = float(text)
            if math.isinf(number):
                raise self._error(event, f"{text[:30]} is too large for a number")
            return number
        return text

    def _check(self, event: yaml.Event, depth: int) -> None:
        if isinstance(event, yaml.AliasEvent):
            raise self._error(event, f"aliases (*{event.anchor}) are not used here; write the value out")
        if isinstance(event, yaml.CollectionStartEvent) and depth >= _DEEPEST_NESTING:
            raise self._error(event, f"nested more than {_DEEPEST_NESTING} levels deep")
        if getattr(event, "tag", None) not in (None, "!"):
            raise self._error(event, f"tags ({event.tag}) are not used here; write a plain value")

    def _error(self, event: yaml.Event, problem: str) -> InputError:
        return InputError(f"{self.name}:{event.start_mark.line + 1}: {problem}")
