"""Where ledgers and reports lie, and what a compiled report is; quick to import."""

import json
import os
import re
import socket
from pathlib import Path
from urllib.parse import quote

from msd_sweeps.records.files import write_whole
from msd_sweeps.records.ledger import FILE_NAME, PACKED, LedgerError
from msd_sweeps.space.errors import nearest

_HEAD = """# Reports

One line a report, whatever came out: question, verdict, link. Written by `msd_sweeps.run` and `msd_sweeps.report`.
Each folder holds the page (`report.html`, to open in a browser; `report.md`, to read here), the table, the figures
with their numbers, and the data behind them.
"""
_PUBLISHED = """
[published/published.csv](published/published.csv) has figures from the literature with their sources.
"""


def find_ledger(name: str, storage: Path) -> Path:
    """The ledger of a sweep: its name under `storage`, its folder, or the ledger's own path.

    Raises LedgerError that names the nearest sweeps of the store.
    """
    for place in (storage / name, Path(os.path.expanduser(name))):
        for found in (place, place / FILE_NAME, place / f"{FILE_NAME}{PACKED}"):
            if os.path.isfile(found):  # False, too, for a name that no file can have
                return found
    known = [path.parent.name for path in storage.glob(f"*/{FILE_NAME}")]
    raise LedgerError(f"{name!r}: no such sweep in {storage}; {nearest(name, known)}")


def is_driven(folder: Path) -> bool:
    """Whether the process that wrote a sweep's lock lives, on this machine. The lock itself is not touched."""
    try:
        holder = re.match(r"process (\d+) on (.+) since ", (folder / "lock").read_text(encoding="utf-8"))
    except OSError:
        return False
    return holder is not None and holder[2] == socket.gethostname() and Path("/proc", holder[1]).exists()


def default_out(ledger_path: Path) -> Path:
    """`reports/<name>` for a ledger at `<...>/<name>/ledger.jsonl`: always a folder directly in reports."""
    name = re.sub(r"[^\w.+-]", "_", ledger_path.resolve().parent.name).lstrip(".") or "sweep"
    return Path("reports") / name[:100]


def write_index(reports: Path) -> None:
    """Rewrite `reports/README.md` from `reports/*/summary.json`; a summary that cannot be read is named as such."""
    from msd_sweeps.report.formats import for_markdown, short

    lines = ["| report | question | verdict |", "|---|---|---|"]
    for summary in sorted(reports.glob("*/summary.json")):
        folder = summary.parent.name
        try:
            told = json.loads(summary.read_text(encoding="utf-8"))
            question, verdict = str(told["question"]), str(told["verdict"])
        except (ValueError, KeyError, TypeError, OSError):
            question, verdict = "", "its summary.json cannot be read"
        link = f"[{for_markdown(short(folder))}]({quote(folder)}/report.md)"
        lines.append(f"| {link} | {for_markdown(short(question, 300))} | {for_markdown(short(verdict, 500))} |")
    if len(lines) == 2:
        lines = ["No sweep has a report here yet."]
    head = _HEAD + _PUBLISHED * (reports / "published" / "published.csv").is_file()
    write_whole(reports / "README.md", (head + "\n" + "\n".join([*lines, ""])).encode())
