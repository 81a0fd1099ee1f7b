"""How a space becomes trials: designs are laid out, the choices of a sampler are applied, conditions are kept."""

import contextlib
import functools
import itertools
import json
import math
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from msd_sweeps.space.conditions import parse_condition
from msd_sweeps.space.errors import InputError
from msd_sweeps.space.levels import every_level, is_level, levels_of
from msd_sweeps.space.schema import Range, Space
from msd_sweeps.space.screening import Layout, lay_out
from msd_sweeps.space.settings import Changes, flatten
from msd_sweeps.space.trial import Trial, changed

LEFT_OUT = "left out"
"""The factor of a leave_one_out design; its level is the part that is left out."""
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


class PlannedTrial(NamedTuple):
    """A trial with its place in the plan, as the ledger and the tables keep it."""

    trial: Trial
    label: str
    """Its row in the table. Two places of a design that give the same trial are one row that names both."""
    phase: str
    """search, confirm or design."""
    levels: tuple[Values, ...] = ()
    """The factors' levels (values or labels) at each place of the design that it fills; empty for a cell beside it."""
    search_trial: str = ""
    """The id of the search trial whose configuration is confirmed."""


@dataclass(frozen=True)
class Sweep:
    """A checked space with its base, ready to run."""

    name: str
    space: Space
    base: Trial

    @functools.cached_property
    def conditions(self) -> Conditions:
        """Which parameters count beside which values."""
        return Conditions(self.space, self.base)

    @functools.cached_property
    def fixed_trials(self) -> tuple[PlannedTrial, ...]:
        """The trials that are known before anything runs: a design's, or the baselines of a search."""
        if self.space.design != "search":
            return replicates(list(self.cells()), self.space.first_seeds)
        baselines = self.space.confirm.baselines.items()
        cells = [PlannedTrial(changed(self.base, changes), label, "confirm") for label, changes in baselines]
        return replicates(cells, self.space.confirm.seeds)

    def cells(self) -> Iterator[PlannedTrial]:
        """The cells of a design that is laid out in advance, each as one trial on the base's seed."""
        space, base = self.space, self.base
        if space.design == "leave_one_out":
            full = changed(base, space.full)
            yield PlannedTrial(full, "full", "design", ({},))
            for label, changes in space.without.items():
                yield PlannedTrial(changed(full, changes), f"without {label}", "design", ({LEFT_OUT: label},))
        places: Iterable[Values] = ()
        if space.design == "grid":
            places = self.conditions.every_combination()
        elif space.design == "screening":
            yield from self._screening_cells()
        elif space.design == "one_at_a_time":
            yield PlannedTrial(base, "base", "design", ({},))
            places = ({name: level} for name, one in space.parameters.items() for level in levels_of(one))
        for values in places:
            yield PlannedTrial(changed(base, changes_of(space, values)), cell_label(values), "design", (values,))
        for label, changes in space.also.items():
            yield PlannedTrial(changed(base, changes), label, "design")

    @functools.cached_property
    def layout(self) -> Layout:
        """The layout of a screening design: its factors are the parameters. Raises ValueError for one that is none."""
        levels = [len(levels_of(parameter)) for parameter in self.space.parameters.values()]
        return lay_out(levels, self.space.screening.cells)

    def _screening_cells(self) -> Iterator[PlannedTrial]:
        """The cells of a screening design. Raises InputError that names the levels of a cell that is no trial."""
        levels = {name: levels_of(parameter) for name, parameter in self.space.parameters.items()}
        for number, row in enumerate(self.layout.cells, 1):
            values = {name: levels[name][place] for name, place in zip(levels, row, strict=True)}
            try:
                trial = changed(self.base, changes_of(self.space, values))
            except InputError as error:
                hint = "a screening design needs each cell; change the choices, or screen fewer parameters"
                raise InputError(f"{cell_label(values)}: {error}; {hint}") from error
            yield PlannedTrial(trial, f"cell {number}", "design", (values,))

    def search_trial(self, values: Values) -> PlannedTrial:
        """The trial with the values that a sampler chose; it holds out a part of the training set."""
        changes: Changes = {"data.val_fraction": self.space.search.val_fraction, "seed": self.space.search.seed}
        changes |= changes_of(self.space, values)
        return PlannedTrial(changed(self.base, changes), "", "search", (values,))

    @functools.cached_property
    def first_trials(self) -> tuple[PlannedTrial, ...]:
        """The trials that a search begins with: the base's own setting, and those of `search.first`.

        A parameter whose choices or range do not have the base's value is absent, and keeps it.
        """
        first = [self.search_trial(self._completed(point)) for point in ({}, *self.space.search.first)]
        return tuple({planned.trial.id: planned for planned in reversed(first)}.values())[::-1]

    def _completed(self, point: Values) -> Values:
        """A point with the base's own values of the other parameters."""
        values: Values = {}
        for name in self.conditions.order:
            level = point[name] if name in point else self._own_level(name)
            if level is not None and self.conditions.counts(name, values):
                values[name] = level
        return values

    def _own_level(self, name: str) -> Any:
        """The level of a parameter that the base has; None where it has none of them."""
        parameter = self.space.parameters[name]
        if isinstance(parameter, Range):
            own = self.conditions.base.get(name)
            return own if is_level(parameter, own) else None
        for level in levels_of(parameter):
            with contextlib.suppress(InputError):
                if level is not None and changed(self.base, changes_of(self.space, {name: level})).id == self.base.id:
                    return level
        return None

    def search_corners(self) -> Iterator[PlannedTrial]:
        """Search trials at the corners of the space (`Conditions.corners`)."""
        for values in self.conditions.corners():
            try:
                yield self.search_trial(values)
            except InputError as error:
                raise InputError(f"{cell_label(values)}: {error}") from error

    def confirm_trials(self, winners: Iterable[PlannedTrial]) -> tuple[PlannedTrial, ...]:
        """The winners of the search, best first, on all images that may be trained on and on fresh seeds."""
        fraction: Changes = {"data.val_fraction": self.base.data.val_fraction}
        cells = [
            PlannedTrial(changed(won.trial, fraction), f"winner {rank}", "confirm", won.levels, won.trial.id)
            for rank, won in enumerate(winners, 1)
        ]
        return replicates(cells, self.space.confirm.seeds)

    @property
    def confirmed_count(self) -> int:
        """How many trials the confirmation of the winners will take."""
        is_search = self.space.design == "search"
        return self.space.confirm.top_k * len(self.space.confirm.seeds) if is_search else 0


