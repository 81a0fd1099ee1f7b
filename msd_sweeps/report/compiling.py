"""From a ledger to the files of a report."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from msd_sweeps.report import beside, figures
from msd_sweeps.report.cells import PRIVATE
from msd_sweeps.report.escaping import short
from msd_sweeps.report.frames import Frames, read
from msd_sweeps.report.page import build as page
from msd_sweeps.report.results import Results, results_of
from msd_sweeps.report.table_formats import Table
from msd_sweeps.report.verdict import question, verdict
from msd_sweeps.report.writing import rounded_frame, write_csv, write_parquet, write_text


@dataclass(frozen=True)
class Report:
    """What was compiled."""

    table_text: str
    """The result table as plain text, readable at 100 columns."""
    paths: list[Path]
    """The files that were written, the page first."""


def compile_report(ledger_path: Path, out: Path, compare: Path | None = None, published: Path | None = None) -> Report:
    """Compile a ledger into the folder `out`: the same ledger gives the same bytes.

    `compare` is the ledger of another sweep to set beside this one, `published` a CSV of published figures.
    Raises LedgerError where there is no ledger, OSError where a file cannot be read or written.
    """
    results = results_of(read(ledger_path))
    paths, more = _beside(results, out, compare, published)
    drawings = []
    shutil.rmtree(out / "figures", ignore_errors=True)  # a figure that this ledger does not give must not stay
    for plot in figures.plots_of(results):
        written, svg = figures.write(plot, out / "figures")
        paths += written
        drawings.append((plot, svg))
    document = page.build(results, drawings, more)
    pages = [write_text(out / "report.html", document.html()), write_text(out / "report.md", document.markdown())]
    paths = [*pages, *results.table.write(out), *paths, *_write_data(results.frames, out), _write_summary(results, out)]
    return Report(results.table.text(), paths)


def _beside(
    results: Results, out: Path, compare: Path | None, published: Path | None
) -> tuple[list[Path], list[tuple[str, Table]]]:
    """Files of the tables beside the result table, and those that the page shows. Older files are removed."""
    frames = {"effects": results.effects, "aggregate": rounded_frame(beside.over_tasks(results))}
    shown: list[tuple[str, Table]] = []
    if len(frames["aggregate"]):
        shown.append(("Over all pairs", beside.aggregate_table(frames["aggregate"])))
    if compare is not None:
        other = results_of(read(compare))
        frames["compared"] = rounded_frame(beside.compare_sweeps(results, other))
        table = beside.comparison_table(frames["compared"], results, other)
        shown.append((f"Beside {short(other.frames.sweep.name)}", table))
    if published is not None:
        frames["published"] = rounded_frame(beside.beside_published(results, beside.read_published(published)))
        shown.append(("Beside published figures", beside.published_table(frames["published"])))
    for name in ("effects", "aggregate", "compared", "published"):
        (out / f"{name}.csv").unlink(missing_ok=True)
    return [write_csv(out / f"{name}.csv", frame) for name, frame in frames.items() if len(frame)], shown


def _write_data(frames: Frames, out: Path) -> list[Path]:
    private = [name for name in ("traceback", *PRIVATE) if name in frames.trials.columns]
    trials: pd.DataFrame = frames.trials.drop(columns=private)
    return [write_parquet(out / "trials.parquet", trials), write_parquet(out / "history.parquet", frames.history)]


def _write_summary(results: Results, out: Path) -> Path:
    """What the index of reports says about this one."""
    summary = {
        "name": results.frames.sweep.name,
        "design": results.design,
        "question": question(results.frames.sweep),
        "verdict": verdict(results),
    }
    return write_text(out / "summary.json", json.dumps(summary, indent=2, ensure_ascii=False))
