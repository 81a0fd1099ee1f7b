"""Checks of a whole sweep before anything starts: every trial that a space can reach is built."""

import itertools
import math
import os
import re
from collections.abc import Iterable, Iterator

from msd_sweeps.space.conditions import ORDERS, Condition, is_number
from msd_sweeps.space.designs import LEFT_OUT, PlannedTrial, Sweep, changes_of
from msd_sweeps.space.errors import InputError, KeyPath, nearest
from msd_sweeps.space.levels import is_level, levels_of
from msd_sweeps.space.schema import Choices
from msd_sweeps.space.section_checks import Problems, bound_problems, screening_problems
from msd_sweeps.space.settings import Changes, Where, flatten, overlap, shown
from msd_sweeps.space.trial import COSTS, Trial, changed, student_cost

_MOST_TRIALS = 20_000
_LONGEST_LABEL = 100

Written = list[tuple[KeyPath, Changes]]
"""Every set of changes that a space writes out, by its key."""


def check_reachable(sweep: Sweep, where: Where, in_base: Where, set_in_base: Changes) -> None:
    """Check a sweep whole. Raises InputError that names file, line and key.

    where, in_base: places of the keys of space and base. set_in_base: the base's settings from the command line.
    """
    written = list(_written(sweep))
    _refuse(where, _condition_problems(sweep), bound_problems(sweep), _path_problems(sweep, written))
    _refuse(where, screening_problems(sweep))
    _check_base(sweep, in_base, set_in_base, written)
    _refuse(where, _label_problems(sweep, written), _count_problems(sweep), _first_problems(sweep))
    full = changed(sweep.base, sweep.space.full, where(("full",)))
    for key, changes in written:
        start = full if key[0] == "without" else sweep.base
        if key[0] == "parameters":  # beside values with which the parameter counts
            start = changed(sweep.base, changes_of(sweep.space, sweep.conditions.example(str(key[1]))))
        if key[0] == "bound":  # beside the first choices that it is bound to
            beside = {name: levels[0] for name, levels in sweep.space.bound[int(key[1])].when.items()}
            start = changed(sweep.base, changes_of(sweep.space, beside), where(key))
        check_weights(changed(start, changes, where(key)), where(key))
    _refuse(where, _unmeasured(sweep))
    try:  # building a trial checks it
        planned = list(sweep.search_corners() if sweep.space.design == "search" else sweep.cells())
    except InputError as error:  # no change alone is wrong, only several together
        raise InputError(f"{where(('parameters',))}{error}") from error
    if sweep.space.design == "search":
        try:
            planned += sweep.first_trials
        except InputError as error:
            raise InputError(f"{where(('search', 'first'))}{error}") from error
    same = _equal_costs(sweep, planned) if sweep.space.design == "search" else _equal_cells(planned)
    _refuse(where, same, _baseline_problems(sweep, planned))


def _refuse(where: Where, *checks: Problems) -> None:
    """Raises InputError for the first problem."""
    for key, problem in itertools.chain(*checks):
        raise InputError(where(key) + problem)


def check_weights(trial: Trial, where: str) -> None:
    """Raises InputError, which begins with `where`, if the teacher's file does not exist."""
    weights = trial.teacher.path
    if weights is not None and not (os.path.isfile(weights) and os.access(weights, os.R_OK)):
        hint = "give the path of a .safetensors, .pth or .pt file, or leave the key out to train the teacher"
        raise InputError(f"{where}no such file that can be read: {weights}; {hint}")


def _written(sweep: Sweep) -> Iterator[tuple[KeyPath, Changes]]:
    space = sweep.space
    for index, bound in enumerate(space.bound):
        yield ("bound", index, "set"), bound.set
    for name, parameter in space.parameters.items():
        for index, level in enumerate(levels_of(parameter)):
            place: KeyPath = ("low", "high")[index : index + 1]
            if isinstance(parameter, Choices):
                place = ("choices", level if parameter.labels else index)
            yield ("parameters", name, *place), changes_of(space, {name: level})
    yield ("full",), space.full
    labelled: dict[KeyPath, dict[str, Changes]] = {("without",): space.without, ("also",): space.also}
    if space.design == "search":
        labelled["confirm", "baselines"] = space.confirm.baselines
    for section, cells in labelled.items():
        for label, changes in cells.items():
            yield (*section, label), changes


