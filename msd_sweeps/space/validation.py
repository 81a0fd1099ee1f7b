"""Validates a tree against a model; an error says where, what was expected, what was found and what to do."""

import itertools
import json
import re
import types
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from msd_sweeps.space.errors import InputError, KeyPath, nearest
from msd_sweeps.space.settings import Settings

Model = TypeVar("Model", bound=Settings)
Where = Callable[[KeyPath], str]
"""Names the place of a key, and ends with ": " where it is not empty."""

_MOST_ERRORS = 10
_LONGEST_FOUND = 60
_MAPPING = "a mapping of keys to values"
_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "text",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": _MAPPING,
    "model_type": _MAPPING,
    "model_attributes_type": _MAPPING,
    "greater_than": "a number above {gt:g}",
    "greater_than_equal": "a number of at least {ge:g}",
    "less_than": "a number below {lt:g}",
    "less_than_equal": "a number of at most {le:g}",
    "literal_error": "{expected}",
    "too_short": "at least {min_length} of them",
    "too_long": "at most {max_length} of them",
}
"""What an error of pydantic's expected, by its type; the error's context fills the braces."""


def dotted(prefix: str = "") -> Where:
    """Places named by their dotted key alone, after a prefix."""
    return lambda key: prefix + ".".join(map(str, key)) + ": " * bool(key)


def validated(model: type[Model], tree: dict[str, Any], where: Where) -> Model:
    """The model of a tree. Raises InputError with a line for each mistake."""
    try:
        return model.model_validate_json(json.dumps(tree))
    except ValidationError as error:
        messages = _messages(model, error.errors()[: 4 * _MOST_ERRORS], tree)
        lines = [where(key) + message for key, message in messages[:_MOST_ERRORS]]
        if len(messages) > _MOST_ERRORS:
            lines.append("and more")
        raise InputError("\n".join(lines)) from error


def shown(value: Any) -> str:
    """A value as the file would have it, not too long."""
    text = "nothing" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST_FOUND else f"{text[:_LONGEST_FOUND]}..."


def _messages(model: type[Settings], errors: Iterable[ErrorDetails], tree: Any) -> list[tuple[KeyPath, str]]:
    """One message for each mistake; what the members of a union expect of one value is one message."""
    messages: list[tuple[KeyPath, str]] = []
    expected: dict[KeyPath, list[str]] = {}
    found: dict[KeyPath, Any] = {}
    for item in errors:
        key, kind, context = _key_in(tree, item["loc"]), item["type"], item.get("ctx", {})
        message = item["msg"].removeprefix("Value error, ")
        if kind == "extra_forbidden":
            hint = nearest(str(key[-1]), _known_keys(model, item["loc"][:-1]))
            messages.append((key, f"unknown key; {hint}"))
        elif kind == "missing":
            messages.append((key, f"the key '{item['loc'][-1]}' is missing; add it"))
        elif kind == "union_tag_invalid":
            hint = nearest(context["tag"], re.findall(r"'([^']+)'", context["expected_tags"]))
            messages.append(((*key, "name"), f"unknown {key[-1]} '{context['tag']}'; {hint}"))
        elif kind == "union_tag_not_found":
            messages.append((key, f"the key 'name' is missing, which says what {key[-1]} it is; add it"))
        elif kind in _EXPECTED or (message.startswith("expected ") and kind != "value_error"):
            wanted = _EXPECTED[kind].format(**context) if kind in _EXPECTED else message.removeprefix("expected ")
            expected.setdefault(key, []).append(wanted)
            found[key] = item["input"]
        elif kind != "default_factory_not_called":  # it follows from another error
            messages.append(_at_key(message, key, tree) if kind == "value_error" else (key, message))
    for key, wanted_here in expected.items():
        wanted_of_key = list(dict.fromkeys(wanted_here))
        if "a number" in wanted_of_key and "a whole number" in wanted_of_key:
            wanted_of_key.remove("a whole number")
        text = f"expected {' or '.join(wanted_of_key)}, found {shown(found[key])}"
        words = re.findall(r"'([^']+)'", text.partition(", found")[0])
        hint = nearest(found[key], words, only_close=True) if isinstance(found[key], str) else ""
        messages.append((key, f"{text}; {hint}" if hint else text))
    return messages


def _at_key(message: str, key: KeyPath, tree: Any) -> tuple[KeyPath, str]:
    """Key and message of a validator of the models; its message may begin with a dotted key, `recipe.lr: ...`."""
    name, colon, rest = message.partition(": ")
    if not colon or not name.split(".")[0].isidentifier():
        return key, message
    for part in key:
        tree = tree[part]
    as_written = tuple(int(part) if part.isdigit() else part for part in name.split("."))
    return (*key, *key_paths(tree).get(name, as_written)), rest


def key_paths(tree: Any, key: tuple[str, ...] = ()) -> dict[str, tuple[str, ...]]:
    """The keys of every section and value in nested dictionaries by their dotted path; keys may hold dots."""
    found = {".".join(key): key} if key else {}
    for part, value in tree.items() if isinstance(tree, dict) else ():
        found |= key_paths(value, (*key, part))
    return found


def _key_in(tree: Any, location: tuple[int | str, ...]) -> KeyPath:
    """The part of pydantic's location that stands in the file: tags of unions and the like are left out."""
    key: list[int | str] = []
    for part, following in itertools.zip_longest(location, location[1:]):
        # A union's tag may be spelt like a key beside the value that is meant.
        is_tag = _is_in(tree, following) and not (_is_in(tree, part) and _is_in(tree[part], following))
        if _is_in(tree, part) and not is_tag:
            key.append(part)
            tree = tree[part]
    return tuple(key)


def _is_in(tree: Any, part: int | str | None) -> bool:
    if isinstance(tree, list):
        return isinstance(part, int) and part < len(tree)
    return isinstance(tree, dict) and part in tree


def _known_keys(kind: Any, location: Iterable[int | str]) -> list[str]:
    """The keys that a model has at a location of pydantic's."""
    for part in location:
        kind = _inside(kind, part)
    return [name for member in _members(kind) if _is_model(member) for name in member.model_fields]


def _inside(kind: Any, part: int | str) -> Any:
    """The type of a key or position in a type; the tag of a union gives its member, or the union itself."""
    for member in _members(kind):
        if _is_model(member):
            if part in member.model_fields:
                return member.model_fields[part].annotation
            name = member.model_fields.get("name")
            if part in (get_args(name.annotation) if name else [member.__name__.lower()]):
                return member
        elif get_origin(member) in (dict, list):
            return get_args(member)[-1]
    return kind


def _members(kind: Any) -> list[Any]:
    """The types of a union, without their annotations."""
    if get_origin(kind) is Annotated:
        return _members(get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        return [member for part in get_args(kind) for member in _members(part)]
    return [] if get_origin(kind) is Literal else [kind]


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
