"""A space and its base become trials: designs are laid out, the choices of a sampler are applied."""

import functools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from msd_sweeps.space.choices import Conditions, Values, corners, every_combination, levels_of
from msd_sweeps.space.errors import InputError
from msd_sweeps.space.overrides import changed
from msd_sweeps.space.schema import Changes, Choices, Space
from msd_sweeps.space.trial import Trial

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
    """The level of each factor, once for each place of the design that the trial fills: a value, or the label of a set
    of changes. Empty for a cell beside the design, such as a baseline."""
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
        """Which parameters count beside which values. Raises ValueError where conditions form a circle."""
        return Conditions(self.space, self.base)

    @functools.cached_property
    def fixed_trials(self) -> tuple[PlannedTrial, ...]:
        """The trials that are known before anything runs: a design's, or the baselines of a search."""
        if self.space.design != "search":
            return replicates(list(self.cells()), self.space.seeds)
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
        else:
            if space.design == "grid":
                chosen = every_combination(self.conditions)
            else:
                yield PlannedTrial(base, "base", "design", ({},))
                parameters = space.parameters.items()
                chosen = ({name: level} for name, parameter in parameters for level in levels_of(parameter))
            for values in chosen:
                trial = changed(base, changes_of(space, values))
                yield PlannedTrial(trial, cell_label(values), "design", (values,))
        for label, changes in space.also.items():
            yield PlannedTrial(changed(base, changes), label, "design")

    def search_trial(self, values: Values) -> PlannedTrial:
        """The trial with the values that a sampler chose; it holds out a part of the training set."""
        changes: Changes = {"data.val_fraction": self.space.search.val_fraction, "seed": self.space.search.seed}
        changes |= changes_of(self.space, values)
        return PlannedTrial(changed(self.base, changes), "", "search", (values,))

    def search_corners(self) -> Iterator[PlannedTrial]:
        """Search trials at the corners of the space (`choices.corners`)."""
        for values in corners(self.conditions):
            try:
                yield self.search_trial(values)
            except InputError as error:
                raise InputError(f"{cell_label(values)}: {error}") from error

    def confirm_trials(self, winners: Iterable[PlannedTrial]) -> tuple[PlannedTrial, ...]:
        """The winners of the search, best first, on the whole training set and on fresh seeds."""
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
    used = [space.search.seed, *space.confirm.seeds] if space.design == "search" else space.seeds
    return list(range(max(used) + 1, max(used) + 1 + count))


def changes_of(space: Space, values: Values) -> Changes:
    """The changes of the base that give it these values."""
    changes: Changes = {}
    for name, value in values.items():
        parameter = space.parameters[name]
        labels = parameter.labels if isinstance(parameter, Choices) else {}
        changes |= labels[value] if labels else {name: value}
    return changes


def cell_label(values: Values) -> str:
    """The label of the cell that has these values."""
    return ", ".join(
        f"{name.rsplit('.', 1)[-1]}={value if isinstance(value, str) else json.dumps(value)}"
        for name, value in values.items()
    )
