"""The MLflow mirror of a ledger: a background thread sends records; a failure delays nobody and loses nothing.

One parent run per sweep and one nested run per trial. Every record can be sent twice without harm, so whatever a
server missed is sent again from the ledger.
"""

import contextlib
import json
import os
import queue
import shlex
import threading
import time
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from msd_sweeps.ledger import Record

DATABASE = "mlflow.db"
_STATUS = {"finished": "FINISHED", "stopped": "FINISHED", "interrupted": "KILLED"}
_OUTCOME = {"complete": "FINISHED", "failed": "FAILED"}
_REFUSALS = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "INVALID_STATE")
_LONGEST_WAIT_SECONDS = 30.0
_CLOSING_WAIT_SECONDS = 0.5
_LONGEST_VALUE = 500
_LONGEST_TAG = 5000
_CURSOR = "mlflow.synced"
HEADERS = "records"
"""The folder of the parent run's artifacts that has the records about the whole sweep, a file each."""
TRIAL_FILE = "trial.json"
"""The artifact of a trial's run that has its configuration."""


def default_uri(folder: Path) -> str:
    """The SQLite store in a sweep's folder."""
    return f"sqlite:///{(folder / DATABASE).resolve()}"


def choose_uri(folder: Path, configured: str | None) -> str:
    """The environment's store, else the space's, else the one in the sweep's folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or configured or default_uri(folder)


def how_to_open(uri: str) -> str:
    """The command that shows the runs, or the address of the page that does."""
    shown = without_secrets(uri)
    if urlsplit(uri).scheme in ("http", "https"):
        return shown
    return f"mlflow ui --backend-store-uri {shlex.quote(shown)}"


def without_secrets(uri: str) -> str:
    """A URI without user, password and query."""
    scheme, slashes, rest = uri.partition("://")
    if not slashes:
        return uri
    place, slash, path = rest.partition("/")
    return f"{scheme}://{place.rpartition('@')[2]}{slash}{path.partition('?')[0]}"


def hidden(text: str, uri: str) -> str:
    """A text, such as an error that quotes the address of a store, without the secrets of that address."""
    text = text.replace(uri, without_secrets(uri))
    parts = urlsplit(uri)
    values = [value for _, value in parse_qsl(parts.query)]
    for secret in filter(None, [parts.password, parts.query, *values]):
        text = text.replace(secret, "***")
    return text


class Mirror:
    """Sends ledger records to MLflow from a thread of its own; `put` never waits and never raises."""

    def __init__(self, uri: str, experiment: str, sweep: str, folder: Path):
        self.uri, self.experiment, self.sweep, self.folder = uri, experiment, sweep, folder
        self.trouble: str | None = None
        """Why the store does not take records at present."""
        self.refused: list[str] = []
        """Why single records were not taken, and never will be."""
        self._queue: queue.Queue[Record | None] = queue.Queue()
        self._closing = threading.Event()
        self._sent = 0
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def put(self, record: Record) -> None:
        """Queue one record of the ledger."""
        self._queue.put(record)

    def replay(self, records: Iterable[Record]) -> None:
        """Queue the records that were there before this process."""
        for record in records:
            self._queue.put(record)

    def close(self, timeout: float, while_it_takes: bool = False) -> int:
        """Wait for the queue to drain; the number of records that could not be sent.

        timeout: seconds in all, or since the store last took a record with `while_it_takes`.
        """
        self._closing.set()
        self._queue.put(None)
        sent = -1
        while sent != self._sent and self._thread.is_alive():
            sent = self._sent
            self._thread.join(timeout)
            if not while_it_takes:
                break
        if self._thread.is_alive():
            # The record in hand is out of the queue already, and the end mark is in it.
            return max(1, self._queue.qsize())
        if not self.refused:
            with contextlib.suppress(OSError):  # without it all is sent again, which does no harm
                (self.folder / _CURSOR).write_text(_cursor(self._sent, self.uri))
        return len(self.refused)

    def _work(self) -> None:
        writer: _Writer | None = None
        wait = _CLOSING_WAIT_SECONDS
        record = self._queue.get()
        while True:
            if record is None and not self._sent:
                return
            try:
                if writer is None:
                    writer = _Writer(self.uri, self.experiment, self.sweep, self.folder)
                if record is None:
                    writer.end_sweep()
                    return
                writer.write(record)
            except Exception as error:  # whatever a store or a network raises
                self.trouble = self._told(error)
                if writer is None or record is None or not _is_refusal(error):
                    # What the store took of the record is not known: look again before it is sent again.
                    writer = None
                    wait = self._pause(wait)
                    continue
                self.refused.append(self.trouble)
            self.trouble, wait = None, _CLOSING_WAIT_SECONDS
            self._sent += 1
            record = self._queue.get()

    def _pause(self, wait: float) -> float:
        """Wait until the store is tried again, for as long as the process lives; the wait after this one."""
        if self._closing.is_set():
            time.sleep(_CLOSING_WAIT_SECONDS)
            return wait
        self._closing.wait(wait)
        return min(2 * wait, _LONGEST_WAIT_SECONDS)

    def _told(self, error: Exception) -> str:
        text = hidden(str(error), self.uri).strip() or "no reason given"
        return f"{type(error).__name__}: {text.splitlines()[0]}"[:200]


def _is_refusal(error: Exception) -> bool:
    """Whether the store understood the record and does not want it; sent again it would be refused again."""
    if isinstance(error, OSError):  # a network's errors are among them, also those that are values
        return False
    return getattr(error, "error_code", None) in _REFUSALS or isinstance(
        error, LookupError | TypeError | ValueError
    )


def is_synced(folder: Path, records: int, uri: str) -> bool:
    """Whether the MLflow store at `uri` has taken that many records of the sweep in `folder`."""
    try:
        return (folder / _CURSOR).read_text() == _cursor(records, uri)
    except (OSError, UnicodeDecodeError):
        return False


def _cursor(records: int, uri: str) -> str:
    return f"{records} {without_secrets(uri)}\n"


def client_of(uri: str) -> Any:
    """An `MlflowClient` that gives up soon and sends nobody anything else."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")  # it sets its loggers up when it is imported
    from mlflow import MlflowClient

    return MlflowClient(uri)


