"""Cells against a baseline and levels of a factor against a reference: paired by seed where seeds allow."""

import json
import math
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pandas as pd

from msd_sweeps.report.cells import Cell, Value, short_path, value_text
from msd_sweeps.report.stats import Difference, Family, estimates
from msd_sweeps.space.compared import MOST_INTERACTIONS, compared_rows
from msd_sweeps.space.designs import LEFT_OUT, Sweep, Values, changes_of
from msd_sweeps.space.errors import InputError
from msd_sweeps.space.schema import Choices
from msd_sweeps.space.trial import changed

BETTER, WORSE, UNDECIDED = "better", "worse", "undecided"

Samples = tuple[Mapping[int, float], Mapping[int, float]]
"""The values by seed of the two that are compared."""

Block = dict[str, dict[int, float]]
"""Label of a level to the values of its cell by seed."""


def cell_named(cells: Sequence[Cell], name: str) -> Cell | None:
    """The cell with this label, else the one whose label joins this name with others; else in other letters' case."""
    for fold in (str, str.casefold):
        for joined in (False, True):
            for cell in cells:
                if fold(name) in map(fold, cell.names if joined else [cell.label]):
                    return cell
    return None


def distinct(pairs: Iterable[Samples]) -> list[int]:
    """The seeds of each different comparison that has an interval, whichever side is named first; the fewer of both."""
    sides = [[tuple(sorted(values.items())) for values in pair] for pair in pairs]
    return [min(map(len, pair)) for pair in {frozenset(pair) for pair in sides} if min(map(len, pair)) > 1]


def family_of(pairs: Iterable[Samples], looks: tuple[int, ...], further: tuple[int, ...] = ()) -> Family:
    """The family of these comparisons. looks, further: seeds at the planned looks, and at those that came later.

    A comparison was open at a look if it has more seeds than the look before: only open ones got some.
    """
    seeds = distinct(pairs)
    still_open = tuple(sum(n > before for n in seeds) for before in (0, *looks[:-1]))
    return Family(len(seeds), looks, further, still_open)


def decision(found: Difference, sign: int, margin: float | None = None) -> str:
    """What is decided about a difference; empty where it has no interval. sign: 1 where more is better, else -1."""
    if math.isnan(found.interval.low):
        return ""
    if found.interval.excludes_zero:
        return BETTER if sign * found.interval.mean > 0 else WORSE
    return f"equal within {margin:g}" if margin is not None and found.reach < margin else UNDECIDED


def difference_columns(
    pairs: Sequence[Samples], family: Family, sign: int, margin: float | None = None
) -> dict[str, list[Any]]:
    """The columns of a table that has these differences, ours less theirs."""
    rows = [
        (*found.interval, found.p, found.paired, decision(found, sign, margin))
        for found in family.differences(estimates(pairs))
    ]
    names = ["difference", "difference_low", "difference_high", "pairs", "p", "paired", "decision"]
    return {name: [row[place] for row in rows] for place, name in enumerate(names)}


def undecided(sweep: Sweep, values: Mapping[str, Mapping[int, float]]) -> set[str]:
    """The rows of a race that need more seeds: both of every undecided comparison.

    values: by label and seed; rows may be empty. A comparison that has no interval, as its trials failed, gets no more.
    """
    rows = compared_rows(sweep, list(values))
    pairs = [(values[one], values[other]) for one, other in rows]
    family = family_of(pairs, sweep.space.looks)
    margin = sweep.space.race.until.settled if sweep.space.race else None
    decisions = cast(list[str], difference_columns(pairs, family, Value.of(sweep.space).sign, margin)["decision"])
    return {label for pair, decided in zip(rows, decisions, strict=True) if decided == UNDECIDED for label in pair}


