"""Checks of a whole sweep before anything starts: every trial that a space can reach is built."""

import json
import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from msd_sweeps.space.choices import levels_of
from msd_sweeps.space.condition_checks import check_conditions
from msd_sweeps.space.designs import LEFT_OUT, PlannedTrial, Sweep, changes_of
from msd_sweeps.space.errors import InputError, KeyPath, nearest
from msd_sweeps.space.metrics import COSTS, student_cost
from msd_sweeps.space.overrides import changed, flatten, overlap
from msd_sweeps.space.schema import Changes, Choices
from msd_sweeps.space.trial import Trial
from msd_sweeps.space.validation import Where

_MOST_TRIALS = 20_000
_LONGEST_LABEL = 100
_WINNER = re.compile(r"winner [0-9]+")

Written = list[tuple[KeyPath, Changes]]
"""Every set of changes that a space writes out, by its key."""


class Sources(NamedTuple):
    """Where a sweep was written."""

    space: Where
    base: Where
    set_in_base: Changes
    """The settings of the base from the command line."""


def check_reachable(sweep: Sweep, sources: Sources) -> None:
    """Check a sweep whole. Raises InputError that names file, line and key."""
    check_conditions(sweep, sources.space)
    written = list(_written(sweep))
    _check_paths(sweep, sources, written)
    _check_labels(sweep, sources, written)
    _check_count(sweep, sources)
    check_weights(sweep.base, sources.base(("teacher", "weights")))
    full = changed(sweep.base, sweep.space.full, sources.space(("full",)))
    for key, changes in written:
        where = sources.space(key)
        start = full if key[0] == "without" else _beside(sweep, key)
        check_weights(changed(start, changes, where), where)
    _check_measured(sweep, sources)
    try:  # building a trial checks it
        planned = list(sweep.search_corners() if sweep.space.design == "search" else sweep.cells())
    except InputError as error:  # no change alone is wrong, only several together
        raise InputError(f"{sources.space(('parameters',))}{error}") from error
    if sweep.space.design == "search":
        _check_costs([corner.trial for corner in planned], sweep, sources)
    else:
        _check_cells(planned, sources)
    _check_baseline(sweep, planned, sources)


def _beside(sweep: Sweep, key: KeyPath) -> Trial:
    """The base, changed so that the parameter at a key counts."""
    values = sweep.conditions.example(str(key[1])) if key[0] == "parameters" else {}
    return changed(sweep.base, changes_of(sweep.space, values)) if values else sweep.base


def check_weights(trial: Trial, where: str) -> None:
    """Raises InputError, which begins with `where`, if the teacher's file does not exist."""
    weights = trial.teacher.weights
    if weights is not None and not Path(weights).is_file():
        raise InputError(
            f"{where}no such file: {weights}; give the path of a .safetensors, .pth or .pt file, or leave the key "
            "out to train the teacher"
        )


def _written(sweep: Sweep) -> Iterator[tuple[KeyPath, Changes]]:
    space = sweep.space
    for name, parameter in space.parameters.items():
        for index, level in enumerate(levels_of(parameter)):
            if isinstance(parameter, Choices):
                key: KeyPath = ("parameters", name, "choices", level if parameter.labels else index)
            else:
                key = ("parameters", name, ("low", "high")[index])
            yield key, changes_of(space, {name: level})
    yield ("full",), space.full
    for section in ("without", "also"):
        for label, changes in getattr(space, section).items():
            yield (section, label), changes
    if space.design == "search":
        for label, changes in space.confirm.baselines.items():
            yield ("confirm", "baselines", label), changes


def _check_paths(sweep: Sweep, sources: Sources, written: Written) -> None:
    """Refuse paths that something else decides, and paths that two parameters set."""
    decided = {"seed": "seeds stand in the space: seeds, or search.seed and confirm.seeds"}
    if sweep.space.design == "search":
        decided["data.val_fraction"] = "the share held out by a search is search.val_fraction"
    owners: dict[str, str] = {}
    for key, path in ((key, path) for key, changes in written for path in changes):
        if path in decided:
            raise InputError(f"{sources.space(key)}{path} is not varied here; {decided[path]}")
        if key[0] == "parameters":
            owner = str(key[1])
            for other, rival in owners.items():
                if overlap(path, other) and rival != owner and not _goes_with(sweep, owner, rival):
                    raise InputError(
                        f"{sources.space(key)}the parameter '{rival}' sets {other} already; let one of the two set it"
                    )
            owners[path] = owner
    in_base = flatten(sweep.base.model_dump(mode="json"))
    for path, reason in decided.items():
        if in_base[path] or path in sources.set_in_base:
            raise InputError(f"{sources.base(tuple(path.split('.')))}has no effect on this sweep; {reason}")
    for path in sources.set_in_base:
        if path in owners:
            raise InputError(
                f"--set {path}: the space varies it with the parameter '{owners[path]}', so it would have no effect; "
                f"--set parameters.{owners[path]}=... changes what is tried"
            )


