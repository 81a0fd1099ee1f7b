"""The base of every settings model; and its errors, which say where, what was expected, what was found, what to do."""

import json
import re
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any, ClassVar, Self, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, Tag, ValidationError
from pydantic_core import ErrorDetails

from msd_sweeps.space.errors import InputError, KeyPath, blank_missing, nearest

Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]


def _increasing(numbers: tuple[int, ...]) -> tuple[int, ...]:
    if list(numbers) != sorted(set(numbers)):
        raise ValueError(f"expected numbers in increasing order, each once, such as {sorted(set(numbers))}")
    return numbers


Scales = Annotated[tuple[Count, ...], Field(min_length=1), AfterValidator(_increasing)]
"""In one order only, so that the same windows have the same trial id."""


Changes = dict[str, JsonValue]
"""Dotted paths of a trial and the values they get."""
Where = Callable[[KeyPath], str]
"""Names the place of a key, and ends with ": " where it is not empty."""

_MOST_ERRORS = 10
_LONGEST_FOUND = 60
_EXPECTED = dict.fromkeys(("dict_type", "model_type", "model_attributes_type"), "a mapping of keys to values") | {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "text",
    "list_type": "a list",
    "tuple_type": "a list",
    "greater_than": "a number above {gt:g}",
    "greater_than_equal": "a number of at least {ge:g}",
    "less_than": "a number below {lt:g}",
    "less_than_equal": "a number of at most {le:g}",
    "literal_error": "{expected}",
    "too_short": "at least {min_length} of them",
    "too_long": "at most {max_length} of them",
}
"""What an error of pydantic's expected, by its type; the error's context fills the braces."""


