"""The result table: numbers in a frame, the same numbers as text for terminal, Markdown, HTML and LaTeX."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from msd_sweeps.report.cells import Cell, Value, metric_title, teacher_cells
from msd_sweeps.report.comparisons import clearly_best, difference_columns, difference_of, test_notes, with_holm
from msd_sweeps.report.escaping import short
from msd_sweeps.report.frames import Frames
from msd_sweeps.report.stats import mean_interval
from msd_sweeps.report.table_formats import Column, Table
from msd_sweeps.report.writing import rounded_frame, write_csv, write_parquet, write_text

NOTHING = "–"
Row = Mapping[Any, Any]
"""A row of a frame that has the columns of `difference_columns`."""


@dataclass
class ResultTable:
    """The result table of a sweep: what is shown, and the numbers behind it."""

    shown: Table
    frame: pd.DataFrame
    """A row a teacher and a cell: its mean, its difference to the baseline, validation, cost and device."""
    configurations: list[tuple[str, str]]
    """Label and what the cell changes in the base."""

    def text(self, width: int = 100) -> str:
        """For the terminal: the table, then what each row is."""
        lines = [self.shown.text(width), ""]
        for label, summary in self.configurations:
            lines += textwrap.wrap(f"{label}: {summary}", width, subsequent_indent="    ")
        return "\n".join(lines).rstrip()

    def write(self, folder: Path) -> list[Path]:
        """Write table.md, table.csv, table.tex and table.parquet."""
        pairs = [list(pair) for pair in self.configurations]
        configurations = Table(["row", "what it changes in the base"], pairs, [False, False])
        return [
            write_text(folder / "table.md", f"{self.shown.markdown()}\n\n{configurations.markdown()}"),
            write_csv(folder / "table.csv", self.frame),
            write_text(folder / "table.tex", self.shown.latex()),
            write_parquet(folder / "table.parquet", self.frame),
        ]


def mean_text(mean: float, low: float, high: float, n: int) -> str:
    """`71.30 ± 0.24`; a single value without interval stands alone."""
    if n == 0 or math.isnan(mean):
        return NOTHING
    return f"{mean:.2f}" if math.isnan(low) else f"{mean:.2f} ± {(high - low) / 2:.2f}"


def difference_text(difference: float, low: float, high: float) -> str:
    """`+0.61 [0.22, 1.00]`."""
    if math.isnan(difference):
        return NOTHING
    mean = "+" * (round(difference, 2) > 0) + signed(difference)
    return mean if math.isnan(low) else f"{mean} [{signed(low)}, {signed(high)}]"


def difference_cell(row: Row) -> str:
    """The difference of a row; one that is not paired by seed is named so."""
    text = difference_text(row["difference"], row["difference_low"], row["difference_high"])
    return text if row["paired"] or text == NOTHING else f"{text} unpaired"


def signed(value: float) -> str:
    """Two decimals with a minus sign that is as wide as a plus; a zero has none."""
    return f"{value:z.2f}".replace("-", "−")


def p_text(row: Row) -> str:
    """The corrected p-value of a row's difference, or why there is none."""
    if row["pairs"] == 0:
        return NOTHING
    if not row["testable"] or math.isnan(row["p_holm"]):
        return "not testable"
    return "<0.001" if row["p_holm"] < 0.001 else f"{row['p_holm']:.3f}"


def result_table(frames: Frames, cells: Sequence[Cell], baseline: Cell | None, value: Value) -> ResultTable:
    """The result table, the teachers before the cells."""
    cells = [*teacher_cells(frames, value), *cells]
    rows = [_row(cell, baseline, value) | {"device": frames.device} for cell in cells]
    frame = pd.DataFrame(rows, columns=[*_row(Cell(""), None, value), "device"])
    frame = rounded_frame(with_holm(frame)).astype({"planned": "Int64"})
    configurations = [(short(cell.label), short(cell.summary, 300)) for cell in cells]
    return ResultTable(_shown(frame, cells, baseline, value), frame, configurations)


