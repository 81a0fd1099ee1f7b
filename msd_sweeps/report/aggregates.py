"""Several pairs or data sets in one sweep: each method's mean rank and score over them."""

import json
from collections.abc import Sequence

import pandas as pd

from msd_sweeps.records.ledger import Record
from msd_sweeps.report.cells import NOT_COMPARED, Cell, Value, changes_text, replicate_order
from msd_sweeps.report.escaping import short
from msd_sweeps.report.frames import Frames, flatten
from msd_sweeps.report.stats import aggregate
from msd_sweeps.report.table_formats import Table

TASK = ("data.name", "teacher.model", "student.model")
"""What makes a task: a data set and a pair of networks."""


def task_of(config: Record) -> str:
    """`digits, resnet20 to resnet8`."""
    data, teacher, student = (config.get(path) for path in TASK)
    return f"{data}, {teacher} to {student}"


def over_tasks(frames: Frames, cells: Sequence[Cell], value: Value) -> pd.DataFrame:
    """A row a method that ran on every task: mean score and mean rank with stratified bootstrap intervals.

    Columns: method, tasks, n (the fewest seeds of a task), score and rank with `_low` and `_high`. Empty where the
    sweep has one task, or fewer than two methods that ran on all of them.
    """
    base = flatten(frames.header.base)
    tasks: list[str] = []
    runs: dict[str, dict[str, list[float]]] = {}
    names: dict[str, str] = {}
    for cell in cells:
        if cell.config and cell.values:
            task = task_of(cell.config)
            told = {p: v for p, v in cell.config.items() if p not in NOT_COMPARED and not _of_task(p)}
            key = json.dumps(told, sort_keys=True)
            names.setdefault(key, changes_text(told, {p: v for p, v in base.items() if not _of_task(p)}))
            tasks += [task] * (task not in tasks)
            scores = [cell.values[replicate] for replicate in sorted(cell.values, key=replicate_order)]
            runs.setdefault(key, {}).setdefault(task, []).extend(scores)
    whole = {
        names[key]: [by_task[task] for task in tasks] for key, by_task in runs.items() if len(by_task) == len(tasks)
    }
    columns = ["method", "tasks", "n", "score", "score_low", "score_high", "rank", "rank_low", "rank_high"]
    if len(tasks) < 2 or len(whole) < 2:
        return pd.DataFrame(columns=columns)
    found = aggregate(whole, value.higher_is_better)
    rows = [(name, len(tasks), a.score.n, *a.score[:3], *a.rank[:3]) for name, a in found.items()]
    return pd.DataFrame(rows, columns=columns).sort_values(["rank", "method"], kind="stable", ignore_index=True)


def _of_task(path: str) -> bool:
    """Whether a path belongs to the task, and to what each task brings with it."""
    return path.startswith(("data.", "teacher.", "student."))


def aggregate_table(frame: pd.DataFrame) -> Table:
    """The table of `over_tasks`."""
    rows = []
    for row in frame.to_dict("records"):
        texts = []
        for name in ("rank", "score"):
            low, high = row[f"{name}_low"], row[f"{name}_high"]
            texts.append(f"{row[name]:.2f}" + ("" if low != low else f" [{low:.2f}, {high:.2f}]"))
        rows.append([short(row["method"], 90), str(row["tasks"]), str(row["n"]), *texts])
    notes = [
        "Means over the pairs of networks and data sets, rank 1 is best; 95 % stratified bootstrap intervals over "
        "seeds within each pair. They say nothing about other pairs. One seed gives no interval."
    ]
    columns = ["method", "pairs", "n each", "mean rank", "mean score"]
    return Table(columns, rows, [False, True, True, True, True], notes=notes)
