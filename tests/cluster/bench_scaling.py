"""What a trial and an epoch cost the driver: `python -m tests.cluster.bench_scaling [TRIALS] [EPOCHS]`.

Prints the constants of cluster/SCALING.md: the ledger's bytes and seconds, the driver's memory, MLflow's seconds. The
records are those of a synthetic sweep; ledger and mirror are the real ones.
"""

import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from msd_sweeps.records import ledger
from msd_sweeps.records.ledger import Ledger
from msd_sweeps.records.mlflow_store import default_uri
from msd_sweeps.records.mlflow_sync import Mirror
from msd_sweeps.records.trial_record import trials_of
from tests.synthetic_ledger import Recipe, make_sweep, records

_MIRRORED = 100
_LONGEST_SECONDS = 300.0


def main() -> None:
    """Measure and print."""
    trials, epochs = (int(argument) for argument in (sys.argv[1:] + ["500", "50"][len(sys.argv) - 1 :]))
    sweep = make_sweep("search", search={"num_samples": trials, "val_fraction": 0.25}, scheduler={"type": "none"})
    made = [
        {k: v for k, v in record.items() if k not in ("crc", "time")}
        for record in records(sweep, Recipe(epochs=epochs))
    ]
    started = sum(record["event"] == "start" for record in made)
    counted = sum(record["event"] == "epoch" for record in made)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scale" / ledger.FILE_NAME
        path.parent.mkdir()
        ledger_file = Ledger(path)
        written, seconds = [], {"epoch": 0.0, "other": 0.0}
        for record in made:
            begun = time.perf_counter()
            written.append(ledger_file.append(**record))
            seconds["epoch" if record["event"] == "epoch" else "other"] += time.perf_counter() - begun
        ledger_file.close()
        lines = path.read_bytes().splitlines()
        of_epochs = sum(len(line) + 1 for line in lines if b'"event":"epoch"' in line)
        of_others = sum(len(line) + 1 for line in lines) - of_epochs
        print(f"{started} trials, {counted} epochs; {os.cpu_count()} CPUs")
        print(f"ledger: {of_epochs / counted:.0f} bytes an epoch, {of_others / started:.0f} bytes a trial besides")
        print(f"ledger: {seconds['epoch'] / counted * 1000:.2f} ms an epoch with fsync")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        begun = time.perf_counter()
        known = trials_of(ledger.read(path))
        print(f"resume: {(time.perf_counter() - begun) / counted * 1e6:.0f} us an epoch read")
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        print(f"driver: {grown * 1024 / max(1, counted):.0f} bytes of memory an epoch for {len(known)} trials known")
        some = written[:_MIRRORED]
        first, _ = _mirrored(path.parent / "mirror", some[:1])
        rest, unsent = _mirrored(path.parent / "mirror", some)
        each = rest / (len(some) - 1) * 1000
        print(f"MLflow on SQLite: {each:.1f} ms a record ({unsent} unsent), {first:.1f} s to make the store")


def _mirrored(folder: Path, records: list[dict[str, Any]]) -> tuple[float, int]:
    """How many seconds a ledger takes to reach a store, and how many of its records do not."""
    folder.mkdir(exist_ok=True)
    (folder / ledger.FILE_NAME).write_bytes(b"".join(map(ledger.encode, records)))
    begun = time.perf_counter()
    unsent = Mirror(default_uri(folder), "scaling", "scale", folder, len(records)).close(_LONGEST_SECONDS)
    return time.perf_counter() - begun, unsent


if __name__ == "__main__":
    main()