def _goes_with(sweep: Sweep, one: str, other: str) -> bool:
    """Whether one of two parameters has a condition on the other: it is applied after it."""
    conditions = sweep.conditions.of
    return any(a in conditions and conditions[a].subject == b for a, b in ((one, other), (other, one)))


def _check_labels(sweep: Sweep, sources: Sources, written: Written) -> None:
    """Labels name rows, runs and files: they can be printed, are not too long, and each names one cell."""
    taken = {"full"} if sweep.space.design == "leave_one_out" else {"base"}
    taken |= {f"without {label}" for label in sweep.space.without}
    for key, _ in written:
        label, is_row = key[-1], key[0] in ("also", "confirm")
        if not isinstance(label, str) or not (is_row or key[0] == "without" or len(key) == 4):
            continue
        if not label.strip() or not label.isprintable() or len(label) > _LONGEST_LABEL:
            raise InputError(
                f"{sources.space(key)}a label is printable text of at most {_LONGEST_LABEL} characters, "
                f"found {label[:30]!r}"
            )
        if is_row and (label in taken or _WINNER.fullmatch(label)):
            raise InputError(
                f"{sources.space(key)}the label '{label}' is taken by another row of the table; choose another"
            )


def _check_baseline(sweep: Sweep, cells: Iterable[PlannedTrial], sources: Sources) -> None:
    """A baseline that the space names is one of the rows; of a row with several labels each is good."""
    space = sweep.space
    baseline = space.report.baseline
    if baseline is None or "baseline" not in space.report.model_fields_set:
        return
    if space.design == "search":
        known = [*space.confirm.baselines, *(f"winner {rank + 1}" for rank in range(space.confirm.top_k))]
    else:
        known = [cell.label for cell in (*cells, *sweep.fixed_trials)]
    if baseline.casefold() not in map(str.casefold, known):
        raise InputError(
            f"{sources.space(('report', 'baseline'))}no cell has the label '{baseline}'; {nearest(baseline, known)}"
        )


def _check_count(sweep: Sweep, sources: Sources) -> None:
    """Refuse a design with too many trials before it is laid out."""
    space = sweep.space
    counts = [len(levels_of(parameter)) for parameter in space.parameters.values()]
    cells = math.prod(counts) if space.design == "grid" else 1 + sum(counts) + len(space.without)
    trials = (cells + len(space.also)) * len(space.seeds)
    if space.design == "search":
        confirmed = (space.confirm.top_k + len(space.confirm.baselines)) * len(space.confirm.seeds)
        trials = space.search.num_samples + confirmed
    if trials > _MOST_TRIALS:
        raise InputError(
            f"{sources.space(('design',))}this makes {trials:,} trials, and a sweep has at most "
            f"{_MOST_TRIALS:,}; give fewer choices or seeds, or search"
        )


def _check_cells(cells: Iterable[PlannedTrial], sources: Sources) -> None:
    """A part that is left out, and a cell beside the design, must differ from every other cell."""
    first: dict[str, str] = {}
    for cell in cells:
        other = first.setdefault(cell.trial.cell, cell.label)
        left_out = cell.levels[0].get(LEFT_OUT) if cell.levels else None
        key: KeyPath = ("also", cell.label) if left_out is None else ("without", left_out)
        if other != cell.label and (left_out is not None or not cell.levels):
            raise InputError(
                f"{sources.space(key)}this is the same configuration as '{other}': it changes "
                "nothing there; remove it, or change the other"
            )


def _check_costs(trials: Iterable[Trial], sweep: Sweep, sources: Sources) -> None:
    """A cost that all students share decides nothing."""
    # Thousands of trials have few different students.
    parts = {trial.model_dump_json(include={"student", "data"}) for trial in trials}
    for index, metric in enumerate(sweep.space.metrics):
        if metric.name in COSTS and len({student_cost(metric.name, json.loads(part)) for part in parts}) < 2:
            raise InputError(
                f"{sources.space(('metric', index, 'name'))}{metric.name} is the same for every trial of "
                "this search; vary student.model, or leave this metric out"
            )


def _check_measured(sweep: Sweep, sources: Sources) -> None:
    """A validation score needs a held-out part; only a search holds one out by itself."""
    space = sweep.space
    if space.design == "search" or sweep.base.data.val_fraction:
        return
    metric = space.metrics[0]
    settings = (("metric", "name", metric.name, metric), ("report", "value", space.report.value, space.report))
    for section, key, name, settings_of in settings:
        if name.startswith("val_") and key in settings_of.model_fields_set:
            raise InputError(
                f"{sources.space((section, key))}{name} is measured only where data.val_fraction is above 0; "
                f"use test_{name.removeprefix('val_')}, or --set data.val_fraction=0.1"
            )
