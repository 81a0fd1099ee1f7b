"""Where ledgers and reports lie, and what a compiled report is; quick to import."""

import difflib
import re
from dataclasses import dataclass
from pathlib import Path

from msd_sweeps.records.ledger import FILE_NAME, LedgerError


@dataclass(frozen=True)
class Report:
    """What was compiled."""

    table_text: str
    """The result table as plain text, readable at 100 columns."""
    paths: list[Path]
    """The files that were written, the page first."""


def find_ledger(name: str, storage: Path) -> Path:
    """The ledger of a sweep: its name under `storage`, its folder, or the ledger's own path.

    Raises LedgerError that names the nearest sweeps of the store.
    """
    for place in (storage / name, Path(name)):
        if place.is_file():
            return place
        if (place / FILE_NAME).is_file():
            return place / FILE_NAME
    known = sorted(path.parent.name for path in storage.glob(f"*/{FILE_NAME}"))
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    if close:
        hint = "did you mean " + " or ".join(close) + "?"
    elif known:
        hint = "it holds " + ", ".join(known[:10]) + ", ..." * (len(known) > 10)
    else:
        hint = "it holds no sweep"
    raise LedgerError(f"{name!r}: no such sweep in {storage}; {hint}")


def default_out(ledger_path: Path) -> Path:
    """`reports/<name>` for a ledger at `<...>/<name>/ledger.jsonl`: always a folder directly in reports."""
    name = re.sub(r"[^\w.+-]", "_", ledger_path.resolve().parent.name).lstrip(".") or "sweep"
    return Path("reports") / name[:100]
