"""From a ledger to the files of a report; this module loads nothing heavy."""

from pathlib import Path

from msd_sweeps.report.store import Report

__all__ = ["Report", "compile_report"]


def compile_report(
    ledger_path: Path, out: Path, *, compare: Path | None = None, published: Path | None = None
) -> Report:
    """Compile a ledger into the folder `out`: the same ledger gives the same bytes.

    `compare` is the ledger of another sweep to set beside this one, `published` a CSV of published figures.
    Raises LedgerError where there is no ledger, OSError where a file cannot be read or written.
    """
    from msd_sweeps.report import compiling

    return compiling.compile_report(ledger_path, out, compare=compare, published=published)
