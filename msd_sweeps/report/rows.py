"""Every row of a table as a base file: `python -m msd_sweeps.train --base reports/NAME/rows/ROW.yaml` trains it."""

import re
from pathlib import Path
from typing import Any

from msd_sweeps.report.cells import Cell
from msd_sweeps.report.document import Column, Link, Table
from msd_sweeps.report.formats import short, text_bytes
from msd_sweeps.report.results import Results
from msd_sweeps.space.own_code import Source
from msd_sweeps.space.strict_yaml import dump

ROWS = "rows"


def base_files(results: Results) -> dict[str, bytes]:
    """A base for each row with trials, by its path in the report; it has every setting but the seed.

    Beside them lie the sources of one's own code that they import.
    """
    paths = row_paths(results)
    sources = [Source(*source) for source in results.frames.header.launch.own.get("sources", ())]
    files = {f"{ROWS}/{source.file}": source.text.encode() for source in sources if source.path}
    imports = [source.file for source in sources if source.path] + [one.module for one in sources if not one.path]
    for cell in results.cells:
        if cell.trial is not None:
            files[paths[cell.label]] = text_bytes(_base(cell, results.frames.sweep.name, imports))
    return files


def row_paths(results: Results) -> dict[str, str]:
    """The base file of each row with trials, by its label: a path in the report."""
    paths: dict[str, str] = {}
    for cell in results.cells:
        if cell.trial is not None:
            name = re.sub(r"[^a-z0-9.]+", "_", cell.label.lower()).strip("_.")[:80] or cell.cell
            path = f"{ROWS}/{name}.yaml"
            paths[cell.label] = path if path not in paths.values() else f"{ROWS}/{name}_{cell.cell[:6]}.yaml"
    return paths


def row_table(results: Results) -> Table:
    """What each row changes in the base, its base file, and how to find its runs in MLflow."""
    paths = row_paths(results)
    columns: list[Column] = [
        ("row", False, lambda cell: short(cell.label)),
        ("changes", False, lambda cell: short(cell.summary, 300)),
        ("as a base", False, lambda cell: Link.to(paths[cell.label], "file") if cell.label in paths else ""),
        ("MLflow", False, lambda cell: cell.cell),
    ]
    sweep = short(results.frames.sweep.name)
    note = f"The runs of a row have in MLflow the tags msd.sweep = {sweep} and msd.cell = the hash in the last column."
    return Table(results.rows, columns, [note])


def _base(cell: Cell, sweep: str, imports: list[str]) -> str:
    assert cell.trial is not None
    tree: dict[str, Any] = {"imports": imports} if imports else {}
    left_out: Any = {"imports": True, "seed": True, "data": {"content"}}
    tree |= cell.trial.model_dump(mode="json", exclude=left_out, exclude_none=True)
    seeds = ", ".join(map(str, sorted(cell.values))) or "none"
    lines = [f"# The row '{cell.label}' of the sweep {sweep}; finished seeds: {seeds} (--set seed=N)."]
    for section, key, what in (("data", "root", "FOLDER"), ("teacher", "weights", "FILE")):
        place = tree[section].get(key)
        if place is not None and Path(place).is_absolute():  # of the machine that ran
            lines.append(f"# It needs --set {section}.{key}={what}, which was {Path(place).name}.")
            del tree[section][key]
    return "\n".join([*lines, dump(tree)])
