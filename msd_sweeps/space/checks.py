"""Every trial that a space can reach is built before anything starts, so that a mistake is found now."""

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msd_sweeps.space.choices import levels_of
from msd_sweeps.space.condition_checks import check_conditions
from msd_sweeps.space.designs import Cell, Sweep, changes_of
from msd_sweeps.space.errors import InputError, KeyPath, nearest
from msd_sweeps.space.metrics import COSTS, student_cost
from msd_sweeps.space.overrides import changed
from msd_sweeps.space.schema import Changes, Choices, Space
from msd_sweeps.space.strict_yaml import Document
from msd_sweeps.space.trial import Trial

_MOST_TRIALS = 20_000
_LONGEST_LABEL = 100
_WINNER = re.compile(r"winner [0-9]+")


@dataclass(frozen=True)
class Sources:
    """Where a sweep was written."""

    space: Document
    base: Document
    tree: dict[str, Any]
    """The space with what the command line sets in it."""
    set_in_base: Changes
    """What the command line sets in the base."""

    def wrote(self, section: str, key: str) -> bool:
        """Whether the space says this itself, rather than leaving it to the default."""
        return key in (self.tree.get(section) or {})

    def where_in_base(self, key: KeyPath) -> str:
        """The place of a base's value: its line, or the option that set it."""
        path = ".".join(map(str, key))
        if any(f"{path}.".startswith(f"{name}.") for name in self.set_in_base):
            return f"--set {path}: "
        return self.base.where(key)


def check_reachable(sweep: Sweep, sources: Sources) -> None:
    """Check a sweep whole. Raises InputError that names file, line and key."""
    check_conditions(sweep, sources.space.where)
    written = list(_written(sweep))
    _check_paths(sweep, sources, written)
    _check_labels(sweep, sources)
    _check_count(sweep, sources)
    check_weights(sweep.base, sources.where_in_base(("teacher", "weights")))
    full = changed(sweep.base, sweep.space.full, sources.space.where(("full",)))
    for key, changes in written:
        where = sources.space.where(key)
        start = full if key[0] == "without" else _beside(sweep, key)
        check_weights(changed(start, changes, where), where)
    _check_measured(sweep, sources)
    try:
        if sweep.space.design == "search":
            corners = [planned.trial for planned in sweep.search_corners()]  # building a trial checks it
            _check_costs(corners, sweep, sources)
            return
        cells = list(sweep.cells())
    except InputError as error:  # what no single change, only several together, does wrong
        raise InputError(f"{sources.space.where(('parameters',))}{error}") from error
    _check_cells(cells, sweep, sources)


def _beside(sweep: Sweep, key: KeyPath) -> Trial:
    """The base, changed so that the parameter that is checked counts."""
    values = sweep.conditions.example(str(key[1])) if key[0] == "parameters" else {}
    return changed(sweep.base, changes_of(sweep.space, values)) if values else sweep.base


def check_weights(trial: Trial, where: str) -> None:
    """Raises InputError, which begins with `where`, for a teacher whose file is not there."""
    weights = trial.teacher.weights
    if weights is not None and not Path(weights).is_file():
        raise InputError(
            f"{where}no such file: {weights}; give the path of a .safetensors, .pth or .pt file, or leave the key "
            "out to train the teacher"
        )


def _written(sweep: Sweep) -> Iterator[tuple[KeyPath, Changes]]:
    """Every set of changes that a space writes out, and where."""
    space = sweep.space
    for name, parameter in space.parameters.items():
        if not isinstance(parameter, Choices):
            for bound in ("low", "high"):
                yield ("parameters", name, bound), {name: getattr(parameter, bound)}
        elif isinstance(parameter.choices, dict):
            for label, changes in parameter.choices.items():
                yield ("parameters", name, "choices", label), changes
        else:
            for index, value in enumerate(parameter.choices):
                yield ("parameters", name, "choices", index), {name: value}
    yield ("full",), space.full
    for section in ("without", "also"):
        for label, changes in getattr(space, section).items():
            yield (section, label), changes
    if space.design == "search":
        for label, changes in space.confirm.baselines.items():
            yield ("confirm", "baselines", label), changes


def _check_paths(sweep: Sweep, sources: Sources, written: list[tuple[KeyPath, Changes]]) -> None:
    """Paths that something else decides, or that two parameters want."""
    decided = {"seed": "seeds stand in the space: seeds, or search.seed and confirm.seeds"}
    if sweep.space.design == "search":
        decided["data.val_fraction"] = "the share held out by a search is search.val_fraction"
    owners: dict[str, str] = {}
    for key, changes in written:
        for path in changes:
            if path in decided:
                raise InputError(f"{sources.space.where(key)}{path} is not varied here; {decided[path]}")
            if key[0] != "parameters":
                continue
            owner = str(key[1])
            rival = next(
                (
                    other
                    for other in owners
                    if _overlap(path, other) and owners[other] != owner and not _goes_with(sweep, owner, owners[other])
                ),
                None,
            )
            if rival is not None:
                raise InputError(
                    f"{sources.space.where(key)}the parameter '{owners[rival]}' sets {rival} already; let "
                    "one of the two set it"
                )
            owners[path] = owner
    for path, reason in decided.items():
        if path in sources.set_in_base:
            raise InputError(f"--set {path}: has no effect on this sweep; {reason}")
        section, _, name = path.rpartition(".")
        in_file = sources.base.data.get(section, {}) if section else sources.base.data
        if in_file.get(name):
            raise InputError(f"{sources.where_in_base(tuple(path.split('.')))}has no effect on this sweep; {reason}")
    for path in sources.set_in_base:
        if path in owners:
            raise InputError(
                f"--set {path}: the space varies it with the parameter '{owners[path]}', so it would have no effect; "
                f"--set parameters.{owners[path]}=... changes what is tried"
            )