class Settings(BaseModel):
    """A frozen model that rejects unknown keys and does not convert between types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)

    widened: ClassVar[dict[str, Callable[[], Any]]] = {}
    """Fields whose type grows with what own code registers, and what gives their type now."""

    @classmethod
    def of_tree(cls, tree: dict[str, Any], where: Where) -> Self:
        """The model of nested dictionaries and lists. Raises InputError with a line for each mistake."""
        refresh()
        try:
            return cls.model_validate_json(json.dumps(tree))
        except ValidationError as error:
            messages = _messages(cls, error.errors()[: 4 * _MOST_ERRORS], tree)
        lines = [where(key) + message for key, message in messages[:_MOST_ERRORS]]
        raise InputError("\n".join(lines + ["and more"] * (len(messages) > _MOST_ERRORS)))


_stale = False


def mark_stale() -> None:
    """The types of some fields have grown."""
    global _stale
    _stale = True


def refresh() -> None:
    """Rebuild all models where the types of some fields have grown."""
    global _stale
    if _stale:
        _stale = False
        models = list(_subclasses(Settings))
        for model in models:
            for name, kind in vars(model).get("widened", {}).items():
                model.__pydantic_fields__[name].annotation = kind()
        for model in models:  # in the order of their definition, those that are parts of others first
            model.model_rebuild(force=True)


def _subclasses(model: type[Settings]) -> Iterator[type[Settings]]:
    for below in model.__subclasses__():
        yield below
        yield from _subclasses(below)


def dotted(prefix: str = "") -> Where:
    """Places named by their dotted key alone, after a prefix."""
    return lambda key: prefix + ".".join(map(str, key)) + ": " * bool(key)


def shown(value: Any) -> str:
    """A value as the file would have it, not too long."""
    text = "nothing" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST_FOUND else f"{text[:_LONGEST_FOUND]}..."


def _messages(model: type[Settings], errors: Iterable[ErrorDetails], tree: Any) -> list[tuple[KeyPath, str]]:
    """One message for each mistake; what the members of a union expect of one value is one message."""
    messages: list[tuple[KeyPath, str]] = []
    expected: dict[KeyPath, tuple[Any, list[str]]] = {}
    for item in errors:
        key, _ = _resolved(model, item["loc"])
        kind, context = item["type"], item.get("ctx", {})
        message = item["msg"].removeprefix("Value error, ")
        if kind == "extra_forbidden":
            _, section = _resolved(model, item["loc"][:-1])
            hint = blank_missing(str(key[-1])) or f"; {nearest(str(key[-1]), section.model_fields)}"
            messages.append((key, f"unknown key{hint}"))
        elif kind == "missing":
            messages.append((key[:-1], f"the key '{key[-1]}' is missing; add it"))
        elif kind == "union_tag_invalid":
            hint = nearest(context["tag"], re.findall(r"'([^']+)'", context["expected_tags"]))
            messages.append(((*key, "name"), f"unknown {key[-1]} '{context['tag']}'; {hint}"))
        elif kind == "union_tag_not_found":
            messages.append((key, f"the key 'name' is missing, which says what {key[-1]} it is; add it"))
        elif kind in _EXPECTED or (message.startswith("expected ") and kind != "value_error"):
            wanted = _EXPECTED[kind].format(**context) if kind in _EXPECTED else message.removeprefix("expected ")
            expected.setdefault(key, (item["input"], []))[1].append(wanted)
        elif kind != "default_factory_not_called":  # it follows from another error
            messages.append(_at_key(message, key, tree) if kind == "value_error" else (key, message))
    for key, (found, wanted_here) in expected.items():
        wanted_of_key = list(dict.fromkeys(wanted_here))
        if "a number" in wanted_of_key and "a whole number" in wanted_of_key:
            wanted_of_key.remove("a whole number")
        text = " or ".join(wanted_of_key)
        words = re.findall(r"'([^']+)'", text)
        hint = nearest(found, words, only_close=True) if isinstance(found, str) else ""
        hint = f"; {hint}" if hint else blank_missing(found) if isinstance(found, str) else ""
        messages.append((key, f"expected {text}, found {shown(found)}{hint}"))
    return messages


def _at_key(message: str, key: KeyPath, tree: Any) -> tuple[KeyPath, str]:
    """Key and message of a validator of the models; its message may begin with a dotted key, `recipe.lr: ...`."""
    name, colon, rest = message.partition(": ")
    if not colon or not name.split(".")[0].isidentifier():
        return key, message
    for part in key:
        tree = tree[part]
    as_written = tuple(int(part) if part.isdigit() else part for part in name.split("."))
    return (*key, *paths(tree).get(name, (as_written, None))[0]), rest


def paths(tree: Any, key: tuple[str, ...] = ()) -> dict[str, tuple[tuple[str, ...], Any]]:
    """Keys and value of every section and value in nested dictionaries by their dotted path; keys may hold dots."""
    found = {".".join(key): (key, tree)} if key else {}
    for part, value in tree.items() if isinstance(tree, dict) else ():
        found |= paths(value, (*key, part))
    return found


def flatten(tree: dict[str, Any]) -> dict[str, Any]:
    """The values of nested dictionaries by their dotted paths; lists stay whole, empty dictionaries are left out."""
    return {path: value for path, (_, value) in paths(tree).items() if not isinstance(value, dict)}


def overlap(one: str, other: str) -> bool:
    """Whether two dotted paths are the same, or one is a section that holds the other."""
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")


def _resolved(kind: Any, location: Iterable[int | str]) -> tuple[KeyPath, Any]:
    """The key in the file at a location of pydantic's, which has the tags of unions too; and the type that is there."""
    key: list[int | str] = []
    for part in location:
        members = _members(kind)
        if len(members) > 1:
            kind = members.get(part)
            continue
        (kind,) = members.values()
        if fields := getattr(kind, "model_fields", None):
            if part not in fields and part in _tags(kind):
                continue  # a union of a single model has its tags in locations too
            kind = fields[part].annotation if part in fields else None
        else:  # list[...], tuple[..., ...] or dict[str, ...]
            kind = next((inner for inner in get_args(kind) if inner not in (str, ...)), None)
        key.append(part)
    return tuple(key), list(_members(kind).values())[-1]


def _members(kind: Any) -> dict[Any, Any]:
    """The members of a union by their tags, or the type alone; without annotations and None."""
    if get_origin(kind) is Annotated:
        inner, *notes = get_args(kind)
        tags = [note.tag for note in notes if isinstance(note, Tag)]
        return dict.fromkeys(tags, inner) or _members(inner)
    if get_origin(kind) in (Union, types.UnionType):
        parts = [part for part in get_args(kind) if part is not type(None)]
        names = {tag: part for part in parts for tag in _tags(part)}
        return names or {tag: one for part in parts for tag, one in _members(part).items()}
    return {(_tags(kind) or [kind])[0]: kind}


def _tags(kind: Any) -> tuple[Any, ...]:
    """The names by which a union tells this model."""
    name = kind.model_fields.get("name") if isinstance(kind, type) and issubclass(kind, BaseModel) else None
    return tuple(tag for tag in get_args(name.annotation) if isinstance(tag, str)) if name else ()
