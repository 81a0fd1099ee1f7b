"""A ledger as pandas frames: one row a trial, one row an epoch."""

import json
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from msd_sweeps.records import ledger
from msd_sweeps.records.header import Header
from msd_sweeps.records.ledger import Record
from msd_sweeps.records.trial_record import TrialRecord, trials_of
from msd_sweeps.report.store import find_ledger
from msd_sweeps.space.designs import Sweep
from msd_sweeps.space.settings import flatten
from msd_sweeps.space.trial import COSTS, Metric, student_cost

_RECORDED = ("trial", "number", "label", "phase", "cell", "seed", "state", "reason", "traceback", "source", "attempts")
"""Columns of `trials` that are fields of a TrialRecord."""
_TEXTS = tuple(name for name in _RECORDED if name not in ("number", "seed", "attempts"))
_MEASURED = ("epochs", "seconds", "lost_seconds", "started", "ended")
_EPOCH_COLUMNS = ("trial", "epoch", "position", "slot", "seconds")


@dataclass(frozen=True)
class Frames:
    """A sweep as data.

    `trials` has a row a trial: its records, the metrics of its last epoch (`test_top1` in percent, losses
    in nats), and its configuration under dotted paths (lists as JSON text); also the student's cost where the
    space has it as a metric. `history` has a row an epoch: `trial`, `epoch` from 1, `position` in the stream, `slot`,
    `seconds`, and the metrics. Times are seconds since 1970.
    """

    trials: pd.DataFrame
    history: pd.DataFrame
    header: Header
    """What the ledger says about the sweep as a whole."""
    records: dict[str, TrialRecord]
    """What was planned for each trial and how it ended, by its id; its epochs are in `history` alone."""
    sweep: Sweep
    """The sweep as it was launched last."""

    @property
    def metric(self) -> Metric:
        """What a search chooses by; of several metrics the first."""
        return self.sweep.space.metrics[0]

    @property
    def device(self) -> str:
        """The devices of all launches."""
        return ", ".join(dict.fromkeys(launch.device for launch in self.header.launches))

    def __repr__(self) -> str:
        rows = f"trials: {len(self.trials)} rows, history: {len(self.history)} rows"
        return f"Frames of the sweep {self.sweep.name!r} ({rows}; also header, records, sweep)"


def load(name: str | Path, storage: str | Path = "runs") -> Frames:
    """The frames of a sweep: the name of one under `storage`, its folder, or the path of its ledger.

    Raises LedgerError where there is none.
    """
    return read(find_ledger(str(name), Path(storage)))


class _Epochs:
    """Epoch records gathered in columns: a million of them as dictionaries would need a gigabyte."""

    def __init__(self) -> None:
        self.code, self.epoch, self.seconds = array("q"), array("q"), array("d")
        self.position: list[Any] = []
        self.slot: list[Any] = []
        self.metrics: dict[str, tuple[array[int], array[float]]] = {}
        """Rows that have this metric, and its values there."""

    def add(self, code: int, record: Record) -> None:
        """code: the place of the trial among all."""
        row = len(self.code)
        self.code.append(code)
        self.epoch.append(record["epoch"])
        self.seconds.append(record["seconds"])
        self.position.append(record["position"])
        self.slot.append(record["slot"])
        for name, value in record["metrics"].items():
            if value.__class__ is float or value.__class__ is int:
                rows, values = self.metrics.setdefault(name, (array("q"), array("d")))
                rows.append(row)
                values.append(value)

    def frame(self) -> pd.DataFrame:
        """All rows, `code` standing for the trial, and `kept` for whether the row counts.

        An epoch that is reported again replaces itself and all that came after it.
        """
        columns = {
            "code": np.asarray(self.code, dtype=np.int64),
            "epoch": np.asarray(self.epoch, dtype=np.int64),
            "position": column_of(self.position),
            "slot": column_of(self.slot),
            "seconds": np.asarray(self.seconds, dtype=float),
        }
        for name in sorted(self.metrics):
            rows, values = self.metrics[name]
            column = np.full(len(self.code), np.nan)
            column[np.asarray(rows, dtype=np.int64)] = values
            taken = name in (*_RECORDED, *_MEASURED, *_EPOCH_COLUMNS)
            columns[f"metric_{name}" if taken else name] = column
        frame = pd.DataFrame(columns)
        lowest_from_here = frame[::-1].groupby("code")["epoch"].cummin()
        lowest_later = lowest_from_here.groupby(frame["code"]).shift().sort_index()
        frame["kept"] = ~(frame["epoch"] >= lowest_later)
        return frame


