"""Cells with their replicates: the rows of every table, read from the frames of a ledger."""

import json
import math
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from msd_sweeps.report.frames import Frames
from msd_sweeps.report.stats import Interval, mean_interval
from msd_sweeps.space.designs import Values
from msd_sweeps.space.errors import InputError
from msd_sweeps.space.settings import flatten
from msd_sweeps.space.trial import Metric, Trial

_NOT_COMPARED = ("seed", "data.val_fraction", "data.root")
"""Paths that do not tell one cell of a table from another."""
PRIVATE = ("data.root", "teacher.weights")
"""Settings that name places on the machine that ran. The ledger keeps them, reports leave them out."""


@dataclass(frozen=True)
class Value:
    """What a sweep compares."""

    name: str
    higher_is_better: bool

    @property
    def title(self) -> str:
        """The name with its unit, for a column or an axis."""
        return metric_title(self.name)

    @property
    def unit(self) -> str:
        """The unit of a difference."""
        return "points" if "(%)" in self.title else "nats"

    @property
    def difference_title(self) -> str:
        """`difference in test top-1 (points)`."""
        return f"difference in {self.title.split(' (')[0]} ({self.unit})"

    @property
    def validation(self) -> str:
        """The same metric on the held-out part of the training set."""
        return "val_" + self.name.partition("_")[2]


@dataclass
class Cell:
    """A configuration with its replicates. Only finished trials give values."""

    label: str
    """What the plan named it. Two places of a design that give the same trial are one cell, "a = b"."""
    cell: str = ""
    """The hash of its configuration; empty for a teacher, and for a cell of which no trial has begun."""
    phase: str = ""
    trial: Trial | None = None
    """Its configuration, with the seed of one replicate; None where `cell` is empty."""
    summary: str = ""
    """What it changes in the base."""
    number: int = 0
    levels: list[Values] = field(default_factory=list)
    """The level of each factor, once for each place of the design that it fills; empty beside the design."""
    search_trial: str = ""
    """The search trial whose configuration is confirmed, by its id."""
    search_score: float = math.nan
    """What that trial reached in the metric of the search."""
    values: dict[int, float] = field(default_factory=dict)
    """The compared metric after the last epoch, by seed."""
    validation: dict[int, float] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    states: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    """Sweeps whose trials were taken over, and how many of them."""
    faults: list[str] = field(default_factory=list)
    """Why some replicates give no value, one text each."""
    planned: int | None = None
    """Replicates that the space asks for; None where that is not known."""

    @property
    def interval(self) -> Interval:
        """Mean and 95 % interval over the replicates."""
        return mean_interval([self.values[seed] for seed in sorted(self.values)])

    @property
    def names(self) -> list[str]:
        """Its label, and each of the names that the label joins."""
        return [self.label, *self.label.split(" = ")]


def value_of(frames: Frames) -> Value:
    """What the space says its report compares."""
    space = frames.sweep.space
    compared = Metric(name=space.report.value)
    compared = next((metric for metric in space.metrics if metric.name == compared.name), compared)
    return Value(compared.name, compared.mode == "max")


def cells_of(frames: Frames, value: Value) -> list[Cell]:
    """The cells that a table shows (all but the search's own trials), in the order of the space.

    A cell that the space asks for and no trial has begun stands there too, with nothing in it.
    """
    space, base = frames.sweep.space, flatten(frames.sweep.base.model_dump(mode="json"))
    trials, metric = frames.trials, frames.metric.name
    scores = dict(zip(trials["trial"], trials[metric], strict=True)) if metric in trials.columns else {}
    names = ["trial", "state", "reason", "seconds"]
    names += [name for name in (value.name, value.validation) if name in trials.columns]
    found: dict[tuple[str, int | None], Cell] = {}
    for row in trials.loc[trials["phase"] != "search", names].to_dict("records"):
        record = frames.records[row["trial"]]
        # The hash leaves out the data seed, and cells may differ in nothing else.
        key = (record.cell, record.config["data_seed"])
        if key not in found:
            varied = space.parameters if record.search_trial else ()
            found[key] = Cell(
                record.label,
                record.cell,
                record.phase,
                record.configuration,
                changes_text(flatten(record.config), base, varied),
                record.number,
                record.levels,
                record.search_trial,
                float(scores.get(record.search_trial, math.nan)),
            )
        cell = found[key]
        cell.number = min(cell.number, record.number)
        cell.sources.update([record.source] * bool(record.source))
        _take(cell, record.seed, row, value)
    return _completed(list(found.values()), planned_cells(frames))


