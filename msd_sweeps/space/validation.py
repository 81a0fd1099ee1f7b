"""Check a tree against a model; errors say where, what was expected, what was found and what to do."""

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
_KINDS = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "text",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping of keys to values",
    "model_type": "a mapping of keys to values",
    "model_attributes_type": "a mapping of keys to values",
}
_BOUNDS = {
    "greater_than": ("above", "gt"),
    "greater_than_equal": ("of at least", "ge"),
    "less_than": ("below", "lt"),
    "less_than_equal": ("of at most", "le"),
}


def dotted(prefix: str = "") -> Where:
    """Places named by their dotted key alone, after a prefix."""
    return lambda key: prefix + ".".join(map(str, key)) + ": " * bool(key)


def validated(model: type[Model], tree: dict[str, Any], where: Where) -> Model:
    """The model of a tree. Raises InputError with a line for each mistake."""
    try:
        return model.model_validate_json(json.dumps(tree))
    except ValidationError as error:
        told = _told(model, error.errors()[: 4 * _MOST_ERRORS], tree)
        lines = [where(key) + message for key, message in told[:_MOST_ERRORS]]
        if len(told) > _MOST_ERRORS:
            lines.append("and more")
        raise InputError("\n".join(lines)) from error


def _told(model: type[Settings], errors: Iterable[ErrorDetails], tree: Any) -> list[tuple[KeyPath, str]]:
    """One message for each key; what the members of a union expect of one value is told together."""
    expected: dict[KeyPath, list[str]] = {}
    found: dict[KeyPath, Any] = {}
    messages: list[tuple[KeyPath, str]] = []
    for item in errors:
        key = _key_in(tree, item["loc"])
        kind, context = item["type"], item.get("ctx", {})
        if kind == "extra_forbidden":
            known = _fields(model, item["loc"][:-1])
            messages.append((key, f"unknown key; {nearest(str(item['loc'][-1]), known)}"))
        elif kind == "missing":
            messages.append((key, f"the key '{item['loc'][-1]}' is missing; add it"))
        elif kind == "union_tag_invalid":
            tags = re.findall(r"'([^']+)'", context["expected_tags"])
            messages.append(((*key, "name"), f"unknown {key[-1]} '{context['tag']}'; {nearest(context['tag'], tags)}"))
        elif kind == "union_tag_not_found":
            messages.append((key, f"the key 'name' is missing, which says what {key[-1]} it is; add it"))
        elif kind == "value_error":
            messages.append(_of_validator(item, key, tree, model))
        else:
            wanted = _expected(item)
            if wanted is None:
                messages.append((key, item["msg"]))
            elif wanted not in expected.setdefault(key, []):
                expected[key].append(wanted)
                found[key] = item["input"]
    for key, wanted_of_key in expected.items():
        if {"a whole number", "a number"} <= set(wanted_of_key):
            wanted_of_key.remove("a whole number")
        text = f"expected {' or '.join(wanted_of_key)}, found {shown(found[key])}"
        messages.append((key, text + _spelling(found[key], wanted_of_key)))
    return messages


def _expected(item: ErrorDetails) -> str | None:
    kind, context = item["type"], item.get("ctx", {})
    if kind in _KINDS:
        return _KINDS[kind]
    if kind in _BOUNDS:
        words, name = _BOUNDS[kind]
        return f"a number {words} {context[name]:g}"
    if kind == "literal_error":
        return str(context["expected"])
    if kind == "too_short":
        return f"at least {context['min_length']} of them"
    if kind == "too_long":
        return f"at most {context['max_length']} of them"
    message = item["msg"]
    return message.removeprefix("expected ") if message.startswith("expected ") else None


def _spelling(found: Any, wanted: Iterable[str]) -> str:
    known = [word for text in wanted for word in re.findall(r"'([^']+)'", text)]
    hint = nearest(found, known, only_close=True) if isinstance(found, str) else ""
    return f"; {hint}" if hint else ""


def shown(value: Any) -> str:
    """A value as the file would have it, not too long."""
    text = "nothing" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST_FOUND else f"{text[:_LONGEST_FOUND]}..."


def _of_validator(item: ErrorDetails, key: KeyPath, tree: Any, model: type[Settings]) -> tuple[KeyPath, str]:
    """What a validator of ours says; it may begin with the key that it is about, below the model's own."""
    message = item["msg"].removeprefix("Value error, ")
    name, colon, rest = message.partition(": ")
    if not colon or name.split(".")[0] not in _fields(model, item["loc"]):
        return key, message
    for part in key:
        tree = tree[part]
    return (*key, *split_path(tree, name)), rest


def split_path(tree: Any, path: str) -> KeyPath:
    """The keys of a dotted path. Keys of the tree may hold dots themselves; the longest that fits is taken."""
    if not path:
        return ()
    if isinstance(tree, list):
        index, _, rest = path.partition(".")
        return (int(index), *split_path(tree[int(index)], rest))
    fitting = (
        [name for name in tree if isinstance(name, str) and f"{path}.".startswith(f"{name}.")]
        if isinstance(tree, dict)
        else []
    )
    name = max(fitting, key=len) if fitting else path.split(".")[0]
    inner = tree[name] if fitting else None
    return (name, *split_path(inner, path[len(name) + 1 :]))


def _key_in(tree: Any, location: tuple[int | str, ...]) -> KeyPath:
    """The part of pydantic's location that stands in the file: union tags and the like are left out."""
    key: list[int | str] = []
    for part, following in itertools.zip_longest(location, location[1:]):
        # A union's tag may be spelt like a key beside the one that is meant.
        is_tag = _is_in(tree, following) and not (_is_in(tree, part) and _is_in(tree[part], following))
        if _is_in(tree, part) and not is_tag:
            key.append(part)
            tree = tree[part]
    return tuple(key)


def _is_in(tree: Any, part: int | str | None) -> bool:
    if isinstance(tree, list):
        return isinstance(part, int) and part < len(tree)
    return isinstance(tree, dict) and part in tree


def _fields(kind: Any, location: Iterable[int | str]) -> list[str]:
    """The keys that a model knows at a location of pydantic's."""
    for part in location:
        kind = next((inner for member in _members(kind) if (inner := _inside(member, part)) is not None), None)
    return [name for member in _members(kind) if _is_model(member) for name in member.model_fields]


def _inside(kind: Any, part: int | str) -> Any:
    if _is_model(kind):
        if part in kind.model_fields:
            return kind.model_fields[part].annotation
        return kind if kind.__name__.removesuffix("Settings").lower() == part else None
    if get_origin(kind) is dict:
        return get_args(kind)[1]
    if get_origin(kind) in (list, tuple):
        return get_args(kind)[0]
    return None


def _members(kind: Any) -> list[Any]:
    """The types of a union, without what annotates them."""
    if get_origin(kind) is Annotated:
        return _members(get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        return [member for part in get_args(kind) for member in _members(part)]
    return [] if get_origin(kind) is Literal else [kind]


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
