"""A condition on a parameter, such as `method.feature_weight > 0`: read by a small parser and never executed."""

import operator
import re
from typing import Any, NamedTuple

from msd_sweeps.space.errors import InputError

_FORM = re.compile(r"\s*([^\s=!<>]+)\s*(==|!=|<=|>=|<|>|\sin\s)\s*(\S.*?)\s*", re.DOTALL)
_EXPECTED = "expected '<parameter or path> <operator> <value>', such as a.b > 0, with one of == != < <= > >= in"
ORDERS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
"""The operators that compare by size, so that both sides must be numbers."""


class Condition(NamedTuple):
    """A comparison of one parameter, or of one setting of the base, with a value."""

    subject: str
    """The name of a parameter, or a dotted path of the base."""
    operator: str
    value: Any
    """A number, a word or a list; with `in` always a list."""

    def __str__(self) -> str:
        return f"{self.subject} {self.operator} {self.value}"

    def holds(self, found: Any) -> bool:
        """Whether it is true of a value; no order holds of what is not a number."""
        if self.operator in ORDERS:
            return is_number(found) and bool(ORDERS[self.operator](found, self.value))
        if self.operator == "in":
            return any(_same(found, value) for value in self.value)
        return _same(found, self.value) == (self.operator == "==")


def is_number(value: Any) -> bool:
    """Whether a value has a size; true and false have none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _same(one: Any, other: Any) -> bool:
    """Equality in which 1 is 1.0 and not `true`, and a tuple is a list."""
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and one == other


def parse_condition(text: str) -> Condition:
    """Read `<parameter or path> <operator> <value>`. Raises ValueError that says what was expected."""
    from msd_sweeps.space.strict_yaml import parse_scalar  # here, so that the schema of a space needs no YAML reader

    match = _FORM.fullmatch(text) if len(text) <= 300 else None
    if match is None:
        raise ValueError(f"{_EXPECTED}; found {text[:60]!r}")
    subject, sign, written = match[1], match[2].strip(), match[3]
    try:
        value = parse_scalar(written, "value")
    except InputError as error:
        raise ValueError(f"{_EXPECTED}; {error}") from error
    if isinstance(value, dict):
        raise ValueError(f"{_EXPECTED}; a mapping has no order and no name")
    if sign == "in" and (not isinstance(value, list) or not value):
        raise ValueError(f"expected a list after 'in', such as [1, 2], found {written[:60]!r}")
    if sign in ORDERS and not is_number(value):
        raise ValueError(f"expected a number after '{sign}', found {written[:60]!r}")
    return Condition(subject, sign, value)
