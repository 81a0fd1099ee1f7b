"""Files of a finished sweep in MLflow: the page, the winners' students, and a student in the model registry."""

import json
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path

from msd_sweeps.catalog.datasets import file_sha256
from msd_sweeps.records import kept
from msd_sweeps.records.header import Header
from msd_sweeps.records.mlflow_store import artifacts_of, check_file, choose_uri
from msd_sweeps.records.mlflow_writer import Writer
from msd_sweeps.records.object_store import Place
from msd_sweeps.records.trial_record import TrialRecord
from msd_sweeps.space.errors import InputError
from msd_sweeps.space.schema import Tracking

_STUDENT = "student"
"""The folder of a trial's student among the artifacts of its run."""


def checked_model(name: str) -> str:
    """The name of a registered model. Raises InputError."""
    if re.fullmatch(r"[^/:.'\"\s][^/:'\"\n]{0,199}", name):
        return name
    raise InputError(f"--register {name!r}: expected a name for the model registry, without / : and quotes")


def writer_of(header: Header, storage: Path) -> Writer:
    """A writer to the store that has the runs of a sweep. Raises InputError, and what MLflow raises."""
    tracking = header.launches[-1].space.tracking if header.launches else Tracking()
    uri, name = choose_uri(storage, tracking.uri), header.path.parent.name
    check_file(uri)
    return Writer(uri, tracking.experiment, name, header.id or name, artifacts_of(uri, storage))


def winners(trials: Iterable[TrialRecord]) -> list[TrialRecord]:
    """The finished trials of a search's winners, the best winner first, each by seed."""
    found = [trial for trial in trials if trial.state == "finished" and trial.phase == "confirm" and trial.search_trial]
    ranks = {trial.trial: re.search(r"\bwinner (\d+)", trial.label) for trial in found}
    return sorted(found, key=lambda trial: (int(rank[1]) if (rank := ranks[trial.trial]) else 0, trial.seed))


def send_page(writer: Writer, page: Path) -> None:
    """The page of a report as an artifact of the sweep's run, unless the same is there. Raises what MLflow raises."""
    digest = file_sha256(page)
    if writer.client.get_run(writer.parent.id).data.tags.get("msd.page") != digest:
        writer.client.log_artifact(writer.parent.id, str(page))
        writer.client.set_tag(writer.parent.id, "msd.page", digest)


def send_student(writer: Writer, trial: TrialRecord, folder: Place) -> None:
    """The weights in `folder`, their card and the configuration as artifacts of the trial's run, unless they are there.

    Raises InputError where no weights are kept or MLflow has no run of the trial, and what MLflow raises.
    """
    run = writer.runs.get(trial.trial)
    if run is None:
        raise InputError(f"MLflow has no run of the trial {trial.trial}; send it with run --sync-mlflow first")
    try:
        card = kept.shareable(kept.read_card(folder), trial)
        if writer.client.get_run(run.id).data.tags.get("msd.weights") == card["sha256"]:
            return
        weights = (folder / kept.WEIGHTS).read_bytes()
    except (FileNotFoundError, ValueError) as error:
        raise InputError(f"{folder}: no weights are kept here (keep: none?)") from error
    with tempfile.TemporaryDirectory() as local:
        for name, content in (
            (kept.WEIGHTS, weights),
            (kept.CARD, json.dumps(card, indent=1).encode()),
            ("config.json", json.dumps(card["config"], indent=1).encode()),
        ):
            (Path(local) / name).write_bytes(content)
        writer.client.log_artifacts(run.id, local, _STUDENT)
    writer.client.set_tag(run.id, "msd.weights", card["sha256"])


def register(writer: Writer, trial: TrialRecord, model: str, file: Path | None = None) -> str:
    """The student of a trial, which was sent, as a version of a registered model; the version's number.

    A trial that has a version of this model keeps it. file: one more file for the student's artifacts. Raises what
    MLflow raises.
    """
    client, run = writer.client, writer.runs[trial.trial].id
    if file is not None:
        client.log_artifact(run, str(file), _STUDENT)
    if not client.search_registered_models(f"name = '{model}'"):
        client.create_registered_model(model)
    for version in client.search_model_versions(f"name = '{model}'"):
        if version.run_id == run:
            return str(version.version)
    source = f"{client.get_run(run).info.artifact_uri}/{_STUDENT}"
    tags = {"msd.sweep": writer.sweep, "msd.trial": trial.trial, "msd.label": trial.label, "msd.seed": str(trial.seed)}
    return str(client.create_model_version(model, source, run_id=run, tags=tags).version)