class _Writer:
    """Writes records to one store; a record that is there already is passed over."""

    def __init__(self, uri: str, experiment: str, sweep: str, folder: Path):
        self.client = client_of(uri)
        self.sweep = sweep
        found = self.client.get_experiment_by_name(experiment)
        if found is None:
            artifacts = (
                (folder / "mlflow-artifacts").resolve().as_uri() if uri.startswith("sqlite:") else None
            )
            self.experiment = self.client.create_experiment(experiment, artifact_location=artifacts)
        else:
            self.experiment = found.experiment_id
            if found.lifecycle_stage == "deleted":
                self.client.restore_experiment(self.experiment)
        self.measured: dict[str, float] = {}
        """Metrics of the parent run."""
        self.runs: dict[str, str] = {}
        self.described: set[str] = set()
        """Trials whose run has its parameters."""
        self.epochs: dict[str, int] = {}
        self.states: dict[str, str] = {}
        self.outcome = "KILLED"
        """The status of the parent run when the sweep ends without saying how."""
        self.parent = self._find_runs()

    def _find_runs(self) -> str:
        """Know what the store holds of this sweep; the parent run, made if it is not there."""
        parent, token = None, None
        while True:
            page = self.client.search_runs(
                [self.experiment], filter_string=f"tags.`msd.sweep` = '{self.sweep}'", page_token=token
            )
            for run in page:
                trial = run.data.tags.get("msd.trial")
                if trial is None:
                    parent, self.measured = run.info.run_id, dict(run.data.metrics)
                    continue
                self.runs[trial] = run.info.run_id
                if run.data.params:
                    self.described.add(trial)
                self.epochs[trial] = int(run.data.metrics.get("epoch", 0))
                self.states[trial] = run.data.tags.get("msd.state", "")
            token = page.token
            if not token:
                break
        if parent is None:
            tags = {"msd.sweep": self.sweep, "msd.kind": "sweep"}
            parent = self.client.create_run(self.experiment, run_name=self.sweep, tags=tags).info.run_id
        else:
            self.client.update_run(parent, status="RUNNING")
        return parent

    def write(self, record: Record) -> None:
        handlers = {"sweep": self._sweep, "data": self._keep, "teacher": self._teacher, "start": self._start,
                    "epoch": self._epoch, "end": self._end, "close": self._close}  # fmt: skip
        handler = handlers.get(record["event"])
        if handler is not None:
            handler(record)

    def end_sweep(self) -> None:
        self.client.set_terminated(self.parent, self.outcome)

    def _keep(self, record: Record) -> None:
        """The whole record as a file, named so that sent again it replaces itself."""
        text = json.dumps(record)  # in the order of the space, which orders the rows of a table
        name = f"{round(record['time'] * 1000)}-{record['event']}-{zlib.crc32(text.encode()):08x}.json"
        self.client.log_text(self.parent, text, f"{HEADERS}/{name}")

    def _close(self, record: Record) -> None:
        self._keep(record)
        self.outcome = _OUTCOME.get(record["outcome"], "KILLED")

    def _sweep(self, record: Record) -> None:
        self._keep(record)
        self.outcome = "KILLED"
        for name in ("commit", "host", "device"):
            self.client.set_tag(self.parent, f"msd.{name}", str(record.get(name)))
        self.client.log_dict(self.parent, {"space": record["sweep"], "base": record["base"]}, "sweep.json")

    def _teacher(self, record: Record) -> None:
        self._keep(record)
        name, value = f"teacher_test_top1_{record['model']}", record["test_top1"]
        if self.measured.get(name) != value:
            self.client.log_metric(self.parent, name, value)
            self.measured[name] = value

    def _start(self, record: Record) -> None:
        from mlflow.entities import Param

        trial = record["trial"]
        if trial not in self.runs:
            self._create_run(record)
        elif record["attempt"] > 1 and self.states.get(trial) in ("", "interrupted"):
            self.client.update_run(self.runs[trial], status="RUNNING")
            self.client.set_tag(self.runs[trial], "msd.attempts", str(record["attempt"]))
        if trial not in self.described:
            params = [Param(key, str(value)[:_LONGEST_VALUE]) for key, value in _flat(record["config"])]
            self.client.log_dict(self.runs[trial], record["config"], TRIAL_FILE)
            self.client.log_batch(self.runs[trial], params=params)
            self.described.add(trial)

    def _create_run(self, record: Record) -> None:
        trial = record["trial"]
        tags = {
            "mlflow.parentRunId": self.parent, "msd.sweep": self.sweep, "msd.trial": trial,
            "msd.cell": record["cell"], "msd.phase": record["phase"], "msd.label": record["label"],
            "msd.number": str(record["number"]), "msd.attempts": str(record["attempt"]),
        }  # fmt: skip
        if record.get("source"):
            tags["msd.source"] = record["source"]
        values = json.dumps(record.get("values") or {})
        if len(values) <= _LONGEST_TAG:
            tags["msd.values"] = values
        run = self.client.create_run(
            self.experiment, start_time=int(record["time"] * 1000), tags=tags,
            run_name=f"{record['label'] or record['phase']} {record['number']}",
        )  # fmt: skip
        self.runs[trial], self.epochs[trial], self.states[trial] = run.info.run_id, 0, ""

    def _epoch(self, record: Record) -> None:
        from mlflow.entities import Metric

        trial, epoch = record["trial"], record["epoch"]
        if epoch <= self.epochs.get(trial, epoch):  # sent before, or the start of the trial was lost
            return
        stamp = int(record["time"] * 1000)
        numbers = {
            **record["metrics"],
            **{name: record[name] for name in ("epoch", "position", "slot", "seconds")},
        }
        metrics = [Metric(name, value, stamp, epoch) for name, value in numbers.items() if value is not None]
        self.client.log_batch(self.runs[trial], metrics=metrics)
        self.epochs[trial] = epoch

    def _end(self, record: Record) -> None:
        trial = record["trial"]
        if self.states.get(trial) not in ("", "interrupted"):  # sent before, or its start was lost
            return
        run = self.runs[trial]
        if record["reason"]:
            self.client.set_tag(run, "msd.reason", record["reason"])
        status = _STATUS.get(record["state"], "FAILED")
        self.client.set_terminated(run, status, end_time=int(record["time"] * 1000))
        # Last, for it says that all the rest was sent.
        self.client.set_tag(run, "msd.state", record["state"])
        self.states[trial] = record["state"]


def _flat(tree: Record, prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, json.dumps(value) if isinstance(value, list) else value
