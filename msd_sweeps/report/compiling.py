"""From a ledger to the files of a report."""

import json
import shutil
import textwrap
from dataclasses import dataclass
from pathlib import Path

from msd_sweeps.records.files import write_whole
from msd_sweeps.report import figures
from msd_sweeps.report.beside import beside_published, compare_sweeps, over_tasks, read_published
from msd_sweeps.report.cells import PRIVATE, Progress, progress_of
from msd_sweeps.report.claims import claims
from msd_sweeps.report.document import rendered
from msd_sweeps.report.formats import clean, csv_bytes, parquet_bytes, text_bytes
from msd_sweeps.report.frames import read
from msd_sweeps.report.page import page_of
from msd_sweeps.report.results import Results, results_of
from msd_sweeps.report.rows import ROWS, base_files
from msd_sweeps.report.same_images import same_images
from msd_sweeps.report.tables import result_table, summary_table
from msd_sweeps.report.verdict import question, verdict


@dataclass(frozen=True)
class Report:
    """What was compiled."""

    table_text: str
    """The result table as plain text, readable at 100 columns."""
    paths: list[Path]
    """The files that were written, the page first."""
    without_value: list[str]
    """The rows of which no trial has given a value."""
    progress: Progress


def compile_report(ledger_path: Path, out: Path, compare: Path | None = None, published: Path | None = None) -> Report:
    """Compile a ledger into the folder `out`: the same ledger gives the same bytes.

    `compare` is the ledger of another sweep to set beside this one, `published` a CSV of published figures.
    Raises LedgerError where there is no ledger, OSError where a file cannot be read or written.
    """
    results = results_of(read(ledger_path))
    beside = {"images": same_images(results), "aggregate": over_tasks(results)}
    if compare is not None:
        beside["compared"] = compare_sweeps(results, results_of(read(compare)))
    if published is not None:
        beside["published"] = beside_published(results, read_published(published))
    numbers = {"effects": results.effects} | {name: one.frame for name, one in beside.items()}
    files = {f"{name}.csv": csv_bytes(frame) for name, frame in numbers.items() if len(frame)}
    drawings = []
    for plot in figures.plots_of(results):
        drawn = figures.files_of(plot)
        files |= {f"figures/{name}": content for name, content in drawn.items()}
        drawings.append((plot, drawn[f"{plot.slug}.svg"].decode()))
    page = page_of(results, drawings, beside.values())
    pages = {name: text_bytes(rendered(name, **page)) for name in ("report.html", "report.md")}
    frames = results.frames
    told = {"question": question(frames.sweep), "verdict": verdict(results)}
    summary = {"name": frames.sweep.name, "design": results.design, **told}
    data = {
        "trials.parquet": parquet_bytes(frames.trials.drop(columns=["traceback", *PRIVATE], errors="ignore")),
        "history.parquet": parquet_bytes(frames.history),
        "summary.json": text_bytes(json.dumps(summary, indent=2, ensure_ascii=False)),
    }
    progress = progress_of(frames, results.cells)
    data["report.json"] = text_bytes(json.dumps(claims(results, told, numbers), indent=1, allow_nan=False))
    files = pages | table_files(results) | files | data | base_files(results)
    # What this ledger does not give must not stay from an earlier one.
    for folder in ("figures", ROWS):
        shutil.rmtree(out / folder, ignore_errors=True)
    for name in ("effects", "images", "aggregate", "compared", "published"):
        (out / f"{name}.csv").unlink(missing_ok=True)
    for name, content in files.items():
        write_whole(out / name, content)
    without_value = [cell.label for cell in results.cells if not cell.values]
    return Report(plain_text(results), [out / name for name in files], without_value, progress)


def plain_text(results: Results, width: int = 100) -> str:
    """For the terminal: the result table, then what each row is."""
    damage = results.frames.header.damage
    lines = [result_table(results).text(width), "", *textwrap.wrap(clean(damage), width), ""]
    for label, summary in summary_table(results, "").rows:
        lines += textwrap.wrap(clean(f"{label}: {summary}"), width, subsequent_indent="    ")
    return "\n".join(lines).rstrip()


def table_files(results: Results) -> dict[str, bytes]:
    """The result table in every format."""
    table, changes = result_table(results), summary_table(results, "what it changes in the base")
    return {
        "table.md": text_bytes(f"{table.markdown()}\n\n{changes.markdown()}"),
        "table.csv": csv_bytes(results.table),
        "table.tex": text_bytes(result_table(results, for_paper=True).latex()),
        "table.parquet": parquet_bytes(results.table),
    }
