"""What a sweep that met faults lacks against an uninterrupted one, and what the faults cost.

Nothing is masked in texts: the ledgers of both are rewritten as if each trial had run once, in one launch, in no time,
and the reports that come of them must be equal byte by byte, figures and Parquet included.
"""

import contextlib
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from msd_sweeps.distill import checkpoint
from msd_sweeps.records import ledger
from msd_sweeps.records.header import header_of
from msd_sweeps.records.ledger import Ledger, Record
from msd_sweeps.records.mlflow_store import DATABASE
from msd_sweeps.records.trial_record import FINAL_STATES, trials_of
from msd_sweeps.report.compiling import compile_report
from msd_sweeps.sweep.resume import last_round
from tests.sweep.conftest import Run

Files = dict[str, bytes]
Known = dict[str, int]
"""Epochs that are recorded of each trial."""
_OF_LAUNCH = {"id": "", "command": [], "host": "", "commit": None, "dirty": False}


def records_of(path: Path) -> list[Record]:
    return list(ledger.read(path)) if path.exists() else []


def problems(run: Run, reference: Files, store: Path | None = None) -> list[str]:
    """What is wrong with a sweep that was gone on with to its end; empty when nothing is lost.

    store: the SQLite file with its runs, if not the usual one.
    """
    if run.code:
        return [f"the last exit code is {run.code}"]
    found = [*_trained_again(run), *_left_over(run), *_in_mlflow(run, store)]
    place = _place(run)
    report = files_below(place / "reports" / run.folder.name)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(place):
        compile_report(run.folder / ledger.FILE_NAME, Path(folder))
        found += _differences("the report is not that of its ledger", report, files_below(Path(folder)))
    return [*found, *_differences("otherwise than uninterrupted", canonical(run), reference)]