def _condition_problems(sweep: Sweep) -> Problems:
    """What a condition names exists, and it can hold."""
    try:
        conditions = sweep.conditions
    except ValueError as error:
        name, problem = error.args
        yield ("parameters", name, "when"), problem
        return
    for name, condition in conditions.of.items():
        problem = _never_holds(sweep, condition)
        if not problem and sweep.space.design == "one_at_a_time" and not conditions.counts(name, {}):
            alone = "and a one_at_a_time design varies each parameter alone; change the base, or use a grid"
            problem = f"'{condition}' does not hold for the base, {alone}"
        if problem:
            yield ("parameters", name, "when"), problem


def _never_holds(sweep: Sweep, condition: Condition) -> str:
    """Why a condition cannot hold; empty where it can."""
    name, parameters = condition.subject, sweep.space.parameters
    if name in parameters:
        subject = parameters[name]
        levels = levels_of(subject)
        if isinstance(subject, Choices):
            found = f"one of {', '.join(map(str, levels[:10]))}"
        else:
            found = f"one of {subject.low:g} to {subject.high:g}"
            wanted = condition.value if condition.operator == "in" else [condition.value]
            levels += [value for value in wanted if is_number(value) and subject.low <= value <= subject.high]
    else:
        base = flatten(sweep.base.model_dump(mode="json"))
        for other, parameter in parameters.items():
            first = levels_of(parameter)[0]
            paths = {path for level in levels_of(parameter) for path in changes_of(sweep.space, {other: level})}
            if any(f"{name}.".startswith(f"{path}.") for path in paths):
                return f"'{name}' is set by the parameter '{other}'; compare that one, for example {other} == {first}"
        if any(path.startswith(f"{name}.") for path in base):
            return f"'{name}' is a whole section of the base; name a setting in it"
        if name not in base:
            return f"'{name}' is neither a parameter nor a setting of the base; {nearest(name, [*parameters, *base])}"
        levels, found = [base[name]], f"{shown(base[name])} in the base"
    if condition.operator in ORDERS and not all(map(is_number, levels)):
        return f"'{name}' is {found}, and has no order; use == or in"
    if name in sweep.conditions.of:  # where the subject does not count itself, the condition is on the base's value
        levels.append(sweep.conditions.base.get(name))
    if not any(map(condition.holds, levels)):
        return f"'{condition}' never holds: '{name}' is {found}; remove the parameter, or change the condition or base"
    return ""


def _decided(sweep: Sweep) -> dict[str, str]:
    """The paths that something else decides, and what that is."""
    fraction = {"data.val_fraction": "the share held out by a search is search.val_fraction"}
    seed = {"seed": "seeds stand in the space: seeds, or search.seed and confirm.seeds"}
    return seed | fraction if sweep.space.design == "search" else seed


def _path_problems(sweep: Sweep, written: Written) -> Problems:
    """Paths that something else decides, and paths that two parameters set."""
    decided = _decided(sweep)
    owners: dict[str, str] = {}
    for key, path in ((key, path) for key, changes in written for path in changes):
        if path in decided:
            yield key, f"{path} is not varied here; {decided[path]}"
        if key[0] != "parameters":
            continue
        owner = str(key[1])
        for other, rival in owners.items():
            # A parameter with a condition on the other is applied after it.
            pairs = ((owner, rival), (rival, owner))
            is_ordered = any(before in sweep.conditions.above(one) for one, before in pairs)
            if rival != owner and overlap(path, other) and not is_ordered:
                yield key, f"the parameter '{rival}' sets {other} already; let one of the two set it"
        owners[path] = owner


def _check_base(sweep: Sweep, where: Where, settings: Changes, written: Written) -> None:
    """The base sets nothing that the space decides, and its teacher's file exists. Raises InputError."""
    in_base = flatten(sweep.base.model_dump(mode="json"))
    for path, reason in _decided(sweep).items():
        if in_base[path] or path in settings:
            raise InputError(f"{where(tuple(path.split('.')))}has no effect on this sweep; {reason}")
    for key, changes in written:
        for path in settings:
            if key[0] == "parameters" and path in changes:
                varied = f"the space varies it with the parameter '{key[1]}', so it would have no effect"
                raise InputError(f"--set {path}: {varied}; --set parameters.{key[1]}=... changes what is tried")
    check_weights(sweep.base, where(("teacher", "weights")))


def _label_problems(sweep: Sweep, written: Written) -> Problems:
    """Labels name rows, runs and files: they can be printed, are not too long, and each names one cell."""
    taken = {"full" if sweep.space.design == "leave_one_out" else "base"}
    taken |= {f"without {label}" for label in sweep.space.without}
    for key, _ in written:
        label, is_row = key[-1], key[0] in ("also", "confirm")
        if not isinstance(label, str) or not (is_row or key[0] == "without" or len(key) == 4):
            continue
        if not label.strip() or not label.isprintable() or len(label) > _LONGEST_LABEL:
            yield key, f"a label is printable text of at most {_LONGEST_LABEL} characters, found {label[:30]!r}"
        if is_row and (label in taken or re.fullmatch(r"winner [0-9]+( of .*)?", label)):
            yield key, f"the label '{label}' is taken by another row of the table; choose another"