def may_be_best(rows: Mapping[str, Mapping[int, float]], table: pd.DataFrame, family: Family, sign: int) -> list[str]:
    """The rows among which the best is: those that no other row is shown to beat (Hsu 1981, Annals of Statistics 9).

    rows: values by seed of the compared rows and of the baseline; table: label and decision of the compared ones, by
    the intervals of the family, which count here too. Beside them each row is compared with every other, one-sided, at
    an error of its own: this is false only where the best row is left out, so its comparisons alone have to hold.
    """
    labels = list(table["label"])
    beaten = {*table["label"][table["decision"] == WORSE]}
    beaten |= ({*rows} - {*labels}) if BETTER in [*table["decision"]] else set()
    for label in labels:
        pairs = [(rows[other], rows[label]) for other in labels if other != label]
        found = family.for_the_best(len(pairs)).differences(estimates(pairs))
        if any(decision(one, sign) == BETTER for one in found):
            beaten.add(label)
    return [label for label in rows if label not in beaten]


@dataclass(frozen=True)
class Factor:
    """One parameter of a design with what was measured at its levels."""

    name: str
    """As the space has it: a path of the base, or the name of labelled choices."""
    levels: dict[str, Any]
    """Label to level: a value, or again the label of a set of changes. Levels that give the same trials share one
    label, "a = b"."""
    labels: dict[str, str]
    """The JSON text of a level, as the plan records it, to its label."""
    base: str | None = None
    """The label of the level that the base has; None where no choice is the base's."""
    blocks: list[Block] = field(default_factory=list)
    """One for each combination of the other factors' levels; a single one where factors vary alone."""

    places: list[tuple[str | None, ...]] = field(default_factory=list)
    """The other factors' levels at each block."""

    @property
    def title(self) -> str:
        return short_path(self.name)

    @property
    def reference(self) -> str:
        """The level that the others are compared with: the base's, or the first."""
        return self.base or next(iter(self.levels))

    def at(self, place: Values) -> str | None:
        """The label of the level at a place of the design; the base's where this factor does not count there."""
        return self.labels.get(json.dumps(place[self.name])) if self.name in place else self.base

    @property
    def values(self) -> Block:
        """One value a level and seed: the mean over the blocks that are whole at that seed."""
        return self.over([label for label in self.levels if any(block.get(label) for block in self.blocks)])

    def over(self, labels: Sequence[str]) -> Block:
        """As `values`, but a block is whole where it has these levels."""
        result: Block = {label: {} for label in labels}
        for seed in sorted({seed for block in self.blocks for label in labels for seed in block.get(label, {})}):
            whole = [block for block in self.blocks if all(seed in block.get(label, {}) for label in labels)]
            if len(self.blocks) == 1:  # one cell a level: each stands for itself
                whole = self.blocks
            for label in labels:
                found = [block[label][seed] for block in whole if seed in block.get(label, {})]
                if found:
                    result[label][seed] = sum(found) / len(found)
        return result


def factors_of(sweep: Sweep, cells: Sequence[Cell]) -> list[Factor]:
    """The factors of the design. None for a search: the sampler chose what to try by the scores it had seen."""
    space = sweep.space
    if space.design in ("search", "screening"):  # report.screening estimates the effects of a screening design
        return []
    if space.design == "leave_one_out":
        parts = _factor(LEFT_OUT, {part: part for part in space.without})
        full = "full" if "full" not in parts.levels else "the full method"
        return [_measured(replace(parts, levels={full: None} | parts.levels, base=full), (), cells)]
    factors = [_factor(name, _levels(parameter)) for name, parameter in space.parameters.items()]
    if space.design == "one_at_a_time":
        return [_measured(_with_base(one, cells, sweep.conditions.base.get(one.name)), (), cells) for one in factors]
    factors = [replace(factor, base=_level_of_base(sweep, factor)) for factor in factors]
    return [_measured(one, [other for other in factors if other is not one], cells) for one in factors]


def _factor(name: str, levels: dict[str, Any]) -> Factor:
    return Factor(name, levels, {json.dumps(level): label for label, level in levels.items()})


def _levels(parameter: Any) -> dict[str, Any]:
    """The levels of a parameter by their labels: a value's text, exact where a short one would name two."""
    assert isinstance(parameter, Choices)  # the schema allows no range in these designs
    if isinstance(parameter.choices, dict):
        return {label: label for label in parameter.choices}
    short = [value_text(value) for value in parameter.choices]
    exact = [json.dumps(value) for value in parameter.choices]
    labels = [a if short.count(a) == 1 else b for a, b in zip(short, exact, strict=True)]
    return dict(zip(labels, parameter.choices, strict=True))


