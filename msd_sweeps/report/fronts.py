"""The Pareto front of a search by several metrics: its trials, its table, and the numbers of its figures."""

import json
from collections.abc import Iterator

import numpy as np
import pandas as pd

from msd_sweeps.records.ranking import best_first
from msd_sweeps.report.cells import metric_title, short_path, value_text
from msd_sweeps.report.escaping import short
from msd_sweeps.report.figures.search_numbers import NO_RESULT
from msd_sweeps.report.frames import Frames
from msd_sweeps.report.results import FigureNumbers, Results
from msd_sweeps.report.searching import configuration_key, parameter_values
from msd_sweeps.report.table_formats import Table
from msd_sweeps.report.writing import rounded_frame
from msd_sweeps.space.metrics import Metric

MOST_LISTED = 30
"""Trials of the front that the page lists; the figure's CSV has them all."""


def front_of(frames: Frames) -> pd.DataFrame:
    """A row a finished search trial: number, trial, its value of each metric, and whether it is on the front.

    The front comes first, the best by the first metric on top, then the others by number. Empty where the sweep has
    a single metric.
    """
    metrics, trials = frames.header.metrics, frames.trials
    names = [str(metric.get("name")) for metric in metrics]
    if len(names) < 2 or not set(names) <= set(trials.columns):
        return pd.DataFrame(columns=["number", "trial", *names, "front"])
    search = trials[(trials["phase"] == "search") & (trials["state"] == "finished")]
    search = search.sort_values(["number", "trial"], kind="stable")[["number", "trial", *names]]
    search = search[np.isfinite(search[names].to_numpy(dtype=float)).all(axis=1)].reset_index(drop=True)
    points = search[names].to_numpy(dtype=float).tolist()
    front = best_first(points, [Metric.model_validate_json(json.dumps(metric)) for metric in metrics])
    search["front"] = search.index.isin(front)
    rest = [index for index in search.index if index not in set(front)]
    return rounded_frame(search.loc[[*front, *rest]].reset_index(drop=True))


def front_table(results: Results) -> Table | None:
    """The trials of the front: their values, their settings, and as what they were confirmed; None where none."""
    every = front_of(results.frames)
    if every.empty:
        return None
    front = every[every["front"]]
    names = list(front.columns[2:-1])
    confirmed = {configuration_key(cell.config): cell.label for cell in results.cells if cell.config}
    values = parameter_values(results.frames, front["trial"].tolist())
    rows = []
    for place, row in enumerate(front.head(MOST_LISTED).to_dict("records")):
        told = [
            f"{short_path(name)}={value_text(column[place])}"
            for name, column in values.items()
            if column[place] is not None
        ]
        label = confirmed.get(configuration_key(results.frames.configs[row["trial"]]), "")
        scores = [f"{row[name]:,.0f}" if name == "student_parameters" else f"{row[name]:.2f}" for name in names]
        rows.append([str(row["number"]), *scores, short(", ".join(told), 160), short(label)])
    notes = [
        f"{len(front)} of {len(every)} finished search trials are on the front: no other is as good in every metric "
        f"and better in one. {NO_RESULT}"
    ]
    if len(front) > MOST_LISTED:
        notes.append(f"{len(front) - MOST_LISTED} more are in figures/pareto.csv.")
    columns = ["search trial", *map(metric_title, names), "settings", "confirmed as"]
    return Table(columns, rows, [True, *(True for _ in names), False, False], notes=notes)


def fronts(results: Results) -> Iterator[FigureNumbers]:
    """The first metric against each of the others, the front marked."""
    frame = front_of(results.frames)
    if frame.empty:
        return
    first, *others = results.frames.header.metrics
    for place, other in enumerate(others, 1):
        joined = (
            "The dashed line joins the Pareto front"
            if len(others) == 1
            else f"Filled: the Pareto front of all {len(others) + 1} metrics"
        )
        axes = {
            "x_column": other["name"],
            "x": metric_title(other["name"]),
            "y_column": first["name"],
            "y": metric_title(first["name"]),
            "step": "" if len(others) > 1 else "post" if other["mode"] == "min" else "pre",
        }
        title = f"Pareto front: {axes['y'].partition(' (')[0]} against {axes['x'].partition(' (')[0]}"
        caption = f"{NO_RESULT} Each dot is a finished search trial. {joined}."
        yield FigureNumbers("pareto" if place == 1 else f"pareto_{place}", "pareto", title, caption, frame, axes)
