"""What the parameters of a space can be: levels, whole small spaces, and which of them count beside which values."""

import itertools
import json
import math
import random
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from msd_sweeps.space.conditions import parse_condition
from msd_sweeps.space.schema import Choices, Parameter, Space
from msd_sweeps.space.trial import Trial

_MOST_COMBINATIONS = 2000
_MOST_LAID_OUT = 20_000

Values = dict[str, Any]
"""What a sampler chose: parameter name to value, or to the label of a set of changes. One whose condition does not hold
is absent."""


class Conditions:
    """Which parameters of a space count. One that does not keeps the base's value.

    Raises ValueError, which begins with the parameter's name, where conditions go in a circle.
    """

    def __init__(self, space: Space, base: Trial | None):
        self._parameters = space.parameters
        self._base = {} if base is None else base.model_dump(mode="json")
        self.of = {
            name: parse_condition(parameter.when)
            for name, parameter in space.parameters.items()
            if parameter.when is not None
        }
        """The condition of each parameter that has one."""
        self.order = self._ordered()
        """The parameters, each after the one that its condition names."""

    def _ordered(self) -> list[str]:
        ordered: dict[str, None] = {}
        for name in self._parameters:
            chain = [name]
            while (above := self._above(chain[-1])) is not None and above not in ordered:
                if above in chain:
                    circle = " -> ".join([*chain[chain.index(above) :], above])
                    raise ValueError(f"{above}: the conditions go in a circle: {circle}")
                chain.append(above)
            ordered |= dict.fromkeys(reversed(chain))
        return list(ordered)

    def _above(self, name: str) -> str | None:
        """The parameter that a parameter's condition names."""
        condition = self.of.get(name)
        return condition.subject if condition and condition.subject in self._parameters else None

    def in_base(self, path: str) -> Any:
        """The base's value at a dotted path; None where it has none."""
        inside: Any = self._base
        for part in path.split("."):
            inside = inside.get(part) if isinstance(inside, dict) else None
        return inside

    def counts(self, name: str, values: Values) -> bool:
        """Whether a parameter counts beside what was chosen of those before it."""
        condition = self.of.get(name)
        if condition is None:
            return True
        subject = condition.subject
        return condition.holds(values[subject] if subject in values else self.in_base(subject))

    def counting(self, values: Values) -> Values:
        """The choices that count, in order."""
        kept: Values = {}
        for name in self.order:
            if name in values and self.counts(name, kept):
                kept[name] = values[name]
        return kept

    def example(self, name: str) -> Values:
        """Choices of other parameters beside which this one counts, as far as choices and bounds show any."""
        above = self._above(name)
        if above is None:
            return {}
        fitting = [level for level in levels_of(self._parameters[above]) if self.of[name].holds(level)]
        return self.example(above) | ({above: fitting[0]} if fitting else {})

    def distinct(self, chosen: Iterable[Values]) -> Iterator[Values]:
        """Of many choices, those that differ in what counts."""
        if not self.of:
            yield from chosen
            return
        seen: set[str] = set()
        for values in map(self.counting, chosen):
            key = json.dumps(values)
            if key not in seen:
                seen.add(key)
                yield values


def levels_of(parameter: Parameter) -> Iterator[Any]:
    """The values to check: every choice, or the two bounds of a range."""
    if isinstance(parameter, Choices):
        yield from parameter.choices
    else:
        yield parameter.low
        yield parameter.high


def every_combination(space: Space, conditions: Conditions) -> Iterator[Values]:
    """All combinations of choices that differ in what counts."""
    levels = {name: list(levels_of(space.parameters[name])) for name in conditions.order}
    return conditions.distinct(_product(levels))


def every_choice(space: Space, conditions: Conditions, most: int) -> list[Values] | None:
    """All that a sampler can choose, or None where that is more than `most`."""
    counts = [_count_of(parameter) for parameter in space.parameters.values()]
    if None in counts or math.prod(filter(None, counts)) > (_MOST_LAID_OUT if conditions.of else most):
        return None
    levels = {name: _finite_levels(space.parameters[name]) for name in conditions.order}
    found = list(itertools.islice(conditions.distinct(_product(levels)), most + 1))
    return found if len(found) <= most else None


def corners(space: Space, conditions: Conditions) -> Iterator[Values]:
    """The combinations of choices, with the bounds of the ranges.

    Of very many combinations: all of any two parameters, and a fixed draw of the others.
    """
    levels = {name: list(levels_of(space.parameters[name])) for name in conditions.order}
    return conditions.distinct(_corners(levels))


def _corners(levels: dict[str, list[Any]]) -> Iterator[Values]:
    if math.prod(map(len, levels.values())) <= _MOST_COMBINATIONS:
        yield from _product(levels)
        return
    first = {name: of_one[0] for name, of_one in levels.items()}
    pairs = (
        {**first, one: value, other: with_value}
        for one, other in itertools.combinations(levels, 2)
        for value in levels[one]
        for with_value in levels[other]
    )
    told = 0
    for told, values in enumerate(itertools.islice(pairs, _MOST_COMBINATIONS), 1):  # noqa: B007
        yield values
    draw = random.Random(0)
    for _ in range(_MOST_COMBINATIONS - told):
        yield {name: draw.choice(of_one) for name, of_one in levels.items()}


def _product(levels: dict[str, Sequence[Any]] | dict[str, list[Any]]) -> Iterator[Values]:
    return (dict(zip(levels, each, strict=True)) for each in itertools.product(*levels.values()))


def _count_of(parameter: Parameter) -> int | None:
    if isinstance(parameter, Choices):
        return len(parameter.choices)
    step = parameter.step or (1 if parameter.is_integer else None)
    return None if step is None else math.floor((parameter.high - parameter.low) / step + 1e-8) + 1


def _finite_levels(parameter: Parameter) -> list[Any]:
    if isinstance(parameter, Choices):
        return list(parameter.choices)
    step = parameter.step or 1
    return [on_step(parameter, parameter.low + index * step) for index in range(_count_of(parameter) or 0)]


def on_step(parameter: Parameter, value: Any) -> Any:
    """A value of a stepped range without the dust of adding steps, so that equal values have equal ids."""
    return round(value, 12) if isinstance(value, float) and getattr(parameter, "step", None) else value
