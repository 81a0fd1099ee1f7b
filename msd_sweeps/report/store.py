"""Where ledgers and reports lie, and what a compiled report is; quick to import."""

import re
from dataclasses import dataclass
from pathlib import Path

from msd_sweeps.records.ledger import FILE_NAME, LedgerError
from msd_sweeps.space.errors import nearest


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
    known = [path.parent.name for path in storage.glob(f"*/{FILE_NAME}")]
    raise LedgerError(f"{name!r}: no such sweep in {storage}; {nearest(name, known)}")


def default_out(ledger_path: Path) -> Path:
    """`reports/<name>` for a ledger at `<...>/<name>/ledger.jsonl`: always a folder directly in reports."""
    name = re.sub(r"[^\w.+-]", "_", ledger_path.resolve().parent.name).lstrip(".") or "sweep"
    return Path("reports") / name[:100]
