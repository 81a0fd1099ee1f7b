"""Tables beside the result table: methods over several pairs, another sweep, published figures."""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from msd_sweeps.report.cells import Cell, changes_text
from msd_sweeps.report.comparisons import difference_columns, difference_of, with_holm
from msd_sweeps.report.escaping import short
from msd_sweeps.report.results import Results
from msd_sweeps.report.stats import Interval, aggregate
from msd_sweeps.report.table_formats import Column, Table
from msd_sweeps.report.tables import difference_cell, mean_text, p_text
from msd_sweeps.space.settings import Settings, flatten
from msd_sweeps.space.trial import Trial

_METHODS = {"none": "student_scratch", "kd": "KD", "msd": "MSDCRD"}
"""Our names of methods where the literature has others."""
_NETWORKS = {
    "shufflenetv1": "shufflev1",
    "shufflenetv2": "shufflev2",
    "imagenet_resnet18": "resnet18",
    "imagenet_resnet34": "resnet34",
    "imagenet_resnet50": "resnet50",
    "imagenet_mobilenet_v1": "mobilenetv1",
    "imagenet_mobilenet_v2": "mobilenetv2",
}
_PUBLISHED = ["label", "method", "published", "published_std", "epoch_rule", "source"]
_PUBLISHED += ["mean", "low", "high", "n", "epochs", "difference"]
_COMPARED = ["label", "other_label", "cell", "n", "mean", "low", "high"]
_COMPARED += ["other_n", "other_mean", "other_low", "other_high", "equal_runs"]
_OVER_TASKS = ["method", "tasks", "n", "score", "score_low", "score_high", "rank", "rank_low", "rank_high"]


def over_tasks(results: Results) -> pd.DataFrame:
    """A row a method that ran on every task: mean score and mean rank with stratified bootstrap intervals.

    A task is a data set and a pair of networks. Columns: method, tasks, n (the fewest seeds of a task), score and rank
    with `_low` and `_high`. Empty where the sweep has one task, or fewer than two methods that ran on all of them.
    """
    base = _method_settings(results.frames.sweep.base)
    tasks: dict[tuple[str, ...], None] = {}
    runs: dict[tuple[Settings, Settings], dict[tuple[str, ...], list[float]]] = {}
    names: dict[tuple[Settings, Settings], str] = {}
    for cell in results.cells:
        if cell.trial is not None and cell.values:
            task, key = _task(cell.trial), (cell.trial.method, cell.trial.recipe)
            tasks[task] = None
            names[key] = changes_text(_method_settings(cell.trial), base)
            of_task = runs.setdefault(key, {}).setdefault(task, [])
            of_task.extend(cell.values[seed] for seed in sorted(cell.values))
    whole = {names[key]: [of[task] for task in tasks] for key, of in runs.items() if len(of) == len(tasks)}
    if len(tasks) < 2 or len(whole) < 2:
        return pd.DataFrame(columns=_OVER_TASKS)
    found = aggregate(whole, results.value.higher_is_better)
    rows = [(name, len(tasks), a.score.n, *a.score[:3], *a.rank[:3]) for name, a in found.items()]
    return pd.DataFrame(rows, columns=_OVER_TASKS).sort_values(["rank", "method"], kind="stable", ignore_index=True)


def _task(trial: Trial) -> tuple[str, ...]:
    return trial.data.name, trial.teacher.model, trial.student.model


def _method_settings(trial: Trial) -> dict[str, Any]:
    """What does not belong to the task: method and recipe, flat."""
    return flatten(trial.model_dump(mode="json", include={"method", "recipe"}))


def aggregate_table(frame: pd.DataFrame) -> Table:
    """The table of `over_tasks`."""

    def interval(name: str, row: Mapping[Any, Any]) -> str:
        low, high = row[f"{name}_low"], row[f"{name}_high"]
        return f"{row[name]:.2f}" + ("" if math.isnan(low) else f" [{low:.2f}, {high:.2f}]")

    columns: list[Column] = [
        ("method", False, lambda row: short(row["method"], 90)),
        ("pairs", True, lambda row: str(row["tasks"])),
        ("n each", True, lambda row: str(row["n"])),
        ("mean rank", True, lambda row: interval("rank", row)),
        ("mean score", True, lambda row: interval("score", row)),
    ]
    note = (
        "Means over the pairs of networks and data sets, rank 1 is best; 95 % stratified bootstrap intervals over "
        "seeds within each pair. They say nothing about other pairs. One seed gives no interval."
    )
    return Table.of(frame.to_dict("records"), columns, [note])


def compare_sweeps(ours: Results, theirs: Results) -> pd.DataFrame:
    """A row a cell that both sweeps have: both means and their difference, paired where seeds are shared.

    Cells are the same where their configurations are, seeds apart. Differences are `ours - theirs`.
    """
    other = {_identity(cell): cell for cell in theirs.cells if cell.cell}
    rows = []
    for cell in ours.cells:
        twin = other.get(_identity(cell))
        if twin is not None:
            mean, low, high, n = cell.interval
            other_mean, other_low, other_high, other_n = twin.interval
            equal = sum(cell.values[seed] == twin.values[seed] for seed in set(cell.values) & set(twin.values))
            numbers = (n, mean, low, high, other_n, other_mean, other_low, other_high, equal)
            told = (cell.label, twin.label, cell.cell, *numbers)
            difference = difference_columns(difference_of(cell.values, twin.values))
            rows.append(dict(zip(_COMPARED, told, strict=True)) | difference)
    return with_holm(pd.DataFrame(rows, columns=[*_COMPARED, *difference_columns(None)]))


