"""What stands beside the result table: methods over several pairs, another sweep, published figures."""

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from msd_sweeps.report.cells import Cell
from msd_sweeps.report.comparisons import Samples, difference_columns, distinct
from msd_sweeps.report.document import Column, Table
from msd_sweeps.report.formats import capital, rounded_frame, short
from msd_sweeps.report.published import UNKNOWN, what_differs, what_differs_in_teacher
from msd_sweeps.report.results import Results
from msd_sweeps.report.stats import mean_ranks, stratified_mean
from msd_sweeps.report.tables import Row, difference_cell, difference_text, mean_text, number_text, p_text
from msd_sweeps.space.designs import cell_label, changes_of, levels_of
from msd_sweeps.space.errors import InputError
from msd_sweeps.space.schema import Space
from msd_sweeps.space.trial import Trial

FEWEST_TASKS = 5
"""Pairs from which on mean ranks are compared."""
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
_OVER_TASKS = ["method", "tasks", "n", "score", "score_low", "score_high", "rank", "critical_difference"]
_COMPARED = ["label", "other_label", "cell", "n", "mean", "low", "high"]
_COMPARED += ["other_n", "other_mean", "other_low", "other_high", "equal_runs"]
_GIVEN = ["dataset", "teacher", "student", "method", "top1", "std", "epoch_rule", "source"]
_PUBLISHED = ["label", "method", "published", "published_std", "epoch_rule", "source"]
_PUBLISHED += ["mean", "low", "high", "n", "epochs", "difference", "differs"]


class Beside(NamedTuple):
    """A table beside the result table: its title, its numbers, and what is shown of them."""

    title: str
    frame: pd.DataFrame
    table: Table


def _shown(title: str, frame: pd.DataFrame, columns: Sequence[Column], notes: Sequence[str]) -> Beside:
    rounded = rounded_frame(frame)
    return Beside(title, rounded, Table(rounded.to_dict("records"), columns, notes))


def over_tasks(results: Results) -> Beside:
    """A row a method that ran on every task: mean rank, and mean score with the interval of a stratified mean.

    A task is a data set and a pair of networks; a method is what the other factors of the design say. Columns:
    method, tasks, n (the fewest seeds of a task), score with `_low` and `_high`, rank, and critical_difference of mean
    ranks (NaN below `FEWEST_TASKS`). Empty where the sweep has one task, or fewer than two methods that ran on all.
    """
    space = results.frames.sweep.space
    of_task = [name for name in space.parameters if _chooses_task(space, name)]
    runs: dict[str, dict[tuple[str, ...], list[float]]] = defaultdict(lambda: defaultdict(list))
    for cell in results.cells:
        if cell.trial is None or not cell.values:
            continue
        for place in cell.levels:
            method = cell_label({name: level for name, level in place.items() if name not in of_task}) or "base"
            runs[method][_task(cell.trial)] += [cell.values[seed] for seed in sorted(cell.values)]
    tasks = list(dict.fromkeys(task for scores in runs.values() for task in scores))
    whole = {name: [scores[task] for task in tasks] for name, scores in runs.items() if len(scores) == len(tasks)}
    rows = []
    if min(len(tasks), len(whole)) > 1:
        means = [[float(np.mean(scores)) for scores in of_method] for of_method in whole.values()]
        ranks, critical = mean_ranks(means, results.value.sign > 0)
        critical = critical if len(tasks) >= FEWEST_TASKS else math.nan
        for (name, of_method), rank in zip(whole.items(), ranks, strict=True):
            mean, low, high, n = stratified_mean(of_method)
            rows.append((name, len(tasks), n, mean, low, high, float(rank), critical))
    frame = pd.DataFrame(rows, columns=_OVER_TASKS).sort_values(["rank", "method"], kind="stable", ignore_index=True)
    columns: list[Column] = [
        ("method", False, lambda row: short(row["method"], 90)),
        ("pairs", True, "tasks"),
        ("n each", True, "n"),
        ("mean rank", True, number_text("rank", 2)),
        (
            "mean score",
            True,
            lambda row: difference_text(row["score"], row["score_low"], row["score_high"]).lstrip("+"),
        ),
    ]
    note = (
        "Means over the pairs of networks and data sets, rank 1 is best. Each interval is its own row's, at 95 % over "
        "seeds (stratified mean, Satterthwaite's degrees of freedom); it says nothing about other pairs."
    )
    ranked = f"Mean ranks tell methods apart from {FEWEST_TASKS} pairs on."
    if len(rows) and not math.isnan(rows[0][-1]):
        ranked = f"Mean ranks that differ by less than {rows[0][-1]:.2f} cannot be told apart (Nemenyi test, 5 %)."
    return _shown("Over all pairs", frame, columns, [note, ranked] * bool(rows))


