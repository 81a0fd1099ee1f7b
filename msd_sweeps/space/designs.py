"""A space and its base become trials: designs laid out, choices of a sampler applied."""

import functools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from msd_sweeps.space import choices as choosing
from msd_sweeps.space.choices import Conditions, Values
from msd_sweeps.space.errors import InputError
from msd_sweeps.space.overrides import changed
from msd_sweeps.space.schema import Changes, Choices, Space
from msd_sweeps.space.trial import Trial

LEFT_OUT = "left out"
"""The factor of a leave_one_out design; its level is the part that is left out."""


class PlannedTrial(NamedTuple):
    """A trial, and what the plan knows of it; the ledger and the tables keep it."""

    trial: Trial
    label: str
    """Its row in the table. Two places of a design that give the same trial are one row that names both."""
    phase: str
    """search, confirm or design."""
    levels: tuple[Values, ...] = ()
    """The level of each factor, once for each place of the design that the trial fills: a value, or the label of a set
    of changes. Empty for a cell beside the design, such as a baseline."""
    search_trial: str = ""
    """The search trial whose configuration is confirmed."""


class Cell(NamedTuple):
    """A configuration of a design without its seed; `levels` as a PlannedTrial has them."""

    label: str
    trial: Trial
    levels: Values | None = None
    search_trial: str = ""


@dataclass(frozen=True)
class Sweep:
    """A checked space with its base: what `run` needs to start."""

    name: str
    space: Space
    base: Trial

    @functools.cached_property
    def conditions(self) -> Conditions:
        """Which parameters count beside which values."""
        return Conditions(self.space, self.base)

    @functools.cached_property
    def fixed_trials(self) -> Sequence[PlannedTrial]:
        """The trials that are known before anything runs: a design's cells, or the baselines of a search."""
        return tuple(self.fixed_by_id.values())

    @functools.cached_property
    def fixed_by_id(self) -> dict[str, PlannedTrial]:
        """The same by their ids."""
        if self.space.design == "search":
            baselines = self.space.confirm.baselines
            cells = [Cell(label, changed(self.base, changes)) for label, changes in baselines.items()]
            return replicates(cells, self.space.confirm.seeds, "confirm")
        return replicates(list(self.cells()), self.space.seeds, "design")

    def cells(self) -> Iterator[Cell]:
        """The cells of a design that is laid out in advance."""
        space, base = self.space, self.base
        if space.design == "leave_one_out":
            full = changed(base, space.full)
            yield Cell("full", full, {})
            for label, changes in space.without.items():
                yield Cell(f"without {label}", changed(full, changes), {LEFT_OUT: label})
        else:
            if space.design == "grid":
                chosen = list(choosing.every_combination(space, self.conditions))
            else:
                yield Cell("base", base, {})
                chosen = [
                    {name: value}
                    for name, parameter in space.parameters.items()
                    for value in choosing.levels_of(parameter)
                ]
            for values in chosen:
                yield Cell(cell_label(values), changed(base, changes_of(space, values)), values)
        for label, changes in space.also.items():
            yield Cell(label, changed(base, changes))

    def search_trial(self, values: Values) -> PlannedTrial:
        """The trial that a sampler's choice stands for, trained beside a held-out part."""
        changes: Changes = {"data.val_fraction": self.space.search.val_fraction, "seed": self.space.search.seed}
        changes |= changes_of(self.space, values)
        return PlannedTrial(changed(self.base, changes), "", "search", (values,))

    def search_corners(self) -> Iterator[PlannedTrial]:
        """Search trials for the combinations that `choosing.corners` gives."""
        for values in choosing.corners(self.space, self.conditions):
            try:
                yield self.search_trial(values)
            except InputError as error:
                raise InputError(f"{cell_label(values)}: {error}") from error

    def confirm_trials(self, winners: Iterable[PlannedTrial]) -> list[PlannedTrial]:
        """The winners of the search, best first, on the whole training set and on fresh seeds."""
        fraction: Changes = {"data.val_fraction": self.base.data.val_fraction}
        cells = [
            Cell(f"winner {rank}", changed(winner.trial, fraction), winner.levels[0], winner.trial.id)
            for rank, winner in enumerate(winners, 1)
        ]
        return list(replicates(cells, self.space.confirm.seeds, "confirm").values())

    @property
    def confirmed_count(self) -> int:
        """How many trials the confirmation of the winners will take."""
        is_search = self.space.design == "search"
        return self.space.confirm.top_k * len(self.space.confirm.seeds) if is_search else 0


def replicates(cells: Sequence[Cell], seeds: Sequence[int], phase: str) -> dict[str, PlannedTrial]:
    """Every cell with every seed, by the trials' ids; cells that give the same trial become one."""
    # Seed by seed: the trials of one seed share their stream, and so a slot.
    ids = [cell.trial.ids_of(seeds) for cell in cells]
    planned: dict[str, PlannedTrial] = {}
    for index, seed in enumerate(seeds):
        for cell, of_cell in zip(cells, ids, strict=True):
            name, levels = of_cell[index], () if cell.levels is None else (cell.levels,)
            same = planned.get(name)
            if same is None:
                trial = cell.trial.model_copy(update={"seed": seed})
                planned[name] = PlannedTrial(trial, cell.label, phase, levels, cell.search_trial)
            else:
                planned[name] = same._replace(label=f"{same.label} = {cell.label}", levels=same.levels + levels)
    return planned


def fresh_seeds(space: Space, count: int) -> list[int]:
    """So many seeds above the largest that a space uses."""
    used = [space.search.seed, *space.confirm.seeds] if space.design == "search" else space.seeds
    return list(range(max(used) + 1, max(used) + 1 + count))


def changes_of(space: Space, values: Values) -> Changes:
    """What a sampler's choice changes in the base."""
    changes: Changes = {}
    for name, value in values.items():
        parameter = space.parameters[name]
        if isinstance(parameter, Choices) and isinstance(parameter.choices, dict):
            changes |= parameter.choices[value]
        else:
            changes[name] = value
    return changes


def cell_label(values: Values) -> str:
    """The name of the cell that has these values."""
    return ", ".join(
        f"{name.rsplit('.', 1)[-1]}={value if isinstance(value, str) else json.dumps(value)}"
        for name, value in values.items()
    )
