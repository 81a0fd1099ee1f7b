"""What MLflow gets of a sweep after it has run: what it missed, the page, and the students of the winners."""

import sys
from contextlib import suppress
from pathlib import Path

from msd_sweeps.catalog.datasets import file_sha256
from msd_sweeps.records import kept, mlflow_publish
from msd_sweeps.records.header import header_of
from msd_sweeps.records.ledger import read
from msd_sweeps.records.mlflow_store import check_file, choose_uri, how_to_open
from msd_sweeps.records.mlflow_sync import Mirror, reason_of
from msd_sweeps.records.trial_record import TrialRecord, trials_of
from msd_sweeps.space.errors import InputError
from msd_sweeps.space.schema import Tracking
from msd_sweeps.space.secrets import without_secrets
from msd_sweeps.sweep.lock import locked
from msd_sweeps.sweep.options import Options
from msd_sweeps.sweep.resume import existing_ledger


def publish(options: Options, ledger: Path, trials: list[TrialRecord], page: Path) -> int:
    """Send MLflow the page and the winners' students, and register the best winner if asked for; the exit code."""
    header, uri = header_of(ledger), ""
    note, model = ledger.with_name("mlflow.published"), options.register
    try:
        uri = choose_uri(options.storage, header.launch.space.tracking.uri)
        state = f"{file_sha256(page)} {without_secrets(uri)}\n"
        with suppress(OSError):
            if note.read_text() == state and model is None:
                return 0
        writer = mlflow_publish.writer_of(header, options.storage)
        mlflow_publish.send_page(writer, page)
        winners = mlflow_publish.winners(trials)
        for trial in winners if header.launch.space.keep != "none" else ():
            place = options.kept_in / (trial.source or ledger.parent.name) / kept.FOLDER / trial.trial
            mlflow_publish.send_student(writer, trial, place)
        if model is not None:
            if not winners:
                raise InputError("no winner has finished, so there is none to register")
            version = mlflow_publish.register(writer, winners[0], model)
            print(f"registry  {model}, version {version}: {winners[0].label}, seed {winners[0].seed}")
        with suppress(OSError):  # without it all is compared again, which does no harm
            note.write_text(state)
        return 0
    except Exception as error:  # stores and networks raise errors of all kinds
        print(f"error: MLflow has not taken the report and the winners: {reason_of(error, uri)}", file=sys.stderr)
        return 1 if model is not None else 0


def sync_mlflow(options: Options) -> int:
    """Send MLflow what it has missed of a sweep that no driver runs; the exit code. Raises InputError, LedgerError."""
    if not options.name:
        raise InputError("--sync-mlflow: --name is needed, the sweep whose records are sent")
    path = existing_ledger(options, options.name, "--sync-mlflow")
    with locked(path.parent, options.name):
        history = list(read(path))
        header = header_of(path, history)
        tracking = header.launches[-1].space.tracking if header.launches else Tracking()
        uri = choose_uri(options.storage, tracking.uri)
        check_file(uri)
        mirror = Mirror(uri, tracking.experiment, options.name, path.parent, len(history), header.id, print)
        unsent = mirror.close(timeout=60.0, while_it_takes=True)
    print(f"MLflow    {how_to_open(uri)}")
    if unsent:
        why = f": {mirror.why}" if mirror.why else ""
        print(f"error: MLflow has not taken {unsent} records{why}; the same command tries again", file=sys.stderr)
        return 1
    page = options.reports / options.name / "report.html"
    if page.exists():
        publish(options, path, list(trials_of(history).values()), page)
    print("MLflow has every record of the ledger")
    return 0
