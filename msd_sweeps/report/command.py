"""Compile a sweep's ledger into a report: `python -m msd_sweeps.report NAME`."""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from msd_sweeps.records.ledger import FILE_NAME, LedgerError
from msd_sweeps.records.object_store import Place, place
from msd_sweeps.report.store import Report, default_out, find_ledger

__all__ = ["Report", "compile_report", "main"]

PUBLISHED = Path("reports/published/published.csv")


def compile_report(
    ledger_path: Path,
    out: Path,
    *,
    compare: Path | None = None,
    published: Path | None = None,
    best_epoch: bool = False,
) -> Report:
    """Compile a ledger into the folder `out`: the same ledger gives the same bytes.

    `compare` is the ledger of another sweep to set beside this one, `published` a CSV of published figures;
    `best_epoch` adds the best test epoch, marked. Raises LedgerError where there is no ledger, OSError where a file
    cannot be read or written.
    """
    from msd_sweeps.report import compiling

    return compiling.compile_report(ledger_path, out, compare=compare, published=published, best_epoch=best_epoch)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m msd_sweeps.report",
        description="Compile a sweep's ledger into report.html, report.md, table.{md,csv,tex,parquet}, figures "
        "(SVG, PDF and their numbers as CSV), trials.parquet and history.parquet. The same ledger gives the same "
        "bytes.",
        epilog="example: python -m msd_sweeps.report scales --published",
    )
    parser.add_argument("name", metavar="NAME", help="a sweep in the storage folder, or a path to its folder or ledger")
    parser.add_argument(
        "--storage",
        type=place,
        default=Path("runs"),
        metavar="DIR|URI",
        help="folder of the sweeps, or s3://BUCKET/FOLDER and the like (default: runs)",
    )
    parser.add_argument("--out", type=Path, help="folder to write (default: reports/<name>)")
    parser.add_argument(
        "--compare", metavar="OTHER", help="set another sweep beside this one, over the cells that both have"
    )
    parser.add_argument(
        "--published",
        nargs="?",
        type=Path,
        const=PUBLISHED,
        metavar="CSV",
        help=f"set published figures for the same pair and method beside ours (default file: {PUBLISHED})",
    )
    parser.add_argument(
        "--best-epoch",
        action="store_true",
        help="show the best test epoch beside the last, marked as selected on the test set",
    )
    parser.add_argument(
        "--from-mlflow", metavar="URI", help="compile from what this MLflow store holds of NAME, instead of a ledger"
    )
    parser.add_argument(
        "--experiment",
        default="msd_sweeps",
        metavar="NAME",
        help="with --from-mlflow, the experiment that the sweep was sent to (msd_sweeps)",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Gives its exit code: 0, or 2 for input that cannot be used, with the reason on standard error."""
    options = _parser().parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory() as folder:
            if options.from_mlflow:
                ledger_path = _read_back(options, Path(folder) / FILE_NAME)
                out = options.out or default_out(Path(options.name) / FILE_NAME)
            else:
                ledger_path = _find(options.name, options.storage, Path(folder))
                out = options.out or default_out(ledger_path)
            compare = _find(options.compare, options.storage, Path(folder)) if options.compare else None
            published = options.published
            report = compile_report(
                ledger_path, out, compare=compare, published=published, best_epoch=options.best_epoch
            )
            if options.out is None:
                from msd_sweeps.report.index import write_index

                write_index(out.parent)
    except (LedgerError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(report.table_text)
    print(f"\nThe report is {report.paths[0]}; {len(report.paths)} files lie in {out}.")
    return 0


def _find(name: str, storage: Place, folder: Path) -> Path:
    """The ledger of a sweep, fetched into `folder` from an object store. Raises LedgerError, StoreError."""
    if isinstance(storage, Path):
        return find_ledger(name, storage)
    from msd_sweeps.records.ledger_copy import fetch

    path = folder / Path(name).name / FILE_NAME
    fetch(storage / name, path)
    if not path.exists():
        raise LedgerError(f"{name!r}: no such sweep in {storage}")
    return path


def _read_back(options: argparse.Namespace, path: Path) -> Path:
    """A ledger written from what an MLflow store holds. Raises LedgerError."""
    from msd_sweeps.records.ledger import write
    from msd_sweeps.records.mlflow_runs import read_back

    write(path, read_back(options.from_mlflow, options.experiment, options.name))
    return path


if __name__ == "__main__":
    sys.exit(main())
