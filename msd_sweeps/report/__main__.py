"""Compile a sweep's ledger into a report: `python -m msd_sweeps.report NAME`."""

import argparse
import gzip
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from msd_sweeps.records.files import write_whole
from msd_sweeps.records.ledger import FILE_NAME, PACKED, LedgerError
from msd_sweeps.records.object_store import Place, local_folder, place
from msd_sweeps.report.store import default_out, find_ledger, is_driven, write_index
from msd_sweeps.space.console import run_command
from msd_sweeps.space.errors import InputError, printable

PUBLISHED = Path("reports/published/published.csv")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Gives its exit code: 0, or 2 for input that cannot be used, with the reason on standard error."""
    parser = argparse.ArgumentParser(
        prog="python -m msd_sweeps.report",
        description="Compile a sweep's ledger into report.html, report.md, table.{md,csv,tex,parquet}, figures (SVG, "
        "PDF and their numbers as CSV), report.json, trials.parquet and history.parquet. The same ledger gives "
        "the same bytes, also while the sweep runs.",
        epilog="example: python -m msd_sweeps.report scales --published",
    )
    storage = "folder of the sweeps, or s3://BUCKET/FOLDER and the like (default: runs)"
    published = f"set published figures for the same pair and method beside ours (default file: {PUBLISHED})"
    add = parser.add_argument
    add("name", metavar="NAME", help="a sweep in the storage folder, or a path to its folder or ledger")
    add("--storage", type=place, default=Path("runs"), metavar="DIR|URI", help=storage)
    add("--out", type=local_folder, help="folder to write (default: reports/<name>)")
    add("--keep-ledger", action="store_true", help="keep the ledger, compressed, beside the report")
    add("--compare", metavar="OTHER", help="set another sweep beside this one, over the cells that both have")
    add("--published", nargs="?", type=local_folder, const=PUBLISHED, metavar="CSV", help=published)
    options = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory() as folder:
            ledger_path = _find(options.name, options.storage, Path(folder))
            out = options.out or default_out(ledger_path)
            compare = _find(options.compare, options.storage, Path(folder)) if options.compare else None
            # Imported late: it loads pandas and matplotlib, which neither help nor a wrong name needs.
            from msd_sweeps.report.compiling import compile_report

            report = compile_report(ledger_path, out, compare=compare, published=options.published)
            if options.keep_ledger and ledger_path.suffix != PACKED:
                write_whole(out / f"{FILE_NAME}{PACKED}", gzip.compress(ledger_path.read_bytes(), mtime=0))
            if options.out is None:
                write_index(out.parent)
    except (InputError, LedgerError, OSError) as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        return 2
    print(report.table_text)
    if not report.progress.is_whole:
        state = "running" if is_driven(ledger_path.parent) else "not running here"
        print(f"\n{state}, {report.progress}")
    print(f"\nThe report is {report.paths[0]}; {len(report.paths)} files lie in {out}.")
    return 0


def _find(name: str, storage: Place, folder: Path) -> Path:
    """The ledger of a sweep, fetched into `folder` from an object store. Raises LedgerError, StoreError."""
    if isinstance(storage, Path):
        return find_ledger(name, storage)
    from msd_sweeps.records.stored_ledger import StoredLedger

    path = folder / Path(name).name / FILE_NAME
    StoredLedger(storage / name).fetch(path)
    if not path.exists():
        raise LedgerError(f"{name!r}: no such sweep in {storage}")
    return path


if __name__ == "__main__":
    sys.exit(run_command(main))
