"""What is done once a sweep is complete: its report is compiled, and the user learns where everything is."""

import sys

from msd_sweeps.records import ledger
from msd_sweeps.records.header import Header
from msd_sweeps.records.mlflow_sync import Mirror, choose_uri, how_to_open
from msd_sweeps.space.errors import InputError
from msd_sweeps.space.schema import Tracking
from msd_sweeps.sweep.lock import locked
from msd_sweeps.sweep.options import Options
from msd_sweeps.sweep.resume import existing_ledger
from msd_sweeps.sweep.run_state import JOURNAL, Run

_SYNC_SECONDS = 60.0


def finish(run: Run) -> int:
    """Compile the report of a complete sweep and print where everything is; the exit code."""
    from msd_sweeps.report.compiling import compile_report
    from msd_sweeps.report.store import write_index

    options, name = run.options, run.sweep.name
    try:
        report = compile_report(run.ledger.path, options.reports / name)
        write_index(options.reports)
    except OSError as error:
        again = options.resume_command(name)
        print(f"error: {error}\nThe sweep is complete; this compiles its report:\n  {again}", file=sys.stderr)
        return 1
    print(f"\n{report.table_text}\n")
    if run.copied:
        print(f"{run.copied} trials were taken over from other sweeps of {options.kept_in}/")
    elif not run.begun:
        print("everything was there already; nothing was trained")
    if run.unsent:
        sync = options.command("--sync-mlflow", name)
        print(f"MLflow has not taken {run.unsent} records yet; this sends them again:\n  {sync}")
    if options.store is not None:
        print(f"kept in   {options.store / name}")
    print(f"ledger    {run.ledger.path}")
    print(f"MLflow    {how_to_open(choose_uri(run.folder, run.sweep.space.tracking.uri))}")
    if run.sweep.space.design == "search":
        print(f"Optuna    optuna-dashboard {run.folder / JOURNAL}    (pip install optuna-dashboard)")
    print(f"report    {report.paths[0]}")
    return 0 if run.is_stored else 1


def sync_mlflow(options: Options) -> int:
    """Send MLflow what it has missed of a sweep's ledger; the exit code.

    Raises InputError while a driver runs the sweep, LedgerError, StoreError.
    """
    if not options.name:
        raise InputError("--sync-mlflow: --name is needed, the sweep whose records are sent")
    path = existing_ledger(options, options.name, "--sync-mlflow")
    with locked(path.parent, options.name):
        header, count = Header(path), 0
        for record in ledger.read(path):
            count += 1
            header.add(record)
        tracking = header.launches[-1].space.tracking if header.launches else Tracking()
        uri = choose_uri(path.parent, tracking.uri)
        mirror = Mirror(uri, tracking.experiment, options.name, path.parent, count)
        unsent = mirror.close(_SYNC_SECONDS, while_it_takes=True)
    print(f"MLflow    {how_to_open(uri)}")
    if unsent:
        print(f"error: MLflow has not taken {unsent} records; the same command tries again", file=sys.stderr)
        return 1
    print("MLflow has every record of the ledger")
    return 0