def _row(cell: Cell, baseline: Cell | None, value: Value) -> dict[str, object]:
    """A cell's mean, its difference to the baseline, and what else is known of it."""
    against, difference = "", None
    if baseline is not None and cell is not baseline and cell.phase != "teacher":
        difference = difference_of(cell.values, baseline.values)
        against = baseline.label if difference else ""
    interval, validation = cell.interval, mean_interval(list(cell.validation.values()))
    return {
        "label": cell.label,
        "cell": cell.cell,
        "configuration": cell.summary,
        "metric": value.name,
        "n": interval.n,
        "planned": cell.planned,
        "mean": interval.mean,
        "low": interval.low,
        "high": interval.high,
        "baseline": against,
        **difference_columns(difference),
        "note": "; ".join(cell.faults),
        "validation": validation.mean,
        "validation_low": validation.low,
        "validation_high": validation.high,
        "search_score": cell.search_score,
        "seconds": float(np.mean(cell.seconds)) if cell.seconds else math.nan,
    }


def _shown(frame: pd.DataFrame, cells: Sequence[Cell], baseline: Cell | None, value: Value) -> Table:
    """The texts of the table."""
    columns: list[Column] = [
        ("", False, lambda row: short(row["label"])),
        ("n", True, _n_text),
        (value.title, True, lambda row: mean_text(row["mean"], row["low"], row["high"], row["n"])),
    ]
    if baseline is not None:
        columns.append((f"difference to {short(baseline.label, 24)}", True, difference_cell))
        columns.append(("p (Holm)", True, p_text))
    if frame["validation"].notna().any() or frame["search_score"].notna().any():
        columns.append((metric_title(value.validation), True, _validation_text))
    columns.append(("s/trial", True, lambda row: NOTHING if math.isnan(row["seconds"]) else f"{row['seconds']:.1f}"))
    table = Table.of(frame.to_dict("records"), columns, _notes(frame, cells, baseline, value))
    best = clearly_best(cells, value)
    if best is not None:
        table.bold.add((best, 2))
    return table


def _n_text(row: Row) -> str:
    planned = row["planned"]
    return str(row["n"]) if pd.isna(planned) or planned == row["n"] else f"{row['n']} of {planned}"


def _validation_text(row: Row) -> str:
    if not math.isnan(row["validation"]):
        return mean_text(row["validation"], row["validation_low"], row["validation_high"], 1)
    return NOTHING if math.isnan(row["search_score"]) else f"{row['search_score']:.2f} (search)"


def _notes(frame: pd.DataFrame, cells: Sequence[Cell], baseline: Cell | None, value: Value) -> list[str]:
    title = value.title[:1].upper() + value.title[1:]
    notes = [f"{title} after the last epoch: mean ± half of the 95 % t interval over n seeds."]
    if any(len(cell.values) == 1 and cell.phase != "teacher" for cell in cells):
        notes.append("n = 1: one seed gives no interval.")
    if (frame["low"] == frame["high"]).any():
        notes.append("± 0.00: the seeds gave equal values; that shows no spread, and no certainty either.")
    if (frame["search_score"].notna() & frame["validation"].isna()).any():
        notes.append("(search): the one score on held-out images by which the search chose the row.")
    if baseline is not None and (frame["pairs"] > 0).any():
        notes.append("Differences are paired by seed, with 95 % t intervals that are not corrected for their number.")
        notes += test_notes(frame)
    elif baseline is None:
        notes.append("No baseline is among the cells, so no differences are shown.")
    for cell in cells:
        for sweep, count in sorted(cell.sources.items()):
            of = f"{count} of its {cell.states.total()} trials"
            notes.append(f"{short(cell.label)}: {of} taken over from the sweep {short(sweep)}, not trained again.")
    notes += [f"{short(cell.label)}: {short('; '.join(cell.faults), 200)}." for cell in cells if cell.faults]
    return notes
