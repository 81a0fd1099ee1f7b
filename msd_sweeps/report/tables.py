"""The result table: numbers in a frame, the same numbers as text for terminal, Markdown, HTML and LaTeX."""

import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from msd_sweeps.report.cells import Cell, Value, metric_title, teacher_cells
from msd_sweeps.report.comparisons import compare, difference_of, test_notes
from msd_sweeps.report.escaping import short
from msd_sweeps.report.frames import Frames
from msd_sweeps.report.stats import mean_interval
from msd_sweeps.report.table_formats import Table
from msd_sweeps.report.writing import rounded_frame, write_csv, write_parquet, write_text

NOTHING = "–"


@dataclass
class ResultTable:
    """The result table of a sweep: what is shown, and the numbers behind it."""

    shown: Table
    frame: pd.DataFrame
    """A row a teacher and a cell: `comparisons.compare`, with validation, cost and device beside."""
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


def signed(value: float) -> str:
    """Two decimals with a minus sign that is as wide as a plus; a zero has none."""
    return f"{value:z.2f}".replace("-", "−")


def p_text(p: float, testable: bool, pairs: int) -> str:
    """A corrected p-value, or why there is none."""
    if pairs == 0:
        return NOTHING
    if not testable or math.isnan(p):
        return "not testable"
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def result_table(frames: Frames, cells: Sequence[Cell], baseline: Cell | None, value: Value) -> ResultTable:
    """The result table, the teachers before the cells."""
    cells = [*teacher_cells(frames, value), *cells]
    frame = compare(cells, baseline, value)
    validation = [mean_interval(list(cell.validation.values())) for cell in cells]
    frame["validation"] = [interval.mean for interval in validation]
    frame["validation_low"] = [interval.low for interval in validation]
    frame["validation_high"] = [interval.high for interval in validation]
    frame["search_score"] = [cell.search_score for cell in cells]
    frame["seconds"] = [float(np.mean(cell.seconds)) if cell.seconds else math.nan for cell in cells]
    frame["device"] = frames.device
    frame = rounded_frame(frame)
    frame["planned"] = pd.array([None if pd.isna(n) else int(n) for n in frame["planned"]], dtype="Int64")
    return ResultTable(
        _shown(frame, cells, baseline, value), frame, [(short(cell.label), short(cell.summary, 300)) for cell in cells]
    )


def _shown(frame: pd.DataFrame, cells: Sequence[Cell], baseline: Cell | None, value: Value) -> Table:
    """The texts of the table."""
    against = f"difference to {short(baseline.label, 24)}" if baseline is not None else None
    has_validation = frame["validation"].notna().any() or frame["search_score"].notna().any()
    columns: list[tuple[str, bool, Callable[[pd.Series], str]]] = [
        ("", False, lambda row: short(row["label"])),
        ("n", True, lambda row: _n_text(row)),
        (value.title, True, lambda row: mean_text(row["mean"], row["low"], row["high"], row["n"])),
    ]
    if against:
        columns.append((against, True, lambda row: _difference_cell(row)))
        columns.append(("p (Holm)", True, lambda row: p_text(row["p_holm"], bool(row["testable"]), row["pairs"])))
    if has_validation:
        columns.append((metric_title(value.validation), True, _validation_text))
    columns.append(("s/trial", True, _seconds_text))
    rows = [[text(row) for _, _, text in columns] for _, row in frame.iterrows()]
    table = Table([name for name, _, _ in columns], rows, [number for _, number, _ in columns])
    best = _clearly_best(cells, value)
    if best is not None:
        table.bold.add((best, 2))
    table.notes = _notes(frame, cells, baseline, value)
    return table


def _n_text(row: pd.Series) -> str:
    planned = row["planned"]
    return str(row["n"]) if pd.isna(planned) or planned == row["n"] else f"{row['n']} of {planned}"


def _seconds_text(row: pd.Series) -> str:
    return NOTHING if math.isnan(row["seconds"]) else f"{row['seconds']:.1f}"


def _difference_cell(row: pd.Series) -> str:
    text = difference_text(row["difference"], row["difference_low"], row["difference_high"])
    return text if row["paired"] or text == NOTHING else f"{text} unpaired"


def _validation_text(row: pd.Series) -> str:
    if not math.isnan(row["validation"]):
        return mean_text(row["validation"], row["validation_low"], row["validation_high"], 1)
    return NOTHING if math.isnan(row["search_score"]) else f"{row['search_score']:.2f} (search)"


def _clearly_best(cells: Sequence[Cell], value: Value) -> int | None:
    """The cell whose difference to every other has an interval on the good side of zero."""
    sign = 1 if value.higher_is_better else -1
    known = [index for index, cell in enumerate(cells) if cell.values and cell.phase != "teacher"]
    if len(known) < 2:
        return None
    best = max(known, key=lambda index: sign * cells[index].interval.mean)
    for index in known:
        if index != best:
            difference = difference_of(cells[best].values, cells[index].values)
            if difference is None or not difference.interval.excludes_zero or sign * difference.interval.mean < 0:
                return None
    return best


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
