"""How a space becomes trials: designs are laid out, and the choices of a sampler are applied."""

import contextlib
import functools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from msd_sweeps.space.combinations import Conditions, Values
from msd_sweeps.space.errors import InputError
from msd_sweeps.space.levels import is_level, levels_of
from msd_sweeps.space.schema import Choices, Range, Space
from msd_sweeps.space.screening import Layout, lay_out
from msd_sweeps.space.settings import Changes
from msd_sweeps.space.trial import Trial, changed

LEFT_OUT = "left out"
"""The factor of a leave_one_out design; its level is the part that is left out."""


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
    def searches(self) -> dict[str, "Sweep"]:
        """The searches that a search consists of, by the choice of `search.each` that they hold; under "" without it.

        Each is a sweep whose base has that choice.
        """
        space, each = self.space, self.space.search.each
        if each is None:
            return {"": self}
        chosen, found = space.parameters[each], {}
        assert isinstance(chosen, Choices)  # the schema checks it
        for level in levels_of(chosen):
            only = {level: chosen.labels[level]} if chosen.labels else [level]
            one = chosen.model_copy(update={"choices": only})
            first = [point for point in space.search.first if point.get(each, level) == level]
            search = space.search.model_copy(update={"each": None, "first": first})
            parameters = {**space.parameters, each: one}
            own = space.model_copy(update={"parameters": parameters, "search": search})
            found[_text(level)] = replace(self, space=own, base=changed(self.base, changes_of(space, {each: level})))
        return found

    def search_of(self, values: Values) -> str:
        """The one of `searches` that a trial with these values belongs to."""
        each = self.space.search.each
        return "" if each is None else _text(values.get(each))  # absent where the level is null

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

    def confirm_trials(self, winners: Mapping[str, Sequence[PlannedTrial]]) -> tuple[PlannedTrial, ...]:
        """The winners of each search, best first, on all images that may be trained on and on fresh seeds."""
        fraction: Changes = {"data.val_fraction": self.base.data.val_fraction}
        cells = [
            PlannedTrial(changed(won.trial, fraction), winner(rank, name), "confirm", won.levels, won.trial.id)
            for name, best in winners.items()
            for rank, won in enumerate(best, 1)
        ]
        return replicates(cells, self.space.confirm.seeds)

    @functools.cached_property
    def winner_labels(self) -> tuple[str, ...]:
        """The rows of the winners that a search will have."""
        if self.space.design != "search":
            return ()
        return tuple(winner(rank, name) for name in self.searches for rank in range(1, self.space.confirm.top_k + 1))

    @property
    def samples(self) -> int:
        """Trials of all searches."""
        return self.space.search.num_samples * len(self.searches) if self.space.design == "search" else 0

    @property
    def confirmed_count(self) -> int:
        """How many trials the confirmation of the winners will take."""
        return len(self.winner_labels) * len(self.space.confirm.seeds)


def winner(rank: int, search: str) -> str:
    """The row of a winner. search: the choice of `search.each` that its search holds, or nothing."""
    return f"winner {rank} of {search}" if search else f"winner {rank}"


def _text(level: Any) -> str:
    return level if isinstance(level, str) else json.dumps(level)


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
    return ", ".join(f"{name.rsplit('.', 1)[-1]}={_text(value)}" for name, value in values.items())