def _level_of_base(sweep: Sweep, factor: Factor) -> str | None:
    """The level that changes nothing in the base."""
    for label, level in factor.levels.items():
        try:
            if changed(sweep.base, changes_of(sweep.space, {factor.name: level})) == sweep.base:
                return label
        except InputError:  # fits only beside other levels than the base's, or names files that are not here
            continue
    return None


def _with_base(factor: Factor, cells: Sequence[Cell], value: Any) -> Factor:
    """A factor that varies alone, and what its level is in the base: a choice that gives the base's own trial, or none.

    value: the base's, where the factor is a path of it.
    """
    for place in (place for cell in cells if {} in cell.levels for place in cell.levels):
        if factor.name in place:
            return replace(factor, base=factor.at(place))
    name = "base" if "base" not in factor.levels else "the base"
    return replace(factor, levels={name: value} | factor.levels, base=name)


def _measured(factor: Factor, others: Sequence[Factor], cells: Sequence[Cell]) -> Factor:
    """The factor with its blocks. others: the other factors of a grid."""
    together = {factor.name, *(other.name for other in others)}
    blocks: dict[tuple[str | None, ...], Block] = {}
    filled: dict[str, set[Hashable]] = {label: set() for label in factor.levels}
    for cell in cells:
        for place in cell.levels:
            level = factor.at(place)
            if level is not None and set(place) <= together:
                where = tuple(other.at(place) for other in others)
                blocks.setdefault(where, {})[level] = cell.values
                filled[level].add((where, id(cell)))
    same: dict[Hashable, list[str]] = {}
    for label in factor.levels:
        same.setdefault(frozenset(filled[label]) or label, []).append(label)
    names = {label: " = ".join(labels) for labels in same.values() for label in labels}
    return replace(
        factor,
        levels={names[labels[0]]: factor.levels[labels[0]] for labels in same.values()},
        labels={text: names[label] for text, label in factor.labels.items()},
        base=names[factor.base] if factor.base is not None else None,
        places=list(blocks),
        blocks=[{names[label]: values for label, values in block.items()} for block in blocks.values()],
    )


def effects(factors: Sequence[Factor]) -> tuple[pd.DataFrame, list[Samples]]:
    """A row an effect, with the values it compares: a level and its reference, or a part left out and all parts."""
    rows: list[tuple[str, str, str]] = []
    pairs: list[Samples] = []
    for factor in factors:
        for label in [label for label in factor.levels if label != factor.reference]:
            values = factor.over([label, factor.reference])
            rows.append((factor.title, label, factor.reference))
            pairs.append((values[label], values[factor.reference]))
    is_grid = all(len(place) == 1 for factor in factors for place in factor.places)
    if is_grid and len(factors) == 2 and math.prod(len(factor.levels) - 1 for factor in factors) <= MOST_INTERACTIONS:
        for row, samples in _interactions(*factors):
            rows.append(row)
            pairs.append(samples)
    return pd.DataFrame(rows, columns=["factor", "level", "reference"]), pairs


def _interactions(first: Factor, second: Factor) -> Iterator[tuple[tuple[str, str, str], Samples]]:
    """How the effect of each level of the first factor differs between the levels of the second.

    A seed counts where it has all four cells: the sides are y(a, b) + y(a0, b0) and y(a, b0) + y(a0, b), whose
    difference is the interaction.
    """
    of_level = {place[0]: block for place, block in zip(first.places, first.blocks, strict=True)}
    for label in [label for label in first.levels if label != first.reference]:
        for other in [other for other in second.levels if other != second.reference]:
            corners = [(label, other), (first.reference, second.reference)]
            corners += [(label, second.reference), (first.reference, other)]
            four = [of_level.get(b, {}).get(a, {}) for a, b in corners]
            seeds = sorted(set.intersection(*map(set, four)))
            sides = [{seed: one[seed] + two[seed] for seed in seeds} for one, two in (four[:2], four[2:])]
            name = f"{first.title} × {second.title}", f"effect of {label} at {other}"
            yield (*name, f"its effect at {second.reference}"), (sides[0], sides[1])