def _identity(cell: Cell) -> tuple[str, int | None]:
    return cell.cell, cell.trial.data_seed if cell.trial else None


def comparison_table(frame: pd.DataFrame, ours: Results, theirs: Results) -> Table:
    """The table of `compare_sweeps`."""
    names = [short(results.frames.sweep.name, 30) for results in (ours, theirs)]
    columns: list[Column] = [
        ("", False, lambda row: short(" / ".join(dict.fromkeys([row["label"], row["other_label"]])))),
        (names[0], True, lambda row: mean_text(row["mean"], row["low"], row["high"], row["n"])),
        ("n", True, lambda row: str(row["n"])),
        (names[1], True, lambda row: mean_text(*(row[f"other_{name}"] for name in ("mean", "low", "high", "n")))),
        ("n", True, lambda row: str(row["other_n"])),
        (f"difference ({ours.value.unit})", True, difference_cell),
        ("p (Holm)", True, p_text),
    ]
    mine, its = (sum(bool(cell.cell) for cell in results.cells) - len(frame) for results in (ours, theirs))
    title = ours.value.title[:1].upper() + ours.value.title[1:]
    notes = [
        f"{title}, last epoch. Only cells that both sweeps have; {mine} of {names[0]} and {its} of "
        f"{names[1]} have no counterpart. Paired where two seeds or more are shared, else Welch's interval."
    ]
    if same := int(frame["equal_runs"].sum()):
        pairs = "1 pair of runs" if same == 1 else f"{same} pairs of runs"
        notes.append(f"{pairs} with one seed gave exactly the same result in both.")
    return Table.of(frame.to_dict("records"), columns, notes)


def read_published(path: Path) -> list[dict[str, str]]:
    """The published figures: a dictionary a row, keys as in the file's header. Raises OSError."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def beside_published(results: Results, published: Sequence[Mapping[str, str]]) -> pd.DataFrame:
    """A row a published figure of the same data set, pair and method as one of our cells, ours beside it.

    The teacher alone counts as a method. Columns: label, method, published, published_std, epoch_rule, source,
    mean, low, high, n, epochs, difference (ours - published, no interval: the published runs are not at hand).
    """
    base = results.frames.sweep.base
    rows = []
    for cell in results.cells:
        if cell.trial is not None and cell.values:
            key = (*_task(cell.trial), _published_name(cell.trial))
            rows += _published_rows(published, key, cell.label, cell.interval, cell.trial.recipe.epochs)
    for teacher in results.frames.header.teachers:
        measured = Interval(teacher.test_top1, math.nan, math.nan, 1)
        key = (base.data.name, teacher.model, base.student.model, "teacher_alone")
        rows += _published_rows(published, key, f"teacher {teacher.model}", measured, None)
    return pd.DataFrame(rows, columns=_PUBLISHED)


def _published_name(trial: Trial) -> str:
    """The literature's name of a trial's method; one that also distils the logits is another method."""
    name = trial.method.name
    adds_kd = name not in ("kd", "sdd") and getattr(trial.method, "kd_weight", 0) > 0
    return _METHODS.get(name, name) + "+kd" * adds_kd


def _published_rows(
    published: Sequence[Mapping[str, str]], key: tuple[str, ...], label: str, measured: Interval, epochs: int | None
) -> list[tuple[object, ...]]:
    """The rows of one cell. key: data set, teacher, student and method."""
    ours = [_NETWORKS.get(name.casefold(), name.casefold()) for name in key]
    rows: list[tuple[object, ...]] = []
    for entry in published:
        if ours == [entry[name].casefold() for name in ("dataset", "teacher", "student", "method")]:
            figure, spread = float(entry["top1"]), float(entry.get("std") or math.nan)
            theirs = (entry["method"], figure, spread, entry["epoch_rule"], entry["source"])
            rows.append((label, *theirs, *measured, epochs, measured.mean - figure))
    return rows


def published_table(frame: pd.DataFrame) -> Table:
    """The table of `beside_published`."""

    def theirs(row: Mapping[Any, Any]) -> str:
        spread = "" if math.isnan(row["published_std"]) else f" (std {row['published_std']:.2f})"
        return f"{row['published']:.2f}{spread}"

    columns: list[Column] = [
        ("ours", False, lambda row: short(row["label"])),
        ("theirs", False, lambda row: short(row["method"].replace("_", " "))),
        ("published top-1 (%)", True, theirs),
        ("epoch", False, lambda row: row["epoch_rule"]),
        ("source", False, lambda row: short(row["source"], 60)),
        ("ours, last epoch", True, lambda row: mean_text(row["mean"], row["low"], row["high"], row["n"])),
        ("n", True, lambda row: str(row["n"])),
        ("our epochs", True, lambda row: "" if pd.isna(row["epochs"]) else f"{int(row['epochs'])}"),
    ]
    note = (
        "Published figures follow the epoch rule of their source; a best epoch is chosen on the test set and stands "
        "0.3 point higher on average than the last. Recipes may differ: compare the epochs."
    )
    if frame.empty:
        note = "No published figure is known for this data set, pair of networks and method."
    return Table.of(frame.to_dict("records"), columns, [note])
