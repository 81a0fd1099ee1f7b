"""The records of a ledger as MLflow runs: one parent run per sweep and one nested run per trial."""

import json
import os
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from msd_sweeps.records.ledger import Record

_STATUS = {"finished": "FINISHED", "stopped": "FINISHED", "interrupted": "KILLED"}
_OUTCOME = {"complete": "FINISHED", "failed": "FAILED"}
_LONGEST_VALUE = 500
_LONGEST_TAG = 5000
HEADERS = "records"
"""The folder of the parent run's artifacts that has the records about the whole sweep, a file each."""
TRIAL_FILE = "trial.json"
"""The artifact of a trial's run that has its configuration."""


def client_of(uri: str) -> Any:
    """An `MlflowClient` that gives up soon and sends nobody anything else."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # It sets its loggers up when it is imported. What fails is raised, and told by who asked; its logger prints it too.
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "CRITICAL")
    from mlflow import MlflowClient

    return MlflowClient(uri)


class Writer:
    """Writes records to one store; a record that is there already is passed over."""

    def __init__(self, uri: str, experiment: str, sweep: str, folder: Path):
        self.client = client_of(uri)
        self.sweep = sweep
        found = self.client.get_experiment_by_name(experiment)
        if found is None:
            artifacts = (folder / "mlflow-artifacts").resolve().as_uri() if uri.startswith("sqlite:") else None
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
        handlers = {
            "sweep": self._sweep,
            "data": self._keep,
            "teacher": self._teacher,
            "start": self._start,
            "epoch": self._epoch,
            "end": self._end,
            "label": self._label,
            "close": self._close,
        }
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

    def _label(self, record: Record) -> None:
        self.client.set_tag(self.runs[record["trial"]], "msd.label", record["label"])

    def _create_run(self, record: Record) -> None:
        trial = record["trial"]
        tags = {
            "mlflow.parentRunId": self.parent,
            "msd.sweep": self.sweep,
            "msd.trial": trial,
            "msd.cell": record["cell"],
            "msd.phase": record["phase"],
            "msd.label": record["label"],
            "msd.number": str(record["number"]),
            "msd.attempts": str(record["attempt"]),
        }
        if record.get("source"):
            tags["msd.source"] = record["source"]
        values = json.dumps(record.get("values") or {})
        if len(values) <= _LONGEST_TAG:
            tags["msd.values"] = values
        run = self.client.create_run(
            self.experiment,
            start_time=int(record["time"] * 1000),
            tags=tags,
            run_name=f"{record['label'] or record['phase']} {record['number']}",
        )
        self.runs[trial], self.epochs[trial], self.states[trial] = run.info.run_id, 0, ""

    def _epoch(self, record: Record) -> None:
        from mlflow.entities import Metric

        trial, epoch = record["trial"], record["epoch"]
        if epoch <= self.epochs.get(trial, epoch):  # sent before, or the start of the trial was lost
            return
        stamp = int(record["time"] * 1000)
        numbers = {**record["metrics"], **{name: record[name] for name in ("epoch", "position", "slot", "seconds")}}
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
