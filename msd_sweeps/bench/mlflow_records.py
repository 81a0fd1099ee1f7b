"""Time MLflow on SQLite, records one by one against batches: `python -m msd_sweeps.bench.mlflow_records`.

The records of ten trials are written in both ways, in turns, each round into a new store: one that grows slows down.
"""

import argparse
import os
import platform
import statistics
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from msd_sweeps.bench.results import Ratio, command_line, markdown, publish
from msd_sweeps.records.ledger import Record
from msd_sweeps.records.mlflow_store import default_uri
from msd_sweeps.records.mlflow_writer import Writer
from msd_sweeps.space.load import load_base

_TRIALS, _TARGET = 10, 10.0
_METRICS = ("train_loss", "loss_ce", "loss_kd", "train_top1", "step_seconds", "alone_seconds", "wait_seconds")
"""Of an epoch of kd in a design, as ledgers have them; the last epoch has those of the test set as well."""
_OF_TEST = ("test_top1", "test_loss", "test_calibration_error")


def records_of(count: int) -> list[Record]:
    """So many records, rounded to tens: ten trials that run side by side, each with a start, its epochs and an end."""
    config, epochs = load_base("digits").model_dump(mode="json"), max(1, count // _TRIALS - 2)
    plan = {"attempt": 1, "cell": "c", "label": "kd", "phase": "design", "seed": 0, "config": config, "time": 1.7e9}
    names = [f"{number:016x}" for number in range(_TRIALS)]
    starts = [plan | {"event": "start", "trial": name, "number": number} for number, name in enumerate(names)]
    rest = {"slot": 0, "seconds": 1.0}
    middle = [
        {"event": "epoch", "trial": name, "epoch": epoch, "time": 1.7e9 + epoch, **rest}
        | {"metrics": dict.fromkeys(_METRICS + _OF_TEST * (epoch == epochs), 50 + epoch / 3)}
        for epoch in range(1, epochs + 1)
        for name in names
    ]
    end = {"event": "end", "state": "finished", "reason": "", "time": 1.7e9 + epochs}
    return [*starts, *middle, *(end | {"trial": name} for name in names)]


def seconds_of(storage: Path, records: list[Record], key: str, batch: int) -> float:
    """How long it takes to write the records, `batch` of them at once, into new runs."""
    writer = Writer(default_uri(storage), "bench", "bench", key, storage / "artifacts")
    began = time.perf_counter()
    for first in range(0, len(records), batch):
        writer.write(records[first : first + batch])
    return time.perf_counter() - began


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    command = argparse.ArgumentParser(prog="python -m msd_sweeps.bench.mlflow_records", description=__doc__)
    add = command.add_argument
    add("--records", type=int, default=1000, help="written in each way (1000)")
    add("--rounds", type=int, default=3)
    add("--out", type=Path, metavar="DIR", help="write table and numbers into this folder as well")
    options = command.parse_args(arguments)
    records = records_of(options.records)
    ways = {"one by one": 1, "in batches": len(records)}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(options.rounds):
            (storage := Path(folder, str(turn))).mkdir()
            seconds_of(storage, records[:1], "first", 1)  # makes the database
            for way, batch in ways.items():
                seconds[way].append(seconds_of(storage, records, way, batch))
    rows = []
    for way, taken in seconds.items():
        low, middle, high = (1e3 * of(taken) / len(records) for of in (min, statistics.median, max))
        rows.append([way, f"{middle:.2f}", f"{low:.2f} to {high:.2f}", f"{1e3 / middle:.0f}"])
    table = markdown(["records", "ms a record (median)", "range", "records a second"], rows)
    one_by_one, in_batches = seconds.values()
    ratio = Ratio("records a second, in batches ÷ one by one", one_by_one, in_batches, _TARGET, at_least=True)
    title = f"{len(records)} records of {_TRIALS} trials to MLflow {version('mlflow')} on SQLite"
    title += f"; {os.cpu_count()} CPUs, Python {platform.python_version()}"
    made = (
        f"`{command_line('msd_sweeps.bench.mlflow_records', arguments)}`: {options.rounds} rounds, in turns; wall time"
    )
    path = options.out and options.out / "mlflow_records"
    publish(path, "MLflow on SQLite, one by one and in batches", title, made, table, [ratio], {"seconds": seconds})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