def _goes_with(sweep: Sweep, one: str, other: str) -> bool:
    """Whether one of two parameters counts only where the other has a certain value: it is applied after it."""
    return any(
        (condition := sweep.conditions.of.get(name)) is not None and condition.subject == subject
        for name, subject in ((one, other), (other, one))
    )


def _overlap(one: str, other: str) -> bool:
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")


def _check_labels(sweep: Sweep, sources: Sources) -> None:
    """Labels name rows, runs and files: they can be printed, are not too long, and each names one cell."""
    space = sweep.space
    taken = {"full"} if space.design == "leave_one_out" else {"base"}
    taken |= {f"without {label}" for label in space.without}
    sections: list[KeyPath] = [("without",), ("also",), ("confirm", "baselines")]
    sections += [
        ("parameters", name, "choices")
        for name, parameter in space.parameters.items()
        if isinstance(parameter, Choices) and isinstance(parameter.choices, dict)
    ]
    for section in sections:
        for label in _at(space, section):
            where = sources.space.where((*section, label))
            if not label.strip() or not label.isprintable() or len(label) > _LONGEST_LABEL:
                raise InputError(
                    f"{where}a label is printable text of at most {_LONGEST_LABEL} characters, found {label[:30]!r}"
                )
            is_row = section[0] in ("also", "confirm")
            if is_row and (label in taken or _WINNER.fullmatch(label)):
                raise InputError(f"{where}the label '{label}' is taken by another row of the table; choose another")
    if sources.wrote("report", "baseline") and space.report.baseline is not None:
        _check_baseline(sweep, space.report.baseline, sources)


def _check_baseline(sweep: Sweep, baseline: str, sources: Sources) -> None:
    space = sweep.space
    if space.design == "search":
        known = [*space.confirm.baselines, *(f"winner {rank + 1}" for rank in range(space.confirm.top_k))]
    else:
        known = [cell.label for cell in sweep.cells()]
    if baseline.casefold() not in map(str.casefold, known):
        where = sources.space.where(("report", "baseline"))
        raise InputError(f"{where}no cell has the label '{baseline}'; {nearest(baseline, known)}")


def _at(space: Space, section: KeyPath) -> Iterable[str]:
    found: Any = space
    for part in section:
        found = found[part] if isinstance(found, dict) else getattr(found, str(part))
    return found


def _check_count(sweep: Sweep, sources: Sources) -> None:
    """Refuse a design that nobody can run before it is laid out."""
    space = sweep.space
    counts = [len(list(levels_of(parameter))) for parameter in space.parameters.values()]
    cells = math.prod(counts) if space.design == "grid" else 1 + sum(counts) + len(space.without)
    trials = (cells + len(space.also)) * len(space.seeds)
    if space.design == "search":
        trials = (space.confirm.top_k + len(space.confirm.baselines)) * len(space.confirm.seeds)
        trials += space.search.num_samples
    if trials > _MOST_TRIALS:
        raise InputError(
            f"{sources.space.where(('design',))}this makes {trials:,} trials, and a sweep has at most "
            f"{_MOST_TRIALS:,}; give fewer choices or seeds, or search"
        )


def _check_cells(cells: list[Cell], sweep: Sweep, sources: Sources) -> None:
    """Two rows of one configuration would be one trial under one of their labels."""
    first: dict[str, str] = {}
    for cell in cells:
        label = cell.label
        other = first.setdefault(cell.trial.cell, label)
        short = label.removeprefix("without ")
        for section in ("without", "also"):
            if other != label and short in getattr(sweep.space, section):
                raise InputError(
                    f"{sources.space.where((section, short))}this is the same configuration as '{other}': it changes "
                    "nothing there; remove it, or change the other"
                )


def _check_costs(trials: list[Trial], sweep: Sweep, sources: Sources) -> None:
    """A cost that all students share decides nothing."""
    for index, metric in enumerate(sweep.space.metrics):
        if metric.name in COSTS:
            parts = [trial.model_dump(mode="json", include={"student", "data"}) for trial in trials]
            if len({student_cost(metric.name, part) for part in parts}) < 2:
                raise InputError(
                    f"{sources.space.where(('metric', index, 'name'))}{metric.name} is the same for every trial of "
                    "this search; vary student.model, or leave this metric out"
                )


def _check_measured(sweep: Sweep, sources: Sources) -> None:
    """A validation score needs a held-out part; only a search makes one by itself."""
    held_out = sweep.base.data.val_fraction
    if sweep.space.design == "search":
        return
    for section, key, name in (
        ("metric", "name", sweep.space.metrics[0].name),
        ("report", "value", sweep.space.report.value),
    ):
        if name.startswith("val_") and sources.wrote(section, key) and not held_out:
            raise InputError(
                f"{sources.space.where((section, key))}{name} is measured only where data.val_fraction is above 0; "
                f"use test_{name.removeprefix('val_')}, or --set data.val_fraction=0.1"
            )
