"""The records of a ledger as MLflow runs: one parent run per sweep and one nested run per trial."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

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


@dataclass
class _Run:
    """What the store holds of a trial."""

    id: str
    epoch: int = 0
    state: str = ""
    has_params: bool = False


class Writer:
    """Writes records to one store; a record that is there already is passed over. Raises what MLflow raises."""

    def __init__(self, uri: str, experiment: str, sweep: str, folder: Path):
        """folder: where the artifacts lie, beside a SQLite store."""
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        self.client, self.sweep = MlflowClient(uri), sweep
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
        self.runs: dict[str, _Run] = {}
        """The runs of the trials, by their ids."""
        self.outcome = "KILLED"
        """The status of the parent run when the sweep ends without a record of its outcome."""
        self.parent = self._find_runs()

    def _find_runs(self) -> str:
        """Look up what the store holds of this sweep; the id of the parent run, which is made where it is absent."""
        parent: str | None = None
        token: str | None = ""
        while token is not None:
            query = f"tags.`msd.sweep` = '{self.sweep}'"
            page = self.client.search_runs([self.experiment], filter_string=query, page_token=token or None)
            for run in page:
                tags, metrics = run.data.tags, run.data.metrics
                if "msd.trial" in tags:
                    state, has_params = tags.get("msd.state", ""), bool(run.data.params)
                    epoch = int(metrics.get("epoch", 0))
                    self.runs[tags["msd.trial"]] = _Run(run.info.run_id, epoch, state, has_params)
                else:
                    parent, self.measured = run.info.run_id, dict(metrics)
            token = page.token or None
        if parent is None:
            tags = {"msd.sweep": self.sweep, "msd.kind": "sweep"}
            return str(self.client.create_run(self.experiment, run_name=self.sweep, tags=tags).info.run_id)
        self.client.update_run(parent, status="RUNNING")
        return str(parent)

    def write(self, record: Record) -> None:
        """Write one record."""
        match record["event"]:
            case "sweep":
                self.outcome = "KILLED"
                for name in ("commit", "host", "device"):
                    self.client.set_tag(self.parent, f"msd.{name}", str(record.get(name)))
                self.client.log_dict(self.parent, {"space": record["space"], "base": record["base"]}, "sweep.json")
            case "teacher":
                name, value = f"teacher_test_top1_{record['model']}", record["test_top1"]
                if self.measured.get(name) != value:
                    self.client.log_metric(self.parent, name, value)
                    self.measured[name] = value
            case "start":
                self._start(record)
            case "label":
                self.client.set_tag(self.runs[record["trial"]].id, "msd.label", record["label"])
            case "epoch":
                self._epoch(record)
            case "end":
                self._end(record)
            case "close":
                self.outcome = _OUTCOME.get(record["outcome"], "KILLED")

    def end_sweep(self) -> None:
        """Close the parent run."""
        self.client.set_terminated(self.parent, self.outcome)

    def _start(self, record: Record) -> None:
        from mlflow.entities import Param

        run = self.runs.get(record["trial"])
        if run is None:
            tags = {f"msd.{name}": record[name] for name in ("trial", "cell", "phase", "label")}
            tags |= {"mlflow.parentRunId": self.parent, "msd.sweep": self.sweep, "msd.attempts": str(record["attempt"])}
            if record.get("source"):
                tags["msd.source"] = record["source"]
            name, stamp = f"{record['label'] or record['phase']} {record['number']}", int(record["time"] * 1000)
            created = self.client.create_run(self.experiment, start_time=stamp, tags=tags, run_name=name)
            run = self.runs[record["trial"]] = _Run(created.info.run_id)
        elif record["attempt"] > 1 and run.state in _UNFINISHED:
            self.client.update_run(run.id, status="RUNNING")
            self.client.set_tag(run.id, "msd.attempts", str(record["attempt"]))
        if not run.has_params:
            texts = {
                key: json.dumps(value) if isinstance(value, list) else str(value)
                for key, value in flatten(record["config"]).items()
            }
            self.client.log_batch(run.id, params=[Param(key, text[:_LONGEST_VALUE]) for key, text in texts.items()])
            run.has_params = True

    def _epoch(self, record: Record) -> None:
        from mlflow.entities import Metric

        run, epoch = self.runs.get(record["trial"]), record["epoch"]
        if run is None or epoch <= run.epoch:  # the record of the trial's start was lost, or this one was sent before
            return
        numbers = {**record["metrics"], **{name: record[name] for name in ("epoch", "slot", "seconds")}}
        stamp = int(record["time"] * 1000)
        metrics = [Metric(name, value, stamp, epoch) for name, value in numbers.items() if value is not None]
        self.client.log_batch(run.id, metrics=metrics)
        run.epoch = epoch

    def _end(self, record: Record) -> None:
        run = self.runs.get(record["trial"])
        if run is None or run.state not in _UNFINISHED:
            return
        if record["reason"]:
            self.client.set_tag(run.id, "msd.reason", record["reason"])
        status = _STATUS.get(record["state"], "FAILED")
        self.client.set_terminated(run.id, status, end_time=int(record["time"] * 1000))
        # Last: this tag means that all the rest was sent.
        self.client.set_tag(run.id, "msd.state", record["state"])
        run.state = record["state"]
