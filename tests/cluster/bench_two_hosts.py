"""Trials an hour on one host and on two, in one run: `python -m tests.cluster.bench_two_hosts [--share 0.6]`.

The hosts are network namespaces of this machine (needs root). Each that trains has the same share of one core of its
own; the head, which trains nothing, shares the machine with them. Counted is from the start of the first search trial's
first epoch to the end of the last search trial, so without what a Ray cluster takes to start.
"""

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

from msd_sweeps.records import ledger
from msd_sweeps.records.trial_record import trials_of
from tests.cluster.hosts import PORT, network, permitted

_LONGEST_SECONDS = 600
_SWEEP = [
    "--space",
    "scales.yaml",
    "--set",
    "scheduler.type=none",
    "--set",
    "confirm={top_k: 1, seeds: [1], baselines: {}}",
]


def main() -> None:
    """Measure and print."""
    command = argparse.ArgumentParser(prog="python -m tests.cluster.bench_two_hosts", description=__doc__)
    command.add_argument("--share", type=float, default=0.6, help="of one core, for each host that trains (0.6)")
    command.add_argument("--samples", type=int, default=16, help="trials of the search (16)")
    options = command.parse_args()
    if not permitted():
        sys.exit("network namespaces need root, ip and a kernel that allows them")
    rates = {}
    with tempfile.TemporaryDirectory() as folder:
        for hosts in (1, 2):
            rates[hosts] = _measure(hosts, options.share, options.samples, Path(folder))
    print(f"two hosts / one host: {rates[2] / rates[1]:.2f}")


def _measure(count: int, share: float, samples: int, folder: Path) -> float:
    """Trials an hour with `count` hosts that train."""
    with network(count + 1, [None, *range(count)], [None, *[share] * count]) as hosts:
        head, *workers = hosts
        head.start_head(0, "--include-dashboard=false")
        for worker in workers:
            worker.join(head, 1)
        storage = folder / f"{count}"
        teachers = folder / "teachers"
        if teachers.exists():
            shutil.copytree(teachers, storage / "teachers")
        began = time.perf_counter()
        head.run(
            sys.executable,
            "-m",
            "msd_sweeps.run",
            *_SWEEP,
            "--num-samples",
            str(samples),
            "--name",
            "hosts",
            "--address",
            f"{head.address}:{PORT}",
            "--storage",
            str(storage),
            "--reports",
            str(folder / "reports"),
            timeout=_LONGEST_SECONDS,
        )
        seconds = time.perf_counter() - began
        if not teachers.exists():
            shutil.copytree(storage / "teachers", teachers)
    records = list(ledger.read(storage / "hosts" / ledger.FILE_NAME))
    searched = {name: trial for name, trial in trials_of(records).items() if trial.phase == "search"}
    epochs = [r for r in records if r["event"] == "epoch" and r["trial"] in searched]
    ends = [r["time"] for r in records if r["event"] == "end" and r["trial"] in searched]
    # An epoch is recorded at its end, and takes what all students of its slot take together.
    first = epochs[0]
    together = sum(r["seconds"] for r in epochs if r["round"] == first["round"])
    trained = max(ends) - (first["time"] - together)
    rate = len(ends) / trained * 3600
    slots = sorted({r["slot"] for r in epochs})
    print(
        f"{count} of {share} cores: {len(ends)} trials in {trained:.0f} s on slots {slots}, "
        f"{rate:.0f} an hour; the whole command took {seconds:.0f} s",
        flush=True,
    )
    return rate


if __name__ == "__main__":
    main()