def replicates(cells: Sequence[PlannedTrial], seeds: Sequence[int]) -> tuple[PlannedTrial, ...]:
    """Every cell with every seed. Cells that give the same trial become one, with the labels and levels of all."""
    # Seed by seed: the trials of one seed share their stream, and so a slot.
    ids = [cell.trial.ids_of(seeds) for cell in cells]
    planned: dict[str, PlannedTrial] = {}
    for index, seed in enumerate(seeds):
        for cell, of_cell in zip(cells, ids, strict=True):
            same = planned.get(of_cell[index])
            planned[of_cell[index]] = (
                same._replace(label=f"{same.label} = {cell.label}", levels=same.levels + cell.levels)
                if same
                else cell._replace(trial=cell.trial.model_copy(update={"seed": seed}))
            )
    return tuple(planned.values())


def fresh_seeds(space: Space, count: int) -> list[int]:
    """Seeds above the largest seed that a space uses."""
    used = [space.search.seed] * (space.design == "search") + space.first_seeds
    return list(range(max(used) + 1, max(used) + 1 + count))


def changes_of(space: Space, values: Values) -> Changes:
    """The changes of the base that give it these values, with the settings that are bound to them."""
    changes: Changes = {}
    for name, value in values.items():
        labels = getattr(space.parameters[name], "labels", {})
        changes |= labels[value] if labels else {name: value}
    for bound in space.bound:
        if all(name in values and values[name] in levels for name, levels in bound.when.items()):
            changes |= bound.set
    return changes


def cell_label(values: Values) -> str:
    """The label of the cell that has these values."""
    return ", ".join(
        f"{name.rsplit('.', 1)[-1]}={value if isinstance(value, str) else json.dumps(value)}"
        for name, value in values.items()
    )
