"""Cells with their replicates: the rows of every table, from the frames of a ledger; and how far a sweep is by them."""

import json
import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from msd_sweeps.records.ledger import Record
from msd_sweeps.records.trial_record import FINAL_STATES
from msd_sweeps.report.frames import Frames
from msd_sweeps.report.stats import Interval, mean_interval
from msd_sweeps.space.designs import Sweep, Values
from msd_sweeps.space.errors import InputError
from msd_sweeps.space.schema import Space
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
    sign: int
    """1 where more is better, else -1."""
    title: str
    """The name with its unit, for a column or an axis."""
    unit: str
    """The unit of a difference."""
    difference_title: str
    """`difference in test top-1 (points)`."""
    validation: str
    """The same metric on the held-out part of the training set."""

    @classmethod
    def of(cls, space: Space) -> "Value":
        """What a space says its report compares."""
        known = {metric.name: metric for metric in space.metrics}
        compared = known.get(space.report.value) or Metric(name=space.report.value)
        title, validation = metric_title(compared.name), "val_" + compared.name.partition("_")[2]
        unit = "points" if "(%)" in title else "nats"
        difference = f"difference in {title.split(' (')[0]} ({unit})"
        return cls(compared.name, 1 if compared.mode == "max" else -1, title, unit, difference, validation)


@dataclass(eq=False)
class Cell:
    """A configuration with its replicates. Only finished trials give values."""

    label: str
    """What the plan named it. Two places of a design that give the same trial are one cell, "a = b"."""
    cell: str = ""
    """The hash of its configuration; empty for a teacher, and for a cell of which no trial has begun."""
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
    """What each of these trials costs alone."""
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


def cells_of(frames: Frames, value: Value) -> list[Cell]:
    """The cells that a table shows (all but the search's own trials), in the order of the space.

    A cell that the space asks for and no trial has begun stands there too, with nothing in it.
    """
    base = frames.sweep.base.model_dump(mode="json")
    trials, metric = frames.trials, frames.metric.name
    scores = dict(zip(trials["trial"], trials[metric], strict=True)) if metric in trials.columns else {}
    columns = ["trial", "state", "reason", "alone_seconds", value.name, value.validation]
    found: dict[tuple[str, int | None], Cell] = {}
    for row in trials[trials["phase"] != "search"].reindex(columns=columns).to_dict("records"):
        record = frames.records[row["trial"]]
        # The hash leaves out the data seed, and cells may differ in nothing else.
        key = (record.cell, record.config["data_seed"])
        if key not in found:
            summary = summary_of(record.config, base, record.values if record.search_trial else ())
            cell = Cell(record.label, record.cell, record.configuration, summary, record.number, record.levels)
            cell.search_trial, cell.search_score = record.search_trial, scores.get(record.search_trial, math.nan)
            found[key] = cell
        cell = found[key]
        cell.number = min(cell.number, record.number)
        cell.sources.update([record.source] * bool(record.source))
        _take(cell, record.seed, row, value)
    return _completed(list(found.values()), _planned(frames.sweep))


def _take(cell: Cell, seed: int, row: Mapping[Any, Any], value: Value) -> None:
    """Count one trial in its cell."""
    state = "unfinished" if row["state"] in ("running", "interrupted") else row["state"]
    cell.states[state] += 1
    if state == "finished" and math.isfinite(row[value.name]):
        cell.values[seed] = row[value.name]
        cell.seconds.append(row["alone_seconds"])
        if math.isfinite(row[value.validation]):
            cell.validation[seed] = row[value.validation]
    else:
        why = row["reason"] or f"no {value.name} was recorded" * (state == "finished")
        cell.faults.append(f"seed {seed} {state}" + f": {why}" * bool(why))


def _planned(sweep: Sweep) -> dict[str, Cell]:
    """The cells that the space asks for, in its order, without values. Empty where the plan cannot be made again."""
    cells: dict[str, Cell] = {}
    try:
        for item in sweep.fixed_trials:
            cell = cells.setdefault(item.label, Cell(item.label, levels=list(item.levels), planned=0))
            cell.planned = (cell.planned or 0) + 1
    except InputError:  # files that the space names are not on this machine
        return {}
    return cells | {label: Cell(label, planned=len(sweep.space.confirm.seeds)) for label in sweep.winner_labels}


def _completed(cells: list[Cell], planned: Mapping[str, Cell]) -> list[Cell]:
    """In the order of the plan, with the cells that never began, and no two cells under one label."""
    labels = Counter(cell.label for cell in cells)
    place = {label: index for index, label in enumerate(planned)}
    begun = {name for cell in cells for name in cell.names}
    absent = [cell for label, cell in planned.items() if label not in begun]
    for cell in absent:
        cell.faults.append("not run")
    for cell in cells:
        cell.planned = next((planned[name].planned for name in cell.names if name in planned), None)
        if labels[cell.label] > 1:
            cell.label = f"{cell.label} ({cell.cell[:6]})"

    def order(cell: Cell) -> tuple[int, int, str]:
        return min(place.get(name, len(place)) for name in cell.names), cell.number, cell.cell

    return sorted([*cells, *absent], key=order)


class Progress(NamedTuple):
    """How many trials have ended, of how many that the space asks for."""

    ended: int
    planned: int

    @property
    def is_whole(self) -> bool:
        return self.ended >= self.planned

    def __str__(self) -> str:
        return f"{self.ended} of {self.planned} trials {'has' if self.planned == 1 else 'have'} ended"


def progress_of(frames: Frames, cells: Iterable[Cell]) -> Progress:
    """The progress of a sweep. cells: those of its table, which know how many trials each is to have.

    A search that has not chosen winners may take as many trials as its space asks for.
    """
    trials, space = frames.trials, frames.sweep.space
    ended = int(trials["state"].isin(FINAL_STATES).sum())
    waiting = len(trials) - ended + sum(max(0, (cell.planned or 0) - cell.states.total()) for cell in cells)
    closed = not frames.header.is_open and frames.header.closes[-1].outcome == "complete"
    if space.design == "search" and not closed and not any(one.search_trial for one in frames.records.values()):
        waiting += max(0, frames.sweep.samples - int((trials["phase"] == "search").sum()))
    return Progress(ended, ended + waiting)


def teacher_cells(frames: Frames, value: Value) -> list[Cell]:
    """A row for each teacher: one frozen network, measured once on the whole test set."""
    teachers = {teacher.key: teacher for teacher in frames.header.teachers if value.name == "test_top1"}.values()
    return [
        Cell(f"teacher {one.model}", summary=f"{one.source}, frozen", values={0: one.test_top1}) for one in teachers
    ]


def summary_of(config: Record, base: Record, always: Collection[str] = ()) -> str:
    """What a configuration changes in the base: `scales=[1, 2], sample_temperature=0.05`.

    The paths of `always` stand there even where they are as in the base.
    """
    settings, known = flatten(config), flatten(base)
    changes = {
        "method" if path == "method.name" else path: settings[path]
        for path in sorted(settings, key=lambda path: (path != "method.name", path))
        if path not in _NOT_COMPARED and (path in always or path not in known or known[path] != settings[path])
    }
    return changes_text(changes) or "as the base"


def changes_text(changes: Mapping[str, Any]) -> str:
    """Settings by their paths: `scales=[1, 2], sample_weight=0.5`."""
    return ", ".join(f"{short_path(path)}={value_text(value)}" for path, value in changes.items())


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
