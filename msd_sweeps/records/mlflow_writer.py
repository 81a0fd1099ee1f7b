"""The records of a ledger as MLflow runs: one parent run per sweep and one nested run per trial.

Runs are found by the id of the sweep, not by its name, which two people's sweeps on one server may share.
"""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msd_sweeps.records.ledger import Record
from msd_sweeps.space.settings import flatten

_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",  # every failure is raised and shown by the caller
}
"""Read when MLflow is imported: it gives up soon and sends no telemetry."""
_STATUS = {"finished": "FINISHED", "stopped": "FINISHED", "interrupted": "KILLED"}
_OUTCOME = {"complete": "FINISHED", "failed": "FAILED"}
_LONGEST_VALUE = 500
_UNFINISHED = ("", "interrupted")
_NOT_MAIN = ("parameters", "tracking", "resources", "report", "keep", "imports")
"""Parts of a space that the parameters of the parent run leave out; `sweep.json` has them."""
_GROWING = ("seeds", "confirm.seeds", "search.num_samples", "search.time_budget")
"""Settings that later launches may change, as parameters of a run may not: they are tags."""


@dataclass
class _Run:
    """What the store holds of a trial, and what is about to be sent."""

    id: str  # empty until the run is created, which is when it is first sent
    epoch: int = 0
    state: str = ""
    has_params: bool = False
    metrics: list[Any] = field(default_factory=list)
    latest: list[Any] = field(default_factory=list)
    """Where the run stands and how fast it is, once a call (a metric costs MLflow 0.1 ms; the ledger has them all).

    The number of the epoch comes last and means that all before it was sent.
    """
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    begun: tuple[str, int] = ("", 0)
    """Of a run that is to be created: its name, and the time of its start in milliseconds since 1970."""
    status: tuple[str, int | None] | None = None
    """The new status of the run and the time of its end, in milliseconds since 1970."""


