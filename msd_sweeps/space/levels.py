"""The values that a parameter can have: its choices, or the steps and bounds of its range."""

import json
import math
from decimal import Decimal
from typing import Any

from msd_sweeps.space.conditions import is_number
from msd_sweeps.space.schema import Choices, Parameter, Range

_MOST_LEVELS = 40_000


def levels_of(parameter: Parameter) -> list[Any]:
    """The levels to check: every choice, or the two bounds of a range."""
    return list(parameter.choices) if isinstance(parameter, Choices) else [parameter.low, parameter.high]


def is_level(parameter: Parameter, value: Any) -> bool:
    """Whether a value is one of a parameter's choices, or within its range and on its steps."""
    if isinstance(parameter, Choices):
        return json.dumps(value, sort_keys=True) in [json.dumps(one, sort_keys=True) for one in parameter.choices]
    if not is_number(value) or not parameter.low <= value <= parameter.high:
        return False
    if parameter.is_integer and not isinstance(value, int):
        return False
    return math.isclose(on_step(parameter, float(value)), value) if parameter.step is not None else True


def every_level(parameter: Parameter) -> list[Any]:
    """Every value that a sampler can choose; empty where they are too many to lay out."""
    if isinstance(parameter, Choices):
        return list(parameter.choices)
    step = parameter.step or (1 if parameter.is_integer else None)
    if step is None or (count := steps_of(parameter)) >= _MOST_LEVELS:
        return []
    return [on_step(parameter, parameter.low + index * step) for index in range(count + 1)]


def steps_of(parameter: Range) -> int:
    """Whole steps from the low end of a stepped range to its high end, which they need not reach."""
    low, high, step = (Decimal(repr(number)) for number in (parameter.low, parameter.high, parameter.step or 1))
    return int((high - low) // step)


def on_step(parameter: Parameter, value: Any) -> Any:
    """A value of a stepped range without the rounding errors of added steps, so that equal values have equal ids."""
    if not isinstance(value, float) or not isinstance(parameter, Range) or parameter.step is None:
        return value
    low, step = Decimal(repr(parameter.low)), Decimal(repr(parameter.step))
    return float(low + round((Decimal(repr(value)) - low) / step) * step)
