"""The records of a sweep read back from MLflow, so that a report needs no ledger: what `tracking.Mirror` has sent."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msd_sweeps.records.ledger import LedgerError, Record
from msd_sweeps.records.mlflow_sync import hidden, without_secrets
from msd_sweeps.records.mlflow_writer import HEADERS, TRIAL_FILE, client_of
from msd_sweeps.space.trial import nearest

_OF_EPOCH = ("epoch", "position", "slot", "seconds")
"""Numbers of an epoch record that are no metrics of the student."""


def read_back(uri: str, experiment: str, sweep: str) -> Iterator[Record]:
    """What an MLflow store holds of a sweep, as records of a ledger: those about the whole sweep, then each trial's.

    The store at `uri` is only read. An epoch that was trained again after a fault stands there once. Raises
    LedgerError, which shows no password, where there is no such store, experiment or sweep.
    """
    try:
        yield from _read_back(uri, experiment, sweep)
    except LedgerError:
        raise
    except Exception as error:  # whatever a store or a network raises
        text = hidden(str(error), uri).strip()
        told = (text or type(error).__name__).splitlines()[0]
        raise LedgerError(f"{without_secrets(uri)}: the MLflow store cannot be read: {told[:300]}") from error


def _read_back(uri: str, experiment: str, sweep: str) -> Iterator[Record]:
    place = without_secrets(uri)
    scheme, _, path = uri.partition(":///")
    if scheme == "sqlite" and not Path(path).is_file():  # MLflow would make one
        raise LedgerError(f"{place}: no such file; give the URI of the store that the sweep was sent to")
    client = client_of(uri)
    found = client.get_experiment_by_name(experiment)
    if found is None:
        known = [each.name for each in client.search_experiments()]
        raise LedgerError(f"{place}: no experiment {experiment!r} in this store; {nearest(experiment, known)}")
    runs = list(_runs(client, found.experiment_id))
    mine = [run for run in runs if run.data.tags.get("msd.sweep") == sweep]
    if not mine:
        known = sorted({run.data.tags["msd.sweep"] for run in runs if "msd.sweep" in run.data.tags})
        raise LedgerError(f"{place}: no sweep {sweep!r} in the experiment {experiment!r}; {nearest(sweep, known)}")
    parents = [run for run in mine if "msd.trial" not in run.data.tags]
    trials = [run for run in mine if "msd.trial" in run.data.tags]
    with tempfile.TemporaryDirectory() as folder:
        headers = [record for run in parents for record in _headers(client, run, folder)]
        if not any(record["event"] == "sweep" for record in headers):
            raise LedgerError(
                f"{place}: the sweep {sweep!r} has no description there; send it again with "
                f"python -m msd_sweeps.run --sync-mlflow --name {sweep}"
            )
        yield from headers
        for run in sorted(trials, key=lambda run: (int(run.data.tags.get("msd.number", 0)), run.info.start_time)):
            yield from _trial(client, run, folder)


def _runs(client: Any, experiment: str) -> Iterator[Any]:
    token = None
    while True:
        page = client.search_runs([experiment], page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _headers(client: Any, run: Any, folder: str) -> list[Record]:
    """The records about the whole sweep, in the order of their times."""
    listed = client.list_artifacts(run.info.run_id, HEADERS)
    records = [_json(client, run, artifact.path, folder) for artifact in listed]
    return sorted(records, key=lambda record: (record["time"], record["event"]))


def _json(client: Any, run: Any, path: str, folder: str) -> Record:
    return dict(json.loads(Path(client.download_artifacts(run.info.run_id, path, folder)).read_text()))


def _trial(client: Any, run: Any, folder: str) -> Iterator[Record]:
    """Start, epochs and end of one trial."""
    tags, config = run.data.tags, _json(client, run, TRIAL_FILE, folder)
    trial, attempt = tags["msd.trial"], int(tags.get("msd.attempts", 1))
    source = {"source": tags["msd.source"]} if "msd.source" in tags else {}
    yield {
        "event": "start",
        "time": run.info.start_time / 1000,
        "trial": trial,
        "attempt": attempt,
        "cell": tags["msd.cell"],
        "label": tags.get("msd.label", ""),
        "phase": tags["msd.phase"],
        "number": int(tags.get("msd.number", 0)),
        "seed": config["seed"],
        "config": config,
        "values": json.loads(tags.get("msd.values", "{}")),
        **source,
    }
    epochs: dict[int, dict[str, float]] = {}
    times: dict[int, float] = {}
    for name in run.data.metrics:
        for point in client.get_metric_history(run.info.run_id, name):
            epochs.setdefault(point.step, {})[name] = point.value
            times[point.step] = point.timestamp / 1000
    for epoch, numbers in sorted(epochs.items()):
        metrics = {name: value for name, value in numbers.items() if name not in _OF_EPOCH}
        yield {
            "event": "epoch",
            "time": times[epoch],
            "trial": trial,
            "attempt": attempt,
            "epoch": epoch,
            "position": int(numbers.get("position", epoch - 1)),
            "slot": int(numbers.get("slot", 0)),
            "seconds": numbers.get("seconds", 0.0),
            "metrics": metrics,
        }
    if "msd.state" in tags:
        yield {
            "event": "end",
            "time": (run.info.end_time or run.info.start_time) / 1000,
            "trial": trial,
            "attempt": attempt,
            "state": tags["msd.state"],
            "reason": tags.get("msd.reason", ""),
        }
