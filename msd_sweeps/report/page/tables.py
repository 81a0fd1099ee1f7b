"""Tables of the page beside the result table: the base, effects, the Pareto front, what search scores were worth."""

import math
from collections.abc import Callable

from msd_sweeps.report.cells import PRIVATE, metric_title, short_path, value_text
from msd_sweeps.report.comparisons import test_notes
from msd_sweeps.report.escaping import short
from msd_sweeps.report.figures.cost import front_of
from msd_sweeps.report.figures.search import NO_RESULT
from msd_sweeps.report.results import Results
from msd_sweeps.report.table_formats import Column, Table
from msd_sweeps.report.tables import Row, difference_cell, difference_text, mean_text, p_text
from msd_sweeps.space.settings import Changes, flatten
from msd_sweeps.space.trial import Trial

MOST_OF_FRONT = 30
"""Trials of the front that the page lists; the figure's CSV has them all."""


def changes_text(changes: Changes) -> str:
    """Settings by their paths: `scales=[1, 2], sample_weight=0.5`."""
    return ", ".join(f"{short_path(path)}={value_text(value)}" for path, value in changes.items())


def base_table(base: Trial) -> Table:
    """A row a part of the base. Places of the machine that ran are left out."""
    parts: dict[str, list[str]] = {}
    for path, value in flatten(base.model_dump(mode="json")).items():
        part, _, name = path.partition(".")
        if name and path not in PRIVATE:
            parts.setdefault(part, []).append(f"{name}={value_text(value)}")
    return Table(["part", "settings"], [[part, ", ".join(texts)] for part, texts in parts.items()], [False, False])


def effects_table(results: Results) -> Table:
    """A row an effect of the design."""
    left_out = results.design == "leave_one_out"

    def change(row: Row) -> str:
        level = f"without {row['level']}"
        return short(level if left_out else f"{row['factor']}: {row['level']} instead of {row['reference']}", 90)

    columns: list[Column] = [
        ("change", False, change),
        ("pairs", True, lambda row: str(row["pairs"])),
        (results.value.difference_title, True, difference_cell),
        ("p (Holm)", True, p_text),
    ]
    against = "the full method" if left_out else "the level named"
    notes = [f"Differences to {against}, paired by seed; 95 % t intervals, not corrected for their number."]
    notes += test_notes(results.effects)
    if results.design == "grid":
        notes.append("Each seed's mean over the blocks (levels of the other factors) in which both levels finished.")
    return Table.of(results.effects.to_dict("records"), columns, notes)


def front_table(results: Results) -> Table:
    """The trials of the front: their values, their settings, and as what they were confirmed. No rows: no front."""
    every = front_of(results.frames)
    front = every[every["front"]]
    confirmed = {cell.search_trial: cell.label for cell in results.cells if cell.search_trial}

    def score(name: str) -> Callable[[Row], str]:
        return lambda row: f"{row[name]:,.0f}" if name == "student_parameters" else f"{row[name]:.2f}"

    columns: list[Column] = [
        ("search trial", True, lambda row: str(row["number"])),
        *((metric_title(metric.name), True, score(metric.name)) for metric in results.frames.sweep.space.metrics),
        ("settings", False, lambda row: short(changes_text(results.frames.records[row["trial"]].values), 160)),
        ("confirmed as", False, lambda row: short(confirmed.get(row["trial"], ""))),
    ]
    notes = [
        f"{len(front)} of {len(every)} finished search trials are on the front: no other is as good in every metric "
        f"and better in one. {NO_RESULT}"
    ]
    if len(front) > MOST_OF_FRONT:
        notes.append(f"{len(front) - MOST_OF_FRONT} more are in figures/pareto.csv.")
    return Table.of(front.head(MOST_OF_FRONT).to_dict("records"), columns, notes)


def confirmation_table(results: Results) -> Table:
    """A row a winner: its search score beside what it reached on fresh seeds."""
    columns: list[Column] = [
        ("", False, lambda row: short(row["label"])),
        (f"search: {metric_title(results.frames.metric.name)}", True, lambda row: f"{row['search_score']:.2f}"),
        (
            f"confirmed: {results.value.title}",
            True,
            lambda row: mean_text(row["mean"], row["low"], row["high"], row["n"]),
        ),
        ("n", True, lambda row: str(row["n"])),
        ("search minus confirmed", True, lambda row: difference_text(row["drop"], math.nan, math.nan)),
    ]
    note = (
        "The search's score is the best of many on one seed and on held-out images; the confirmed one is on fresh "
        "seeds and the test set, after training on all images. Their gap holds selection, other images and more data "
        "together."
    )
    return Table.of(results.confirmation.to_dict("records"), columns, [note])
