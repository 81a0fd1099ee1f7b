"""The values that the parameters of a space can take, and which parameters count beside which values."""

import itertools
import json
import math
import random
from collections.abc import Iterable, Iterator
from typing import Any

from msd_sweeps.space.conditions import parse_condition
from msd_sweeps.space.overrides import flatten
from msd_sweeps.space.schema import Choices, Parameter, Space
from msd_sweeps.space.trial import Trial

_MOST_CORNERS = 2000
_MOST_LAID_OUT = 20_000
_MOST_LEVELS = 40_000

Values = dict[str, Any]
"""A choice of the sampler, or a place in a design: parameter name to value, or to the label of a set of changes. A
parameter whose condition does not hold is absent."""


class Conditions:
    """Which parameters of a space count. A parameter that does not count keeps the base's value.

    Raises ValueError(parameter, problem) where conditions form a circle.
    """

    def __init__(self, space: Space, base: Trial | None):
        self._parameters = space.parameters
        self._base = {} if base is None else flatten(base.model_dump(mode="json"))
        self.of = {
            name: parse_condition(parameter.when)
            for name, parameter in space.parameters.items()
            if parameter.when is not None
        }
        """The condition of each parameter that has one."""
        self.order = self._ordered()
        """The parameters, each after the parameter that its condition names."""
        self.levels = [levels_of(space.parameters[name]) for name in self.order]
        """The levels of each parameter, in this order."""

    def _ordered(self) -> list[str]:
        ordered: dict[str, None] = {}
        for name in self._parameters:
            chain = [name]
            while (above := self._above(chain[-1])) is not None and above not in ordered:
                if above in chain:
                    circle = " -> ".join([*chain[chain.index(above) :], above])
                    raise ValueError(above, f"the conditions go in a circle: {circle}")
                chain.append(above)
            ordered |= dict.fromkeys(reversed(chain))
        return list(ordered)

    def _above(self, name: str) -> str | None:
        """The parameter that a parameter's condition names."""
        condition = self.of.get(name)
        return condition.subject if condition and condition.subject in self._parameters else None

    def in_base(self, path: str) -> Any:
        """The base's value at a dotted path; None where it has none."""
        return self._base.get(path)

    def counts(self, name: str, values: Values) -> bool:
        """Whether a parameter counts beside the values of the parameters before it."""
        condition = self.of.get(name)
        return condition is None or condition.holds(values.get(condition.subject, self.in_base(condition.subject)))

    def example(self, name: str) -> Values:
        """Values of other parameters beside which this parameter counts, if choices and bounds show any."""
        above = self._above(name)
        if above is None:
            return {}
        fitting = [level for level in levels_of(self._parameters[above]) if self.of[name].holds(level)]
        return self.example(above) | ({above: fitting[0]} if fitting else {})

    def distinct(self, combinations: Iterable[tuple[Any, ...]]) -> Iterator[Values]:
        """Combinations of levels, in order, without what does not count; those that become the same are one."""
        seen: set[str] = set()
        for combination in combinations:
            values: Values = {}
            for name, value in zip(self.order, combination, strict=True):
                if self.counts(name, values):
                    values[name] = value
            text = json.dumps(values)
            if text not in seen:
                seen.add(text)
                yield values


def levels_of(parameter: Parameter) -> list[Any]:
    """The levels to check: every choice, or the two bounds of a range."""
    return list(parameter.choices) if isinstance(parameter, Choices) else [parameter.low, parameter.high]


def every_combination(conditions: Conditions) -> Iterator[Values]:
    """All combinations of levels that differ in what counts."""
    return conditions.distinct(itertools.product(*conditions.levels))


def corners(conditions: Conditions) -> Iterator[Values]:
    """The combinations of choices, with the bounds of the ranges.

    Of very many combinations: all of any two parameters, and a fixed draw of the others.
    """
    levels = conditions.levels
    if math.prod(map(len, levels)) <= _MOST_CORNERS:
        return every_combination(conditions)
    first = [of_one[0] for of_one in levels]
    pairs = (
        (*first[:one], value, *first[one + 1 : other], with_value, *first[other + 1 :])
        for one, other in itertools.combinations(range(len(levels)), 2)
        for value in levels[one]
        for with_value in levels[other]
    )
    draw = random.Random(0)
    drawn = (tuple(map(draw.choice, levels)) for _ in itertools.count())
    return conditions.distinct(itertools.islice(itertools.chain(pairs, drawn), _MOST_CORNERS))


def every_choice(space: Space, conditions: Conditions, most: int) -> list[Values] | None:
    """All that a sampler can choose; None where that is more than `most`."""
    levels = [_every_level(space.parameters[name]) for name in conditions.order]
    if not all(levels) or math.prod(map(len, levels)) > (_MOST_LAID_OUT if conditions.of else most):
        return None
    found = list(itertools.islice(conditions.distinct(itertools.product(*levels)), most + 1))
    return found if len(found) <= most else None


def _every_level(parameter: Parameter) -> list[Any]:
    """Every value that a sampler can choose; empty where they are too many to lay out."""
    if isinstance(parameter, Choices):
        return list(parameter.choices)
    step = parameter.step or (1 if parameter.is_integer else math.inf)
    count = math.floor((parameter.high - parameter.low) / step + 1e-8) + 1
    is_small = math.isfinite(step) and count <= _MOST_LEVELS
    return [on_step(parameter, parameter.low + index * step) for index in range(count)] if is_small else []


def on_step(parameter: Parameter, value: Any) -> Any:
    """A value of a stepped range without the rounding errors of added steps, so that equal values have equal ids."""
    return round(value, 12) if isinstance(value, float) and getattr(parameter, "step", None) else value
