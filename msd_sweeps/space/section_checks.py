"""Checks of the settings that are bound to choices, and of screening designs."""

from collections.abc import Iterator

from msd_sweeps.space.designs import Sweep
from msd_sweeps.space.errors import KeyPath, nearest
from msd_sweeps.space.levels import levels_of
from msd_sweeps.space.schema import Choices
from msd_sweeps.space.settings import shown

Problems = Iterator[tuple[KeyPath, str]]
"""Keys of a space, and what is wrong there."""


def bound_problems(sweep: Sweep) -> Problems:
    """Settings are bound to choices that the space has."""
    parameters = sweep.space.parameters
    for index, bound in enumerate(sweep.space.bound):
        for name, levels in bound.when.items():
            key: KeyPath = ("bound", index, "when", name)
            if not isinstance(parameters.get(name), Choices):
                known = [one for one, parameter in parameters.items() if isinstance(parameter, Choices)]
                yield key, f"'{name}' is not a parameter with choices; {nearest(name, known)}"
                continue
            known = levels_of(parameters[name])
            for place, level in enumerate(levels):
                if level not in known:
                    yield (
                        (*key, place),
                        f"{shown(level)} is not one of its choices; {nearest(str(level), map(str, known))}",
                    )


def screening_problems(sweep: Sweep) -> Problems:
    """A screening design exists for these parameters, and every one of them counts in every cell."""
    if sweep.space.design != "screening":
        return
    if sweep.space.race:
        yield ("seeds",), "a screening design needs every cell on every seed; give a list of seeds, not a race"
    try:
        layout = sweep.layout
    except ValueError as error:
        yield ("screening",), str(error)
        return
    names, conditions = list(sweep.space.parameters), sweep.conditions
    levels = [levels_of(parameter) for parameter in sweep.space.parameters.values()]
    places = [dict(zip(names, map(list.__getitem__, levels, row), strict=True)) for row in layout.cells]
    for name in conditions.of:
        without = sum(not conditions.counts(name, place) for place in places)
        if without:
            problem = (
                f"'{name}' would not count in {without} of the {len(places)} cells of the screening design, so its "
            )
            problem += "effect could not be told from that of the parameter in its condition"
            yield ("parameters", name, "when"), f"{problem}; fix one of the two in the base, or use a grid"
