"""Published figures beside ours, with their source and the epoch they were taken at."""

import csv
import math
from pathlib import Path

import pandas as pd

from msd_sweeps.report.cells import replicate_order
from msd_sweeps.report.escaping import short
from msd_sweeps.report.results import Results
from msd_sweeps.report.stats import mean_interval
from msd_sweeps.report.table_formats import Table
from msd_sweeps.report.tables import mean_text

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


def read_published(path: Path) -> list[dict[str, str]]:
    """The published figures: a dictionary a row, keys as in the file's header. Raises OSError."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def beside_published(results: Results, published: list[dict[str, str]]) -> pd.DataFrame:
    """A row a published figure of the same data set, pair and method as one of our cells, ours beside it.

    The teacher alone counts as a method. Columns: label, method, published, published_std, epoch_rule, source,
    mean, low, high, n, epochs, difference (ours - published, no interval: the published runs are not at hand).
    """
    rows = []
    for cell in results.cells:
        method = _published_name(cell.config)
        values = [cell.values[key] for key in sorted(cell.values, key=replicate_order)]
        for entry in published:
            if values and _same_pair(cell.config, entry) and _method(entry) == method:
                rows.append(_published_row(cell.label, entry, values, cell.config.get("recipe.epochs")))
    base = results.frames.header.base
    pair = {
        "data.name": (base.get("data") or {}).get("name"),
        "student.model": (base.get("student") or {}).get("model"),
    }
    for teacher in results.frames.header.teachers:
        score = teacher.get("test_top1")
        config = pair | {"teacher.model": teacher.get("model")}
        for entry in published:
            if isinstance(score, int | float) and _same_pair(config, entry) and _method(entry) == "teacher_alone":
                rows.append(_published_row(f"teacher {teacher.get('model')}", entry, [float(score)], None))
    names = [
        "label",
        "method",
        "published",
        "published_std",
        "epoch_rule",
        "source",
        "mean",
        "low",
        "high",
        "n",
        "epochs",
        "difference",
    ]
    return pd.DataFrame(rows, columns=names)


def _published_name(config: dict[str, object]) -> str:
    """The literature's name of a cell's method in lower case; one that also distils the logits is another method."""
    name = str(config.get("method.name", ""))
    weight = config.get("method.kd_weight")
    adds_kd = name not in ("kd", "sdd") and isinstance(weight, int | float) and weight > 0
    return _METHODS.get(name, name).casefold() + ("+kd" if adds_kd else "")


def _published_row(label: str, entry: dict[str, str], values: list[float], epochs: object) -> dict[str, object]:
    interval = mean_interval(values)
    figure = float(entry["top1"])
    return {
        "label": label,
        "method": entry["method"],
        "published": figure,
        "published_std": float(entry["std"]) if entry.get("std") else math.nan,
        "epoch_rule": entry["epoch_rule"],
        "source": entry["source"],
        "mean": interval.mean,
        "low": interval.low,
        "high": interval.high,
        "n": interval.n,
        "epochs": epochs,
        "difference": interval.mean - figure,
    }


def _method(entry: dict[str, str]) -> str:
    return entry["method"].casefold()


def _same_pair(config: dict[str, object], entry: dict[str, str]) -> bool:
    ours = [str(config.get(path, "")).casefold() for path in ("data.name", "teacher.model", "student.model")]
    theirs = [entry[name].casefold() for name in ("dataset", "teacher", "student")]
    return [_NETWORKS.get(name, name) for name in ours] == theirs


def published_table(frame: pd.DataFrame) -> Table:
    """The table of `beside_published`."""
    rows = []
    for row in frame.to_dict("records"):
        spread = "" if math.isnan(row["published_std"]) else f" (std {row['published_std']:.2f})"
        epochs = "" if row["epochs"] is None or row["epochs"] != row["epochs"] else f"{int(row['epochs'])}"
        theirs = (short(row["method"].replace("_", " ")), f"{row['published']:.2f}{spread}", row["epoch_rule"])
        ours = mean_text(row["mean"], row["low"], row["high"], row["n"])
        rows.append([short(row["label"]), *theirs, short(row["source"], 60), ours, str(row["n"]), epochs])
    columns = ["ours", "theirs", "published top-1 (%)", "epoch", "source", "ours, last epoch", "n", "our epochs"]
    notes = [
        "Published figures follow the epoch rule of their source; a best epoch is chosen on the test set and stands "
        "0.3 point higher on average than the last. Recipes may differ: compare the epochs."
    ]
    if frame.empty:
        notes = ["No published figure is known for this data set, pair of networks and method."]
    return Table(columns, rows, [False, False, True, False, False, True, True, True], notes=notes)