def canonical(run: Run) -> Files:
    """The files of the report of a sweep as if nothing had happened to it, and in no time."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(_place(run)):
        path = Path(folder) / "ledger" / ledger.FILE_NAME
        rewritten = Ledger(path)
        for record in _as_if_once(run.folder / ledger.FILE_NAME):
            rewritten.append(**record)
        rewritten.close()
        compile_report(path, Path(folder) / "report")
        return files_below(Path(folder) / "report")


def _as_if_once(path: Path) -> Iterator[Record]:
    """The records of a ledger without attempts, slots, rounds, launches and times. Hashes stay."""
    header = header_of(path)
    launch = header.launch.record() | _OF_LAUNCH
    launch["space"] = {name: part for name, part in launch["space"].items() if name != "resources"}
    yield {"event": "sweep", "time": 0.0} | launch
    data = {one.sha256: one.record() for one in header.data}
    teachers = {one.key: one.record() | {"seconds": 1.0} for one in header.teachers}
    for event, facts in (("data", data), ("teacher", teachers)):
        for _, fact in sorted(facts.items()):
            yield {"event": event, "time": 0.0} | fact
    for trial in trials_of(ledger.read(path)).values():
        assert len(trial.fingerprints) == 1, "its attempts ran with other data, teachers or code"
        name, common = trial.trial, {"time": float(trial.number)}
        yield {"event": "start", "attempt": 1, "fingerprint": trial.fingerprints[0]} | trial.start_fields() | common
        for epoch in trial.epochs:
            metrics = {key: 1.0 if key.endswith("_seconds") else value for key, value in epoch.metrics.items()}
            told = {"slot": 0, "round": 0, "more": 0, "seconds": 1.0, "metrics": metrics}
            yield {"event": "epoch", "trial": name, "attempt": 1} | epoch.recorded() | told | common
        yield {"event": "end", "trial": name, "state": trial.state, "reason": trial.reason} | common
    yield {"event": "close", "time": 1.0, "outcome": "complete", "seconds": 1.0}


def _place(run: Run) -> Path:
    """Where the command was started."""
    return next(folder for folder in run.folder.parents if (folder / "search_spaces").is_dir())


def files_below(folder: Path) -> Files:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _differences(what: str, ours: Files, theirs: Files) -> Iterator[str]:
    for name in sorted({*ours, *theirs}):
        mine, other = ours.get(name), theirs.get(name)
        if mine == other:
            continue
        if mine is None or other is None:
            yield f"{what}: {name} is {'missing' if mine is None else 'there'}"
            continue
        lines = zip(mine.splitlines(), other.splitlines(), strict=False)
        pair = next((pair for pair in lines if pair[0] != pair[1]), (b"another", b"length"))
        yield f"{what}: {name}: {pair[0][:160]!r} instead of {pair[1][:160]!r}"


def _trained_again(run: Run) -> Iterator[str]:
    """Trials that went on after their end, or ended twice."""
    ended: set[str] = set()
    for record in ledger.read(run.folder / ledger.FILE_NAME):
        if record["event"] in ("start", "epoch") and record["trial"] in ended:
            yield f"{record['trial']} went on after its end"
        if record["event"] == "end" and record["state"] in FINAL_STATES:
            if record["trial"] in ended:
                yield f"{record['trial']} ended twice"
            ended.add(record["trial"])


def _left_over(run: Run) -> Iterator[str]:
    for path in (run.folder / "checkpoints").glob("*/epoch-*"):
        if not run.trials[path.parent.name].needs_checkpoints:
            yield f"{path.parent.name} has ended, and {path.name} is left"


def _in_mlflow(run: Run, path: Path | None) -> Iterator[str]:
    """MLflow has one run of each trial, or is known to lack records."""
    if path is None and "MLflow has not taken" in run.out:
        return
    with contextlib.closing(sqlite3.connect(path or run.folder.parent / DATABASE)) as store:
        query = "select tags.value, runs.status from tags join runs using (run_uuid) where tags.key = 'msd.trial'"
        rows = store.execute(query).fetchall()
    twice = [trial for trial, count in Counter(trial for trial, _ in rows).items() if count > 1]
    if twice or {trial for trial, _ in rows} != set(run.trials):
        yield f"MLflow has {len(rows)} runs of {len(run.trials)} trials, of {twice} more than one"
    if open_runs := [trial for trial, status in rows if status == "RUNNING"]:
        yield f"MLflow shows {open_runs} as running"


def known_epochs(path: Path) -> Known:
    """How many epochs the ledger has of each trial."""
    return {name: len(trial.epochs) for name, trial in trials_of(records_of(path)).items()}


def epochs_lost(before: Known, path: Path) -> int:
    """Epochs that were recorded and have to be trained again, from what ledger and checkpoints hold now."""
    trials = trials_of(records_of(path))
    last_round(trials)  # takes the epochs of a round back that is not whole
    lost = 0
    for name, epochs in before.items():
        trial = trials.get(name)
        if trial is not None and (trial.is_final or trial.has_every_epoch):
            continue
        most = len(trial.epochs) if trial is not None else 0
        lost += max(0, epochs - _saved(path.parent / "checkpoints" / name, most))
    return lost


def _saved(folder: Path, most: int) -> int:
    """The epochs of the newest whole checkpoint with at most `most`."""
    for path in sorted(folder.glob("epoch-*.pt"), reverse=True):
        epochs = int(path.stem.partition("-")[2])
        with contextlib.suppress(checkpoint.CheckpointError):
            if epochs <= most and checkpoint.read(path):
                return epochs
    return 0


def restart_seconds(times: list[float], path: Path) -> list[float]:
    """For each fault, by its time, the seconds to the next epoch that was not recorded before; to the next fault at
    most, and 0 after the last epoch of all."""
    epochs = [record for record in records_of(path) if record["event"] == "epoch"]
    found = []
    for at, next_fault in zip(times, [*times[1:], float("inf")], strict=True):
        known = {(record["trial"], record["epoch"]) for record in epochs if record["time"] <= at}
        new = (r["time"] for r in epochs if r["time"] > at and (r["trial"], r["epoch"]) not in known)
        first = min(new, default=None)
        found.append(round(min(first, next_fault) - at, 1) if first is not None else 0.0)
    return found
