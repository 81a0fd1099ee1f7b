"""A ledger as pandas frames: one row a trial, one row an epoch."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from msd_sweeps.records import ledger
from msd_sweeps.records.header import Header
from msd_sweeps.records.ledger import Record
from msd_sweeps.records.predictions import Predictions
from msd_sweeps.records.trial_record import TrialRecord, trials_of
from msd_sweeps.report.images import Images, images_of
from msd_sweeps.space.designs import Sweep
from msd_sweeps.space.settings import flatten
from msd_sweeps.space.trial import COSTS, Metric, student_cost

_TEXTS = ("trial", "label", "phase", "cell", "state", "reason", "traceback", "source")
_RECORDED = ("trial", "number", "label", "phase", "cell", "seed", "state", "reason", "traceback", "source", "attempts")
"""Columns of `trials` that are fields of a TrialRecord."""
_EPOCH_COLUMNS = {"code": "int64", "epoch": "int64", "slot": "int64", "seconds": "float64"}
"""Columns of every epoch, `code` standing for its trial, and their types; metrics follow."""
_TAKEN = {*_RECORDED, *_EPOCH_COLUMNS, "epochs", "lost_seconds", "started", "ended"}
"""Names that a metric cannot have as a column; it is `metric_NAME` then."""
_CHUNK = 20_000
"""Epochs that are kept as dictionaries at once: a million would need a gigabyte."""


@dataclass(frozen=True)
class Frames:
    """A sweep as data.

    `trials` has a row a trial: its records, the metrics of its last epoch (`test_top1` in percent, losses
    in nats), the sums of `seconds` (its share of its slot's time) and of `alone_seconds` (what it costs alone), and
    its configuration under dotted paths (lists as JSON text); also the student's cost where the space has it as a
    metric. `history` has a row an epoch: `trial`, `epoch` from 1, `slot`, `seconds`, and the metrics. Times are
    seconds since 1970.
    """

    trials: pd.DataFrame
    history: pd.DataFrame
    header: Header
    """What the ledger says about the sweep as a whole."""
    records: dict[str, TrialRecord]
    """What was planned for each trial and how it ended, by its id; its epochs are in `history` alone."""
    sweep: Sweep
    """The sweep as it was launched last."""
    predicted: dict[str, Predictions]
    """What reported trials predicted for the test images, by the ids of trials, as the ledger keeps it."""

    @property
    def predictions(self) -> Images:
        """What reported trials and teachers predicted for every test image, as arrays."""
        return images_of(self.predicted, {one.key: one.predictions for one in self.header.teachers if one.predictions})

    @property
    def metric(self) -> Metric:
        """What a search chooses by; of several metrics the first."""
        return self.sweep.space.metrics[0]

    @property
    def device(self) -> str:
        """The devices of all launches."""
        return ", ".join(dict.fromkeys(launch.device for launch in self.header.launches))


def read(path: Path) -> Frames:
    """The frames of a ledger. Raises LedgerError where it is absent, of another layout, or has no launch."""
    header = Header(path)
    started: dict[str, tuple[int, float]] = {}
    ended: dict[str, float] = {}
    rows: list[Record] = []
    predicted: dict[str, Predictions] = {}
    chunks: list[pd.DataFrame] = []

    def of_trials() -> Iterator[Record]:
        """The records that start and end trials; the others are gathered."""
        for record in ledger.read(path, header.damaged):
            if record["event"] == "epoch":
                if "predictions" in record:
                    predicted[record["trial"]] = record["predictions"]
                if record["trial"] in started:
                    rows.append(_row(started[record["trial"]][0], record))
                if len(rows) == _CHUNK:
                    chunks.append(pd.DataFrame(rows))
                    rows.clear()
            elif not header.add(record):
                if record["event"] == "start":
                    started.setdefault(record["trial"], (len(started), record["time"]))
                elif record["event"] == "end":
                    ended[record["trial"]] = record["time"]
                yield record

    found = trials_of(of_trials())
    none = pd.DataFrame(columns=list(_EPOCH_COLUMNS)).astype(_EPOCH_COLUMNS)
    epochs = pd.concat([none, *chunks, pd.DataFrame(rows)], ignore_index=True)
    epochs = epochs[[*_EPOCH_COLUMNS, *sorted(set(epochs) - set(_EPOCH_COLUMNS))]]
    # An epoch that is reported again replaces itself and all that came after it.
    lowest_from_here = epochs[::-1].groupby("code")["epoch"].cummin()
    lowest_later = lowest_from_here.groupby(epochs["code"]).shift().sort_index()
    kept = epochs[~(epochs["epoch"] >= lowest_later)].sort_values(["code", "epoch"], kind="stable", ignore_index=True)
    times = {
        "started": [started[name][1] for name in found],
        "ended": [ended[name] if trial.is_final else np.nan for name, trial in found.items()],
    }
    trials = _trials(list(found.values()), times, epochs, kept)
    for metric in header.launch.space.metrics:
        if metric.name in COSTS:
            trials[metric.name] = [student_cost(metric.name, trial.config) for trial in found.values()]
    names = pd.Categorical.from_codes(kept.pop("code").to_numpy(), np.array(list(found), dtype=object))
    kept.insert(0, "trial", names.astype("str"))
    return Frames(trials, kept, header, found, header.launch.sweep, predicted)


def _row(code: int, record: Record) -> Record:
    """An epoch as a row. Its metrics are numbers, or None where they were not finite."""
    row = {name: record[name] for name in ("epoch", "slot", "seconds")} | {"code": code}
    for name, value in record["metrics"].items():
        if value is not None:
            row[f"metric_{name}" if name in _TAKEN else name] = float(value)
    return row


def _trials(found: list[TrialRecord], times: Record, epochs: pd.DataFrame, kept: pd.DataFrame) -> pd.DataFrame:
    """`Frames.trials`. times: more columns; epochs: all that were reported; kept: those that count, in order."""
    every, by_code = range(len(found)), kept.groupby("code")
    seconds = by_code["seconds"].sum().reindex(every, fill_value=0.0)
    lost = epochs.groupby("code")["seconds"].sum().reindex(every, fill_value=0.0) - seconds
    columns: dict[str, Any] = {name: [getattr(trial, name) for trial in found] for name in _RECORDED}
    columns["epochs"] = by_code.size().reindex(every, fill_value=0).to_numpy()
    columns["seconds"] = seconds.round(6).to_numpy()
    columns["lost_seconds"] = lost.round(6).where([not trial.source for trial in found], 0.0).to_numpy()
    last = by_code.tail(1).set_index("code").reindex(every).drop(columns=["epoch", "slot", "seconds"])
    columns |= times | {name: last[name].to_numpy() for name in last.columns}
    alone = by_code["alone_seconds" if "alone_seconds" in kept else "seconds"].sum()
    columns["alone_seconds"] = alone.reindex(every, fill_value=0.0).round(6).to_numpy()
    configs = [flatten(trial.config) for trial in found]
    for path in sorted({path for config in configs for path in config} - set(columns)):
        columns[path] = column_of([config.get(path) for config in configs])
    frame = pd.DataFrame({name: pd.Series(values) for name, values in columns.items()})
    return frame.astype(dict.fromkeys(_TEXTS, "str"))


def column_of(values: list[Any]) -> Any:
    """Values as a column of one type: numbers where all are, else texts (lists and truth values as JSON)."""
    kinds, is_full = {type(value) for value in values} - {type(None)}, None not in values
    if kinds == {int} and all(value is None or abs(value) < 2**63 for value in values):
        return np.array(values, dtype=np.int64) if is_full else pd.array(values, dtype="Int64")
    if kinds == {bool} and is_full:
        return np.array(values, dtype=bool)
    if kinds and kinds <= {int, float} and float in kinds:
        return np.array([np.nan if value is None else float(value) for value in values])
    return pd.array([None if v is None else v if isinstance(v, str) else json.dumps(v) for v in values], dtype="str")