def _chooses_task(space: Space, name: str) -> bool:
    """Whether a parameter chooses the data or the networks."""
    paths = [path for level in levels_of(space.parameters[name]) for path in changes_of(space, {name: level})]
    return any(path.split(".")[0] in ("data", "teacher", "student") for path in paths)


def _task(trial: Trial) -> tuple[str, ...]:
    return trial.data.name, trial.teacher.model, trial.student.model


def compare_sweeps(ours: Results, theirs: Results) -> Beside:
    """A row a cell that both sweeps have: both means and their difference, paired where seeds are shared.

    Cells are the same where their configurations are, seeds apart. Differences are `ours - theirs`.
    """

    def identity(cell: Cell) -> tuple[str, int | None]:
        return cell.cell, cell.trial.data_seed if cell.trial else None

    other = {identity(cell): cell for cell in theirs.cells if cell.cell}
    rows: list[tuple[object, ...]] = []
    pairs: list[Samples] = []
    for cell in ours.cells:
        if twin := other.get(identity(cell)):
            (mean, low, high, n), (other_mean, other_low, other_high, other_n) = cell.interval, twin.interval
            equal = sum(cell.values[seed] == twin.values[seed] for seed in set(cell.values) & set(twin.values))
            numbers = (n, mean, low, high, other_n, other_mean, other_low, other_high, equal)
            rows.append((cell.label, twin.label, cell.cell, *numbers))
            pairs.append((cell.values, twin.values))
    family = ours.family._replace(size=len(distinct(pairs)), still_open=())
    frame = pd.DataFrame(rows, columns=_COMPARED).assign(**difference_columns(pairs, family, ours.value.sign))
    names = [short(results.frames.sweep.name, 30) for results in (ours, theirs)]
    columns: list[Column] = [
        ("", False, lambda row: short(" / ".join(dict.fromkeys([row["label"], row["other_label"]])))),
        (names[0], True, mean_text),
        ("n", True, "n"),
        (names[1], True, lambda row: mean_text(row, "other_mean", "other_low", "other_high")),
        ("n", True, "other_n"),
        (f"difference ({ours.value.unit})", True, difference_cell),
        ("adjusted p", True, p_text),
    ]
    mine, its = (sum(bool(cell.cell) for cell in results.cells) - len(frame) for results in (ours, theirs))
    notes = [
        f"{capital(ours.value.title)}, last epoch. Only cells that both sweeps have; {mine} of {names[0]} and {its} of "
        f"{names[1]} have no counterpart. Paired where two seeds or more are shared, else Welch's interval. "
        f"The {family.size} intervals of this table hold together at 95 %, apart from those of other tables."
    ]
    if same := int(frame["equal_runs"].sum()):
        runs = "1 pair of runs" if same == 1 else f"{same} pairs of runs"
        notes.append(f"{runs} with one seed gave exactly the same result in both.")
    return _shown(f"Beside {short(theirs.frames.sweep.name)}", frame, columns, notes)