def _take(cell: Cell, seed: int, row: Mapping[Any, Any], value: Value) -> None:
    """Count one trial in its cell."""
    state = "unfinished" if row["state"] in ("running", "interrupted") else row["state"]
    score, validation = (float(row.get(name, math.nan)) for name in (value.name, value.validation))
    cell.states[state] += 1
    if state == "finished" and math.isfinite(score):
        cell.values[seed] = score
        cell.seconds.append(float(row["seconds"]))
        if math.isfinite(validation):
            cell.validation[seed] = validation
    else:
        why = row["reason"] or (f"no {value.name} was recorded" if state == "finished" else "")
        cell.faults.append(f"seed {seed} {state}" + f": {why}" * bool(why))


def planned_cells(frames: Frames) -> list[Cell]:
    """The cells that the space asks for, in its order, without values. Empty where the plan cannot be made again."""
    sweep = frames.sweep
    try:
        fixed = sweep.fixed_trials
    except InputError:  # files that the space names are not on this machine
        return []
    cells: dict[str, Cell] = {}
    for item in fixed:
        cell = cells.setdefault(item.label, Cell(item.label, levels=list(item.levels), planned=0))
        cell.planned = (cell.planned or 0) + 1
    if sweep.space.design == "search":
        confirm = sweep.space.confirm
        for rank in range(1, confirm.top_k + 1):
            cells[f"winner {rank}"] = Cell(f"winner {rank}", planned=len(confirm.seeds))
    return list(cells.values())


def _completed(cells: list[Cell], planned: list[Cell]) -> list[Cell]:
    """In the order of the plan, with the cells that never began, and no two cells under one label."""
    labels = Counter(cell.label for cell in cells)
    place = {cell.label: index for index, cell in enumerate(planned)}
    begun = {name for cell in cells for name in cell.names}
    absent = [cell for cell in planned if cell.label not in begun]
    for cell in absent:
        cell.faults.append("not run")
    for cell in cells:
        cell.planned = next((planned[place[name]].planned for name in cell.names if name in place), None)
        if labels[cell.label] > 1:
            cell.label = f"{cell.label} ({cell.cell[:6]})"

    def order(cell: Cell) -> tuple[int, int, str]:
        return min(place.get(name, len(place)) for name in cell.names), cell.number, cell.cell

    return sorted([*cells, *absent], key=order)


def teacher_cells(frames: Frames, value: Value) -> list[Cell]:
    """A row for each teacher: one frozen network, measured once on the whole test set."""
    if value.name != "test_top1":
        return []
    teachers = {teacher.key: teacher for teacher in frames.header.teachers}
    return [
        Cell(f"teacher {t.model}", phase="teacher", summary=f"{t.source}, frozen", values={0: t.test_top1})
        for t in teachers.values()
    ]


def changes_text(config: Mapping[str, Any], base: Mapping[str, Any], always: Collection[str] = ()) -> str:
    """What a configuration changes in the base, both flat: `scales=[1, 2], sample_temperature=0.05`.

    The paths of `always` stand there even where they are as in the base.
    """
    parts = []
    for path in sorted(config, key=lambda path: (path != "method.name", path)):
        same = path not in always and path in base and base[path] == config[path]
        if path not in _NOT_COMPARED and not same:
            name = "method" if path == "method.name" else short_path(path)
            parts.append(f"{name}={value_text(config[path])}")
    return ", ".join(parts) or "as the base"


def metric_title(name: str) -> str:
    """A metric with its unit: `test top-1 (%)`, `train loss (nats)`."""
    part, _, what = name.partition("_")
    part = {"val": "validation"}.get(part, part)
    if name == "student_multiply_adds":
        return "student multiply-adds an image (millions)"
    if what.startswith("top"):
        return f"{part} top-{what[3:]} (%)"
    return f"{part} {what.replace('_', ' ')} (nats)" if "loss" in what else name.replace("_", " ")


def short_path(path: str) -> str:
    """The last part of a dotted path, with its section where several sections have one of that name."""
    head, _, tail = path.rpartition(".")
    return tail if head in ("method", "recipe", "data") else f"{head}.{tail}" if head else tail


def parameter_title(name: str) -> str:
    """A numeric parameter with its unit, for an axis: `sample temperature (no unit)`."""
    unit = {"epochs": "epochs", "batch_size": "images", "train_samples": "images"}
    last = name.rpartition(".")[2]
    return f"{name.replace('_', ' ')} ({unit.get(last, 'no unit')})"


def value_text(value: Any) -> str:
    """A setting as a reader wants it: four digits, no quotes around words."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
