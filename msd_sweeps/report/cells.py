"""Cells with their replicates: the rows of every table, read from the frames of a ledger."""

import json
import math
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from msd_sweeps.records.ledger import Record
from msd_sweeps.report.frames import Frames, flatten
from msd_sweeps.report.stats import Interval, mean_interval
from msd_sweeps.space.designs import Sweep
from msd_sweeps.space.errors import InputError
from msd_sweeps.space.schema import Space
from msd_sweeps.space.trial import Trial

Replicate = tuple[int, int | None]
"""Seed and data seed: what pairs the trials of two cells."""

NOT_COMPARED = ("seed", "data_seed", "data.val_fraction", "data.root")
"""Paths that do not tell one cell of a table from another."""

PRIVATE = ("data.root", "teacher.weights")
"""Settings that name places on the machine that ran; the ledger keeps them, reports leave them out."""


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


def metric_title(name: str) -> str:
    """A metric with its unit: `test top-1 (%)`, `train loss (nats)`."""
    part, _, what = name.partition("_")
    part = {"val": "validation"}.get(part, part)
    if name == "student_multiply_adds":
        return "student multiply-adds an image (millions)"
    if what.startswith("top"):
        return f"{part} top-{what[3:]} (%)"
    return f"{part} {what.replace('_', ' ')} (nats)" if "loss" in what else name.replace("_", " ")


@dataclass
class Cell:
    """A configuration with its replicates; only finished trials give values."""

    label: str
    cell: str
    phase: str
    config: Record
    number: int
    summary: str
    values: dict[Replicate, float] = field(default_factory=dict)
    """The compared metric after the last epoch."""
    validation: dict[Replicate, float] = field(default_factory=dict)
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
        return mean_interval([self.values[key] for key in sorted(self.values, key=replicate_order)])


def replicate_order(replicate: Replicate) -> tuple[int, int]:
    return replicate[0], -1 if replicate[1] is None else replicate[1]


def value_of(frames: Frames) -> Value:
    """What the space says its report compares; test top-1 where it says nothing."""
    header = frames.header
    name = str((header.space.get("report") or {}).get("value") or "test_top1")
    for metric in header.metrics:
        if metric.get("name") == name:
            return Value(name, metric.get("mode") != "min")
    return Value(name, "loss" not in name)


def sweep_of(frames: Frames) -> Sweep | None:
    """The sweep that the ledger's header describes, or None where today's schemas do not read it."""
    header = frames.header
    try:
        space = Space.model_validate_json(json.dumps(header.space))
        return Sweep(header.name, space, Trial.model_validate_json(json.dumps(header.base)))
    except (ValidationError, InputError):
        return None


def planned_of(frames: Frames) -> dict[str, list[int]]:
    """The cells that the space asks for, in its order: label to seeds. Empty where that cannot be told."""
    sweep = sweep_of(frames)
    planned: dict[str, list[int]] = {}
    if sweep is not None:
        try:
            for item in sweep.fixed_trials:
                planned.setdefault(item.label, []).append(item.trial.seed)
        except InputError:
            return {}
        if sweep.space.design == "search":
            for rank in range(1, sweep.space.confirm.top_k + 1):
                planned[f"winner {rank}"] = list(sweep.space.confirm.seeds)
    return planned


def cells_of(frames: Frames, value: Value) -> list[Cell]:
    """The cells that a table shows (all but the search's own trials), in the order of the space.

    A cell that the space asks for and no trial has begun stands there too, with nothing in it.
    """
    base = flatten(frames.header.base)
    names = ["trial", "label", "phase", "cell", "number", "seed", "state", "reason", "source", "seconds"]
    names += [name for name in (value.name, value.validation) if name in frames.trials.columns]
    varied, method = frames.header.space.get("parameters") or {}, base.get("method.name")
    found: dict[str, Cell] = {}
    for row in frames.trials.loc[frames.trials["phase"] != "search", names].to_dict("records"):
        config = frames.configs[row["trial"]]
        if row["cell"] not in found:
            of_winner = varied if row["phase"] == "confirm" and config.get("method.name") == method else ()
            summary = changes_text(config, base, of_winner)
            name, number = row["cell"], row["number"]
            found[name] = Cell(row["label"], name, row["phase"], config, number, summary)
        _take(found[row["cell"]], row, (row["seed"], config.get("data_seed")), value)
    return _completed(list(found.values()), planned_of(frames))


def _take(cell: Cell, row: dict[str, Any], replicate: Replicate, value: Value) -> None:
    """Count one trial in its cell."""
    state = "unfinished" if row["state"] in ("running", "interrupted") else row["state"]
    score = float(row.get(value.name, math.nan))
    cell.number = min(cell.number, row["number"])
    cell.states[state] += 1
    if row["source"]:
        cell.sources[row["source"]] += 1
    if state == "finished" and math.isfinite(score):
        cell.values[replicate] = score
        cell.seconds.append(float(row["seconds"]))
        validation = float(row.get(value.validation, math.nan))
        if math.isfinite(validation):
            cell.validation[replicate] = validation
    else:
        why = row["reason"] or (f"no {value.name} was recorded" if state == "finished" else "")
        cell.faults.append(f"seed {row['seed']} {state}" + f": {why}" * bool(why))


def teacher_cells(frames: Frames, value: Value) -> list[Cell]:
    """A row for each teacher: one frozen network, measured once on the whole test set."""
    cells = {}
    for teacher in frames.header.teachers:
        score = teacher.get(value.name)
        if isinstance(score, int | float):
            summary = f"{teacher.get('source', 'given')}, frozen"
            cell = Cell(f"teacher {teacher.get('model', '')}", "", "teacher", {}, 0, summary)
            cell.values[0, None] = float(score)
            cells[teacher.get("key")] = cell
    return list(cells.values())


def _completed(cells: list[Cell], planned: dict[str, list[int]]) -> list[Cell]:
    """In the order of the plan, with the cells that never began, and no two cells under one label."""
    labels = Counter(cell.label for cell in cells)
    for cell in cells:
        if cell.label in planned:
            cell.planned = len(planned[cell.label])
        if labels[cell.label] > 1:
            cell.label = f"{cell.label} ({cell.cell[:6]})"
    place = {label: index for index, label in enumerate(planned)}
    for label, seeds in planned.items():
        if label not in labels:
            absent = Cell(label, "", "", {}, 0, "", planned=len(seeds), faults=["not run"])
            cells.append(absent)
    return sorted(cells, key=lambda cell: (place.get(cell.label, len(place)), cell.number, cell.cell))


def changes_text(config: Record, base: Record, always: Collection[str] = ()) -> str:
    """What a configuration changes in the base, both flat: `scales=[1, 2], sample_temperature=0.05`.

    The paths of `always` are told even where they are as in the base.
    """
    told = {path: value for path, value in config.items() if path not in NOT_COMPARED}
    changes = {path: value for path, value in told.items() if path in always or path not in base or base[path] != value}
    parts = []
    for path, value in sorted(changes.items(), key=lambda item: (item[0] != "method.name", item[0])):
        name = "method" if path == "method.name" else short_path(path)
        parts.append(f"{name}={value_text(value)}")
    return ", ".join(parts) or "as the base"


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