def read_published(path: Path) -> pd.DataFrame:
    """The published figures: a row each, columns as in the file's header. Raises OSError, InputError."""
    try:
        figures = pd.read_csv(path, dtype="str", keep_default_na=False)
        if "settings" not in figures:
            figures = figures.assign(settings=UNKNOWN)
        figures = figures[[*_GIVEN, "settings"]]
        return figures.assign(top1=figures["top1"].astype(float), std=pd.to_numeric(figures["std"]))
    except (ValueError, KeyError) as error:
        expected = f"expected CSV with the columns {', '.join(_GIVEN)}, of which top1 and std are numbers"
        raise InputError(f"{path}: {expected}; {str(error).splitlines()[0]}") from error


def beside_published(results: Results, published: pd.DataFrame) -> Beside:
    """A row a published figure of the same data set, pair and method as one of our cells, ours beside it.

    The teacher alone counts as a method. Columns: label, method, published, published_std, epoch_rule, source,
    mean, low, high, n, epochs, difference (ours - published, no interval: the published runs are not at hand; NaN
    where ours did not run as theirs), differs (in what it did not).
    """
    base, key = results.frames.sweep.base, ["dataset", "teacher", "student", "method"]
    rows: list[tuple[object, ...]] = [
        (cell.label, *cell.interval, cell.trial.recipe.epochs, *_task(cell.trial), _published_name(cell.trial))
        for cell in results.cells
        if cell.trial is not None and cell.values
    ]
    for teacher in results.frames.header.teachers:
        measured = (f"teacher {teacher.model}", teacher.test_top1, math.nan, math.nan, 1, None)
        rows.append((*measured, base.data.name, teacher.model, base.student.model, "teacher_alone"))
    ours = pd.DataFrame(rows, columns=["label", "mean", "low", "high", "n", "epochs", *key])
    theirs = published.assign(name=published["method"])
    for frame in (ours, theirs):
        frame[key] = frame[key].apply(lambda column: column.str.casefold().replace(_NETWORKS))
    found = ours.merge(theirs, on=key).assign(method=lambda both: both["name"])
    found = found.rename(columns={"top1": "published", "std": "published_std"})
    trials = {cell.label: cell.trial for cell in results.cells}
    found["differs"] = [
        what_differs(trial, row["settings"], row["epoch_rule"])
        if (trial := trials.get(row["label"]))
        else ", ".join(what_differs_in_teacher(base, row["epoch_rule"]))
        for row in found.to_dict("records")
    ]
    found["difference"] = (found["mean"] - found["published"]).where(found["differs"] == "")
    found = found[_PUBLISHED]

    def figure(row: Row) -> str:
        spread = "" if math.isnan(row["published_std"]) else f" (std {row['published_std']:.2f})"
        return f"{row['published']:.2f}{spread}"

    columns: list[Column] = [
        ("ours", False, lambda row: short(row["label"])),
        ("theirs", False, lambda row: short(row["method"].replace("_", " "))),
        ("published top-1 (%)", True, figure),
        ("epoch", False, "epoch_rule"),
        ("source", False, lambda row: short(row["source"], 60)),
        ("ours, last epoch", True, mean_text),
        ("n", True, "n"),
        ("difference, or what differs", True, lambda row: row["differs"] or difference_text(row["difference"])),
    ]
    note = (
        "A difference stands where settings, images, recipe and epoch are the published ones; elsewhere the cell says "
        "what differs, with the published value in brackets. A best epoch is chosen on the test set and stands "
        "0.3 point higher on average than the last."
    )
    if found.empty:
        note = "No published figure is known for this data set, pair of networks and method."
    return _shown("Beside published figures", found, columns, [note])


def _published_name(trial: Trial) -> str:
    """The literature's name of a trial's method; one that also distils the logits is another method."""
    name = trial.method.name
    adds_kd = name not in ("kd", "sdd") and getattr(trial.method, "kd_weight", 0) > 0
    return _METHODS.get(name, name) + "+kd" * adds_kd