def read(path: Path, records: Iterable[Record] | None = None) -> Frames:
    """The frames of the ledger at `path`, whose records are read unless they are given.

    Raises LedgerError where it is absent, of another layout, or has no launch.
    """
    header, epochs = Header(path), _Epochs()
    codes: dict[str, int] = {}
    started: dict[str, float] = {}
    ended: dict[str, float] = {}

    def of_trials(records: Iterable[Record]) -> Iterator[Record]:
        """The records that start and end trials; the others are gathered."""
        for record in records:
            if record["event"] == "epoch":
                if record["trial"] in codes:
                    epochs.add(codes[record["trial"]], record)
            elif not header.add(record):
                if record["event"] == "start":
                    codes.setdefault(record["trial"], len(codes))
                    started.setdefault(record["trial"], record["time"])
                elif record["event"] == "end":
                    ended[record["trial"]] = record["time"]
                yield record

    found = trials_of(of_trials(ledger.read(path) if records is None else records))
    rows = epochs.frame()
    kept = rows[rows["kept"]].drop(columns="kept").sort_values(["code", "epoch"], kind="stable", ignore_index=True)
    trials = _trials(list(found.values()), rows, kept)
    trials["started"] = [started[trial] for trial in found]
    trials["ended"] = [ended[name] if trial.is_final else np.nan for name, trial in found.items()]
    frame = pd.DataFrame({name: pd.Series(values) for name, values in trials.items()})
    for metric in header.launch.space.metrics:
        if metric.name in COSTS:
            frame[metric.name] = [student_cost(metric.name, trial.config) for trial in found.values()]
    names = pd.Categorical.from_codes(kept.pop("code").to_numpy(), np.array(list(found), dtype=object))
    kept.insert(0, "trial", names.astype("str"))
    return Frames(frame.astype(dict.fromkeys(_TEXTS, "str")), kept, header, found, header.launch.sweep)


def _trials(found: list[TrialRecord], rows: pd.DataFrame, kept: pd.DataFrame) -> dict[str, Any]:
    """The columns of `Frames.trials`. rows: all epochs; kept: those that count, in order."""
    every, by_code = range(len(found)), kept.groupby("code")
    seconds = by_code["seconds"].sum().reindex(every, fill_value=0.0)
    lost = rows.groupby("code")["seconds"].sum().reindex(every, fill_value=0.0) - seconds
    here = np.array([not trial.source for trial in found], dtype=bool)
    columns: dict[str, Any] = {name: [getattr(trial, name) for trial in found] for name in _RECORDED}
    columns["epochs"] = by_code.size().reindex(every, fill_value=0).to_numpy()
    columns["seconds"] = seconds.round(6).to_numpy()
    columns["lost_seconds"] = np.where(here, lost.round(6), 0.0)
    columns |= dict.fromkeys(("started", "ended"))
    last = by_code.tail(1).set_index("code").reindex(every).drop(columns=[*_EPOCH_COLUMNS[1:]])
    columns |= {name: last[name].to_numpy() for name in last.columns}
    configs = [flatten(trial.config) for trial in found]
    for path in sorted({path for config in configs for path in config} - set(columns)):
        columns[path] = column_of([config.get(path) for config in configs])
    return columns


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
