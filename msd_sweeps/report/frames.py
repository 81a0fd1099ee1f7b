"""A ledger as pandas frames: one row a trial, one row an epoch."""

import json
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from msd_sweeps.records import ledger
from msd_sweeps.records.ledger import Record
from msd_sweeps.records.trial_record import TrialRecord, trials_of
from msd_sweeps.report.store import find_ledger
from msd_sweeps.space.metrics import COSTS, student_cost

_TRIAL_COLUMNS = (
    "trial",
    "number",
    "label",
    "phase",
    "cell",
    "seed",
    "state",
    "reason",
    "traceback",
    "source",
    "attempts",
    "epochs",
    "seconds",
    "lost_seconds",
    "started",
    "ended",
)
_EPOCH_COLUMNS = ("trial", "epoch", "position", "slot", "seconds")


@dataclass
class Header:
    """What a ledger says about the sweep as a whole; each list in the order of the records."""

    launches: list[Record] = field(default_factory=list)
    data: list[Record] = field(default_factory=list)
    teachers: list[Record] = field(default_factory=list)
    closes: list[Record] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The name of the sweep; empty where no launch is recorded."""
        return str(self._last("name", ""))

    @property
    def space(self) -> Record:
        """The resolved space of the last launch."""
        return dict(self._last("space", {}))

    @property
    def metrics(self) -> list[Record]:
        """The metrics of the space, each {name, mode}; the one that ranks comes first."""
        metric = self.space.get("metric") or {}
        return metric if isinstance(metric, list) else [metric]

    @property
    def base(self) -> Record:
        """The resolved base trial of the last launch."""
        return dict(self._last("base", {}))

    @property
    def device(self) -> str:
        """The devices of all launches."""
        return ", ".join(dict.fromkeys(str(launch.get("device", "unknown")) for launch in self.launches))

    def _last(self, key: str, default: Any) -> Any:
        return self.launches[-1].get(key, default) if self.launches else default


@dataclass
class Frames:
    """A sweep as data.

    `trials` has a row a trial: its records, the metrics of its last epoch (`test_top1` in percent, losses
    in nats), and its configuration under dotted paths (lists as JSON text); also the student's cost where the
    space has it as a metric. `history` has a row an epoch: `trial`, `epoch` from 1, `position` in the stream, `slot`,
    `seconds`, and the metrics. Times are seconds
    since 1970.
    """

    trials: pd.DataFrame
    history: pd.DataFrame
    header: Header
    configs: dict[str, Record]
    """The configuration of each trial by its id, flat: dotted path to value."""

    def __repr__(self) -> str:
        rows = f"trials: {len(self.trials)} rows, history: {len(self.history)} rows"
        return f"Frames of the sweep {self.header.name!r} ({rows}; also header, configs)"


def flatten(tree: Record, prefix: str = "") -> Record:
    """A nested dictionary with dotted paths as keys."""
    flat: Record = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def load(name: str | Path, storage: str | Path = "runs") -> Frames:
    """The frames of a sweep: the name of one under `storage`, its folder, or the path of its ledger.

    Raises LedgerError where there is none.
    """
    return read(find_ledger(str(name), Path(storage)))


class _History:
    """Epoch records gathered in columns: a million of them as dictionaries would need a gigabyte."""

    def __init__(self) -> None:
        self.codes: dict[str, int] = {}
        self.code = array("q")
        self.epoch = array("q")
        self.seconds = array("d")
        self.position: list[Any] = []
        self.slot: list[Any] = []
        self.metrics: dict[str, array[float]] = {}

    def add(self, record: Record) -> None:
        rows = len(self.code)
        self.code.append(self.codes.setdefault(record["trial"], len(self.codes)))
        self.epoch.append(record["epoch"])
        self.seconds.append(record["seconds"])
        self.position.append(record["position"])
        self.slot.append(record["slot"])
        for name, value in record["metrics"].items():
            if value.__class__ is float or value.__class__ is int:
                column = self.metrics.get(name)
                if column is None:
                    column = self.metrics[name] = array("d")
                if len(column) < rows:
                    column.extend([np.nan] * (rows - len(column)))
                column.append(value)

    def kept(self) -> np.ndarray:
        """Rows that count, in order: an epoch reported again replaces itself and all that came after it."""
        lowest: dict[int, int] = {}
        keep = np.zeros(len(self.code), dtype=bool)
        for row in range(len(self.code) - 1, -1, -1):
            code, epoch = self.code[row], self.epoch[row]
            if epoch < lowest.get(code, epoch + 1):
                keep[row] = True
                lowest[code] = epoch
        return keep

    def frame(self) -> pd.DataFrame:
        """All rows, `code` standing for the trial and `kept` for whether the row counts."""
        columns: dict[str, Any] = {
            "code": np.frombuffer(self.code, dtype=np.int64),
            "epoch": np.frombuffer(self.epoch, dtype=np.int64),
            "position": column_of(self.position),
            "slot": column_of(self.slot),
            "seconds": np.frombuffer(self.seconds, dtype=float),
            "kept": self.kept(),
        }
        for name in sorted(self.metrics):
            column = self.metrics[name]
            column.extend([np.nan] * (len(self.code) - len(column)))
            taken = name in _TRIAL_COLUMNS or name in _EPOCH_COLUMNS
            columns[f"metric_{name}" if taken else name] = np.frombuffer(column, dtype=float)
        return pd.DataFrame(columns)


def read(path: Path) -> Frames:
    """The frames of one ledger file. Raises LedgerError where it is absent."""
    header, history = Header(), _History()
    times: dict[str, tuple[float, float]] = {}

    def others(records: Iterable[Record]) -> Iterator[Record]:
        gathered = {"sweep": header.launches, "data": header.data, "teacher": header.teachers, "close": header.closes}
        for record in records:
            event = record["event"]
            if event == "epoch":
                if record["trial"] in times:
                    history.add(record)
            elif event in gathered:
                gathered[event].append(record)
            else:
                if event in ("start", "end"):
                    first, _ = times.get(record["trial"], (record["time"], 0.0))
                    if event == "start" or record["trial"] in times:
                        times[record["trial"]] = (first, record["time"])
                yield record

    found = trials_of(others(ledger.read(path)))
    rows = history.frame()
    kept = rows[rows["kept"]].drop(columns="kept")
    order = {trial: index for index, trial in enumerate(found)}
    place = np.array([order[trial] for trial in history.codes], dtype=np.int64)[kept["code"].to_numpy()]
    kept = kept.iloc[np.lexsort((kept["epoch"].to_numpy(), place))].reset_index(drop=True)
    names = np.array(list(history.codes), dtype=object)
    trials, configs = _trials(found, times, rows, kept, history.codes)
    for name in [metric.get("name") for metric in header.metrics]:
        if name in COSTS:
            trials[name] = [student_cost(name, record.config) for record in found.values()]
    kept.insert(0, "trial", pd.Categorical.from_codes(kept["code"].to_numpy(), names).astype("str"))
    return Frames(trials, kept.drop(columns="code"), header, configs)


def _trials(
    found: dict[str, TrialRecord],
    times: dict[str, tuple[float, float]],
    rows: pd.DataFrame,
    kept: pd.DataFrame,
    codes: dict[str, int],
) -> tuple[pd.DataFrame, dict[str, Record]]:
    """One row a trial, and their flat configurations."""
    of_trial = [codes.get(trial, -1) for trial in found]
    by_code = kept.groupby("code")
    all_seconds = rows.groupby("code")["seconds"].sum().reindex(of_trial).fillna(0.0).to_numpy()
    seconds = by_code["seconds"].sum().reindex(of_trial).fillna(0.0).to_numpy()
    columns: dict[str, Any] = {name: [getattr(t, name) for t in found.values()] for name in _TRIAL_COLUMNS[:11]}
    columns["epochs"] = by_code.size().reindex(of_trial).fillna(0).astype(int).to_numpy()
    columns["seconds"] = seconds.round(6)
    here = np.array([not trial.source for trial in found.values()], dtype=bool)
    columns["lost_seconds"] = np.where(here, (all_seconds - seconds).round(6), 0.0)
    columns["started"] = [times[trial][0] for trial in found]
    columns["ended"] = [times[trial][1] if record.is_final else np.nan for trial, record in found.items()]
    last = by_code.tail(1).set_index("code").reindex(of_trial)
    for name in last.columns:
        if name not in _EPOCH_COLUMNS:
            columns[name] = last[name].to_numpy()
    configs = {trial: flatten(record.config) for trial, record in found.items()}
    for path in sorted({path for config in configs.values() for path in config}):
        if path not in columns:
            columns[path] = column_of([config.get(path) for config in configs.values()])
    text = ("trial", "label", "phase", "cell", "state", "reason", "traceback", "source")
    frame = pd.DataFrame({name: pd.Series(values) for name, values in columns.items()})
    return frame.astype(dict.fromkeys(text, "str")), configs


def column_of(values: list[Any]) -> Any:
    """Values as a column of one type: numbers where all are, else texts (lists and truth values as JSON)."""
    present = [value for value in values if value is not None]
    if all(isinstance(value, int) and not isinstance(value, bool) for value in present) and present:
        if all(abs(value) < 2**63 for value in present):
            return pd.array(values, dtype="Int64") if len(present) < len(values) else np.array(values, dtype=np.int64)
    elif all(isinstance(value, bool) for value in values) and values:
        return np.array(values, dtype=bool)
    elif all(isinstance(value, int | float) and not isinstance(value, bool) for value in present) and present:
        return np.array([np.nan if value is None else float(value) for value in values])
    return pd.array([None if v is None else v if isinstance(v, str) else json.dumps(v) for v in values], dtype="str")
