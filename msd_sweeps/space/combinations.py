"""The values that the parameters of a space can have together: conditions decide which of them count."""

import itertools
import json
import math
import random
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from msd_sweeps.space.conditions import parse_condition
from msd_sweeps.space.levels import every_level, levels_of
from msd_sweeps.space.schema import Space
from msd_sweeps.space.settings import flatten
from msd_sweeps.space.trial import Trial

_MOST_CORNERS = 2000
_MOST_LAID_OUT = 20_000

Values = dict[str, Any]
"""A choice of the sampler, or a place in a design: parameter name to value, or to the label of a set of changes. A
parameter whose condition does not hold is absent, and keeps the base's value."""


class Conditions:
    """Which parameters of a space count. Raises ValueError(parameter, problem) where conditions form a circle."""

    def __init__(self, space: Space, base: Trial | None):
        self._parameters = space.parameters
        self.base = {} if base is None else flatten(base.model_dump(mode="json"))
        self.of = {name: parse_condition(one.when) for name, one in self._parameters.items() if one.when is not None}
        """The condition of each parameter that has one."""
        self.order = self._ordered()
        """The parameters, each after the parameter that its condition names."""

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

    def above(self, name: str) -> list[str]:
        """The parameters on which a parameter's condition depends, the nearest first."""
        found = []
        while (subject := self._above(name)) is not None:
            found.append(name := subject)
        return found

    def _above(self, name: str) -> str | None:
        """The parameter that a parameter's condition names."""
        condition = self.of.get(name)
        return condition.subject if condition and condition.subject in self._parameters else None

    def counts(self, name: str, values: Values) -> bool:
        """Whether a parameter counts beside the values of the parameters before it."""
        condition = self.of.get(name)
        return condition is None or condition.holds(values.get(condition.subject, self.base.get(condition.subject)))

    def example(self, name: str) -> Values:
        """Values of other parameters beside which this parameter counts, if choices and bounds show any."""
        above = self._above(name)
        if above is None:
            return {}
        fitting = [level for level in levels_of(self._parameters[above]) if self.of[name].holds(level)]
        return self.example(above) | ({above: fitting[0]} if fitting else {})

    def distinct(self, combinations: Iterable[Sequence[Any]]) -> Iterator[Values]:
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

    def every_combination(self) -> Iterator[Values]:
        """All combinations of levels that differ in what counts."""
        return self.distinct(itertools.product(*(levels_of(self._parameters[name]) for name in self.order)))

    def corners(self) -> Iterator[Values]:
        """All combinations of choices and bounds; of very many, every pair of levels and a fixed draw of the rest."""
        levels = [levels_of(self._parameters[name]) for name in self.order]
        if math.prod(map(len, levels)) <= _MOST_CORNERS:
            return self.every_combination()
        first = [of_one[0] for of_one in levels]
        pairs = (
            (*first[:one], value, *first[one + 1 : other], with_value, *first[other + 1 :])
            for one, other in itertools.combinations(range(len(levels)), 2)
            for value in levels[one]
            for with_value in levels[other]
        )
        draw = random.Random(0)
        drawn = (tuple(map(draw.choice, levels)) for _ in itertools.count())
        return self.distinct(itertools.islice(itertools.chain(pairs, drawn), _MOST_CORNERS))

    def every_choice(self, most: int) -> list[Values] | None:
        """All that a sampler can choose; None where that is more than `most`."""
        levels = [every_level(self._parameters[name]) for name in self.order]
        if not all(levels) or math.prod(map(len, levels)) > (_MOST_LAID_OUT if self.of else most):
            return None
        found = list(itertools.islice(self.distinct(itertools.product(*levels)), most + 1))
        return found if len(found) <= most else None