class Writer:
    """Writes records to one store; a record that is there already is passed over. Raises what MLflow raises.

    After an error the store may have taken a part of what was sent, which a new writer finds out.
    """

    def __init__(self, uri: str, experiment: str, sweep: str, key: str, artifacts: Path | None):
        """key: the id of the sweep. artifacts: where a new experiment keeps its files; None: the server decides."""
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient
        from mlflow.store.db import utils

        utils.MAX_RETRY_COUNT = 1  # of a database that cannot be opened: MLflow tries for 100 s, in silence
        self.client, self.sweep, self.key = MlflowClient(uri), sweep, key
        found = self.client.get_experiment_by_name(experiment)
        if found is None:
            place = artifacts.resolve().as_uri() if artifacts is not None else None
            self.experiment = self.client.create_experiment(experiment, artifact_location=place)
        else:
            self.experiment = found.experiment_id
            if found.lifecycle_stage == "deleted":
                self.client.restore_experiment(self.experiment)
        self.measured: dict[str, float] = {}
        """Metrics of the parent run."""
        self.runs: dict[str, _Run] = {}
        """The runs of the trials, by their ids."""
        self.outcome = "KILLED"
        """The status of the parent run when the sweep ends without a record of its outcome."""
        self.parent = self._find_runs()

    def _find_runs(self) -> _Run:
        """Look up what the store holds of this sweep; its parent run, which is made where it is absent."""
        parent: _Run | None = None
        token: str | None = ""
        # A copy of a sweep's folder under another name has the same id, and runs of its own.
        query = f"tags.`msd.sweep_id` = '{self.key}' and tags.`msd.sweep` = '{self.sweep}'"
        while token is not None:
            page = self.client.search_runs([self.experiment], filter_string=query, page_token=token or None)
            for run in page:
                tags, metrics = run.data.tags, run.data.metrics
                # One that was created with the tags of its end runs until its status is set.
                state = "" if run.info.status == "RUNNING" else tags.get("msd.state", "")
                found = _Run(run.info.run_id, int(metrics.get("epoch", 0)), state)
                found.has_params = bool(run.data.params)
                if "msd.trial" in tags:
                    self.runs[tags["msd.trial"]] = found
                else:
                    parent, self.measured = found, dict(metrics)
            token = page.token or None
        if parent is None:
            tags = {"msd.sweep": self.sweep, "msd.sweep_id": self.key, "msd.kind": "sweep"}
            return _Run(self.client.create_run(self.experiment, run_name=self.sweep, tags=tags).info.run_id)
        return parent

    def write(self, records: Iterable[Record]) -> None:
        """Write records in their order, with one call for the metrics, parameters and tags of each run."""
        touched = {"": self.parent}
        for record in records:
            self._take(record)
            trial = record.get("trial", "")
            if trial in self.runs:
                touched[trial] = self.runs[trial]
        for run in touched.values():
            self._send(run)

    def _take(self, record: Record) -> None:
        run = self.runs.get(record.get("trial", ""))
        match record["event"]:
            case "sweep":
                self._sweep(record)
            case "teacher":
                name, value = f"teacher_test_top1_{record['model']}", record["test_top1"]
                if self.measured.get(name) != value:
                    self.client.log_metric(self.parent.id, name, value)
                    self.measured[name] = value
            case "start":
                self._start(record, run)
            case "close":
                self.outcome = _OUTCOME.get(record["outcome"], "KILLED")
            case _ if run is None:  # no record of a trial, or the record of its start was lost
                return
            case "label":
                run.tags["msd.label"] = record["label"]
            case "retry":
                run.epoch, run.state = 0, ""
                run.tags["msd.state"] = ""
            case "epoch":
                self._epoch(record, run)
            case "end":
                self._end(record, run)

    def _send(self, run: _Run) -> None:
        """Send what has gathered of a run. Its status comes before the rest, and counts: see `_find_runs`."""
        from mlflow.entities import Metric, Param, RunTag

        if not run.id:
            name, start = run.begun
            created = self.client.create_run(self.experiment, start_time=start, tags=run.tags, run_name=name)
            run.id, run.tags = created.info.run_id, {}
        if run.status is not None:
            status, end = run.status
            if end is None:
                self.client.update_run(run.id, status=status)
            else:
                self.client.set_terminated(run.id, status, end_time=end)
            run.status = None
        metrics = [Metric(*each) for each in (*run.metrics, *run.latest)]
        if metrics or run.params or run.tags:
            params = [Param(*each) for each in run.params.items()]
            tags = [RunTag(*each) for each in run.tags.items()]
            self.client.log_batch(run.id, metrics, params, tags)  # which splits what is too much for one call
        run.metrics, run.latest, run.params, run.tags = [], [], {}, {}

    def end_sweep(self) -> None:
        """Close the parent run."""
        self.client.set_terminated(self.parent.id, self.outcome)

    def _sweep(self, record: Record) -> None:
        self.outcome = "KILLED"
        parent, space, base = self.parent, record["space"], record["base"]
        parent.status = ("RUNNING", None)
        parent.tags |= {f"msd.{name}": str(record.get(name)) for name in ("commit", "host", "device")}
        settings = _texts({name: value for name, value in space.items() if name not in _NOT_MAIN})
        for name, value in space.get("parameters", {}).items():  # in one piece: a label may be no name for MLflow
            settings[f"parameters.{name}"] = json.dumps(value)[:_LONGEST_VALUE]
        parent.tags |= {f"msd.{name}": settings.pop(name) for name in _GROWING if name in settings}
        if not parent.has_params:
            names = {"data": "name", "teacher": "model", "student": "model", "method": "name"}
            pair = {f"base.{part}.{name}": str(base[part][name]) for part, name in names.items() if part in base}
            parent.params, parent.has_params = settings | pair, True
        self.client.log_dict(parent.id, {"space": space, "base": base}, "sweep.json")

    def _start(self, record: Record, run: _Run | None) -> None:
        if run is None:
            tags = {f"msd.{name}": record[name] for name in ("trial", "cell", "phase", "label")}
            tags |= {"mlflow.parentRunId": self.parent.id, "msd.sweep": self.sweep, "msd.sweep_id": self.key}
            tags["msd.attempts"] = str(record["attempt"])
            if record.get("source"):
                tags["msd.source"] = record["source"]
            name, stamp = f"{record['label'] or record['phase']} {record['number']}", int(record["time"] * 1000)
            run = self.runs[record["trial"]] = _Run("", begun=(name, stamp), tags=tags)
        elif record["attempt"] > 1 and run.state in _UNFINISHED:
            run.status = ("RUNNING", None)
            run.tags["msd.attempts"] = str(record["attempt"])
        if not run.has_params:
            run.params, run.has_params = _texts(record["config"]), True

    def _epoch(self, record: Record, run: _Run) -> None:
        epoch = record["epoch"]
        if epoch <= run.epoch:  # this one was sent before
            return
        stamp = int(record["time"] * 1000)
        values = {name: value for name, value in record["metrics"].items() if value is not None}
        times = {name: values.pop(name) for name in list(values) if name.endswith("_seconds")}
        run.metrics += [(name, value, stamp, epoch) for name, value in values.items()]
        standing = times | {name: record[name] for name in ("slot", "seconds", "epoch")}
        run.latest = [(name, value, stamp, epoch) for name, value in standing.items()]
        run.epoch = epoch

    def _end(self, record: Record, run: _Run) -> None:
        if run.state not in _UNFINISHED:
            return
        if record["reason"]:
            run.tags["msd.reason"] = record["reason"]
        run.status = (_STATUS.get(record["state"], "FAILED"), int(record["time"] * 1000))
        run.state = run.tags["msd.state"] = record["state"]


def _texts(tree: Record) -> dict[str, str]:
    """The settings of a tree as parameters of a run, by their dotted paths; those without a value are left out."""
    texts = {key: json.dumps(value) if isinstance(value, list) else str(value) for key, value in flatten(tree).items()}
    return {key: text[:_LONGEST_VALUE] for key, text in texts.items() if text != "None"}
