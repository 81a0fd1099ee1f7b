"""What MLflow gets of a finished sweep besides its records: the page, and the students of the winners."""

import sys
from contextlib import suppress
from pathlib import Path

from msd_sweeps.catalog.datasets import file_sha256
from msd_sweeps.records import kept, mlflow_publish
from msd_sweeps.records.header import header_of
from msd_sweeps.records.mlflow_store import choose_uri
from msd_sweeps.records.mlflow_sync import reason_of
from msd_sweeps.records.trial_record import TrialRecord
from msd_sweeps.space.errors import InputError
from msd_sweeps.space.secrets import without_secrets
from msd_sweeps.sweep.options import Options


def publish(options: Options, ledger: Path, trials: list[TrialRecord], page: Path) -> int:
    """Send the page and the winners' students, and register the best winner where that is asked for; the exit code."""
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