def _count_problems(sweep: Sweep) -> Problems:
    """A design with too many trials is refused before it is laid out."""
    space = sweep.space
    if space.design == "search":
        trials = sweep.samples + len(space.confirm.seeds) * len(space.confirm.baselines) + sweep.confirmed_count
    else:
        counts = [len(levels_of(parameter)) for parameter in space.parameters.values()]
        if space.design == "screening":
            counts = [len(sweep.layout.cells)]
        cells = math.prod(counts) if space.design in ("grid", "screening") else 1 + sum(counts) + len(space.without)
        trials = (cells + len(space.also)) * space.looks[-1]
    if trials > _MOST_TRIALS:
        problem = f"this makes {trials:,} trials, and a sweep has at most {_MOST_TRIALS:,}"
        yield ("design",), f"{problem}; give fewer choices or seeds, or search"


def _first_problems(sweep: Sweep) -> Problems:
    """The points that a search tries first are points of its space."""
    parameters, conditions = sweep.space.parameters, sweep.conditions
    for index, point in enumerate(sweep.space.search.first):
        for name, value in point.items():
            key: KeyPath = ("search", "first", index, name)
            if name not in parameters:
                yield key, f"'{name}' is not a parameter of this search; {nearest(name, parameters)}"
            elif not is_level(parameters[name], value):
                levels = levels_of(parameters[name])
                if isinstance(parameters[name], Choices):
                    expected = f"one of {', '.join(map(shown, levels[:10]))}"
                else:
                    expected = f"a value of the range from {levels[0]:g} to {levels[1]:g}, on its steps"
                yield key, f"expected {expected}, found {shown(value)}"
            elif name in conditions.of and not conditions.counts(name, point):
                yield key, f"has no effect beside the others, as '{conditions.of[name]}' does not hold; remove it"


def _unmeasured(sweep: Sweep) -> Problems:
    """A validation score needs a held-out part; only a search holds one out by itself."""
    space = sweep.space
    is_held_out = space.design == "search" or sweep.base.data.val_fraction
    for section, key, settings in (("metric", "name", space.metrics[0]), ("report", "value", space.report)):
        name = getattr(settings, key)
        if name.startswith("val_") and key in settings.model_fields_set and not is_held_out:
            test = name.replace("val_", "test_")
            problem = f"{name} is measured only where data.val_fraction is above 0"
            yield (section, key), f"{problem}; use {test}, or --set data.val_fraction=0.1"


def _equal_cells(cells: Iterable[PlannedTrial]) -> Problems:
    """A part that is left out, and a cell beside the design, must differ from every other cell."""
    first: dict[str, str] = {}
    for cell in cells:
        other = first.setdefault(cell.trial.cell, cell.label)
        left_out = cell.levels[0].get(LEFT_OUT) if cell.levels else None
        key: KeyPath = ("also", cell.label) if left_out is None else ("without", left_out)
        if other != cell.label and (left_out is not None or not cell.levels):
            problem = f"this is the same configuration as '{other}': it changes nothing there"
            yield key, f"{problem}; remove it, or change the other"


def _equal_costs(sweep: Sweep, planned: Iterable[PlannedTrial]) -> Problems:
    """A cost that all students share decides nothing."""
    students = [corner.trial.model_dump(include={"student", "data"}) for corner in planned]
    for index, metric in enumerate(sweep.space.metrics):
        if metric.name in COSTS and len({student_cost(metric.name, student) for student in students}) < 2:
            problem = f"{metric.name} is the same for every trial of this search"
            yield ("metric", index, "name"), f"{problem}; vary student.model, or leave this metric out"


def _baseline_problems(sweep: Sweep, cells: Iterable[PlannedTrial]) -> Problems:
    """A baseline that the space names is one of the rows; of a row with several labels each is good."""
    space = sweep.space
    baseline = space.report.baseline
    if baseline is None or "baseline" not in space.report.model_fields_set:
        return
    if space.design == "search":
        known = [*space.confirm.baselines, *sweep.winner_labels]
    else:
        known = [cell.label for cell in (*cells, *sweep.fixed_trials)]
    if baseline.casefold() not in map(str.casefold, known):
        yield ("report", "baseline"), f"no cell has the label '{baseline}'; {nearest(baseline, known)}"
