"""A space and its base become trials: designs laid out, choices of a sampler applied."""

import functools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from msd_sweeps.space import choices as choosing
from msd_sweeps.space.choices import Conditions, Values
from msd_sweeps.space.overrides import changed
from msd_sweeps.space.schema import Changes, Choices, Space
from msd_sweeps.space.strict_yaml import InputError
from msd_sweeps.space.trial import Trial


class PlannedTrial(NamedTuple):
    """A trial, the name of its cell in tables, and why it is run: search, confirm or design."""

    trial: Trial
    label: str
    phase: str


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
            cells = [(label, changed(self.base, changes)) for label, changes in baselines.items()]
            return self._replicates(cells, self.space.confirm.seeds, "confirm")
        return self._replicates(list(self.cells()), self.space.seeds, "design")

    def cells(self) -> Iterator[tuple[str, Trial]]:
        """The labelled cells of a design that is laid out in advance."""
        space, base = self.space, self.base
        if space.design == "leave_one_out":
            full = changed(base, space.full)
            yield "full", full
            for label, changes in space.without.items():
                yield f"without {label}", changed(full, changes)
        else:
            if space.design == "grid":
                chosen = list(choosing.every_combination(space, self.conditions))
            else:
                yield "base", base
                chosen = [
                    {name: value}
                    for name, parameter in space.parameters.items()
                    for value in choosing.levels_of(parameter)
                ]
            for values in chosen:
                yield cell_label(values), changed(base, changes_of(space, values))
        for label, changes in space.also.items():
            yield label, changed(base, changes)

    def search_trial(self, values: Values) -> PlannedTrial:
        """The trial that a sampler's choice stands for, trained beside a held-out part."""
        changes: Changes = {"data.val_fraction": self.space.search.val_fraction, "seed": self.space.search.seed}
        changes |= changes_of(self.space, values)
        return PlannedTrial(changed(self.base, changes), "", "search")

    def search_corners(self) -> Iterator[PlannedTrial]:
        """Search trials for the combinations that `choosing.corners` gives."""
        for values in choosing.corners(self.space, self.conditions):
            try:
                yield self.search_trial(values)
            except InputError as error:
                raise InputError(f"{cell_label(values)}: {error}") from error

    def confirm_trials(self, winners: Iterable[Trial]) -> list[PlannedTrial]:
        """The winners of the search, best first, on the whole training set and on fresh seeds."""
        cells = [
            (f"winner {rank}", changed(winner, {"data.val_fraction": self.base.data.val_fraction}))
            for rank, winner in enumerate(winners, 1)
        ]
        return list(self._replicates(cells, self.space.confirm.seeds, "confirm").values())

    @property
    def confirmed_count(self) -> int:
        """How many trials the confirmation of the winners will take."""
        is_search = self.space.design == "search"
        return self.space.confirm.top_k * len(self.space.confirm.seeds) if is_search else 0

    @staticmethod
    def _replicates(cells: list[tuple[str, Trial]], seeds: list[int], phase: str) -> dict[str, PlannedTrial]:
        # Seed by seed: the trials of one seed share their stream, and so a slot.
        ids = [cell.ids_of(seeds) for _, cell in cells]
        planned: dict[str, PlannedTrial] = {}
        for index, seed in enumerate(seeds):
            for (label, cell), of_cell in zip(cells, ids, strict=True):
                if of_cell[index] not in planned:
                    trial = cell.model_copy(update={"seed": seed})
                    planned[of_cell[index]] = PlannedTrial(trial, label, phase)
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
