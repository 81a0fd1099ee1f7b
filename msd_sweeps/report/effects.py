"""What each factor of a design does: its levels against a reference, paired by seed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from msd_sweeps.records.ledger import Record
from msd_sweeps.report.cells import NOT_COMPARED, Cell, Replicate, replicate_order, short_path, value_text
from msd_sweeps.report.comparisons import cell_named, difference_columns, difference_of, with_holm
from msd_sweeps.report.frames import Frames, flatten
from msd_sweeps.report.stats import paired_difference

COLUMNS = ("factor", "level", "reference", *(name for name in difference_columns(None, "") if name != "baseline"))


Block = dict[str, dict[Replicate, float]]
"""Level to the values of its cell by seed."""


@dataclass(frozen=True)
class Factor:
    """One parameter of a design with what was measured at its levels."""

    path: str
    name: str
    levels: dict[str, Any]
    """Label to the value at the path, or to the set of changes it stands for."""
    blocks: list[Block]
    """One for each combination of the other factors' levels; a single one where factors vary alone."""
    reference: str
    """The level of the base, or the first."""

    @property
    def values(self) -> dict[str, dict[Replicate, float]]:
        """One value a level and seed: the mean over the blocks that are whole at that seed."""
        measured = [label for label in self.levels if any(block.get(label) for block in self.blocks)]
        return self.over(measured)

    def over(self, labels: Sequence[str]) -> dict[str, dict[Replicate, float]]:
        """As `values`, but a block is whole where it has these levels."""
        result: dict[str, dict[Replicate, float]] = {label: {} for label in labels}
        replicates = {key for block in self.blocks for label in labels for key in block.get(label, {})}
        for key in sorted(replicates, key=replicate_order):
            whole = [block for block in self.blocks if all(key in block.get(label, {}) for label in labels)]
            if len(self.blocks) == 1:  # one cell a level: each stands for itself
                whole = self.blocks
            for label in labels:
                found = [block[label][key] for block in whole if key in block.get(label, {})]
                if found:
                    result[label][key] = sum(found) / len(found)
        return result


def levels_of(parameter: Mapping[str, Any]) -> dict[str, Any]:
    """The levels of a parameter of the space by label; none for a range."""
    choices = parameter.get("choices") or []
    return dict(choices) if isinstance(choices, dict) else {value_text(value): value for value in choices}


def level_in(config: Record, path: str, levels: Mapping[str, Any]) -> str | None:
    """The label of the level that a flat configuration has, or None."""
    for label, level in levels.items():
        wanted = flatten(level) if isinstance(level, dict) else {path: level}
        if all(name in config and config[name] == value for name, value in wanted.items()):
            return label
    return None


def factors_of(frames: Frames, cells: Sequence[Cell]) -> list[Factor]:
    """The factors of a grid or one-at-a-time design; none for other designs."""
    space, base = frames.header.space, flatten(frames.header.base)
    design, parameters = space.get("design"), space.get("parameters") or {}
    if design not in ("grid", "one_at_a_time"):
        return []
    also = set(space.get("also") or {})
    plain = [cell for cell in cells if cell.config and cell.label not in also]
    all_levels = {path: levels_of(parameter) for path, parameter in parameters.items()}
    factors = []
    for path, levels in all_levels.items():
        blocks = _blocks(plain, path, all_levels) if design == "grid" else [_alone(plain, path, levels, base)]
        home = level_in(base, path, levels)
        factors.append(Factor(path, short_path(path), levels, blocks, home or next(iter(levels), "")))
    return factors


def _alone(cells: Iterable[Cell], path: str, levels: Mapping[str, Any], base: Record) -> Block:
    """The cells that differ from the base in this factor alone, by level."""
    values: Block = {}
    for label, level in levels.items():
        wanted = _compared(base | (flatten(level) if isinstance(level, dict) else {path: level}))
        for cell in cells:
            if _compared(cell.config) == wanted:
                values[label] = cell.values
    return values


def _compared(config: Record) -> Record:
    return {path: value for path, value in config.items() if path not in NOT_COMPARED}


def _blocks(cells: Iterable[Cell], path: str, all_levels: Mapping[str, Mapping[str, Any]]) -> list[Block]:
    """The cells of a grid by the levels of the other factors."""
    blocks: dict[tuple[str | None, ...], Block] = {}
    for cell in cells:
        level = level_in(cell.config, path, all_levels[path])
        others = tuple(level_in(cell.config, p, levels) for p, levels in all_levels.items() if p != path)
        if level is not None:
            blocks.setdefault(others, {})[level] = cell.values
    return list(blocks.values())


def effects(frames: Frames, cells: Sequence[Cell], factors: Sequence[Factor]) -> pd.DataFrame:
    """A row an effect: a level against its reference, or a part left out against the full method.

    Differences are in the unit of the compared metric, paired by seed; Holm's correction counts all rows.
    """
    rows = []
    for factor in factors:
        for label in factor.levels:
            if label != factor.reference:
                values = factor.over([label, factor.reference])
                first, second = values[label], values[factor.reference]
                shared = sorted(set(first) & set(second), key=replicate_order)
                ours, theirs = [first[key] for key in shared], [second[key] for key in shared]
                difference = paired_difference(ours, theirs) if shared else None
                rows.append(
                    {
                        "factor": factor.name,
                        "level": label,
                        "reference": factor.reference,
                        **difference_columns(difference, ""),
                    }
                )
    full = cell_named(cells, "full") if frames.header.space.get("design") == "leave_one_out" else None
    for part in frames.header.space.get("without") or {}:
        cell = cell_named(cells, f"without {part}")
        if full is not None and cell is not None:
            rows.append(
                {
                    "factor": "left out",
                    "level": part,
                    "reference": "full",
                    **difference_columns(difference_of(cell, full), ""),
                }
            )
    return with_holm(pd.DataFrame(rows, columns=list(COLUMNS)))
