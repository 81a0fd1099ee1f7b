"""Trials an hour of one search by several versions of this code: `python -m tests.sweep.bench_searches TREE...`.

A TREE is a checkout of the repository. Each runs the same space: 16 trials with ASHA, pack 8. Time counts from the
start of the first trial of the search to the end of its last one.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

SPACE = """\
base: digits
design: search
search: {num_samples: 16, seed: 0, val_fraction: 0.25}
parameters:
  method.scales:             {choices: [[1], [2], [1, 2], [1, 2, 4]]}
  method.sample_temperature: {low: 0.03, high: 1.0, log: true}
  method.sample_weight:      {low: 0.1, high: 4.0, log: true}
scheduler: {type: asha, grace_period: 1, reduction_factor: 3}
confirm: {top_k: 1, seeds: [1], baselines: {none: {method: {name: none}}}}
resources: {pack: 8}
"""


def search(tree: Path, teachers: Path, settings: list[str]) -> tuple[float, int]:
    """Run the search by the code of a checkout: seconds, and the epochs of all its trials."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "space.yaml").write_text(SPACE)
        if teachers.is_dir():
            shutil.copytree(teachers, place / "runs" / "teachers")
        options = [part for setting in settings for part in ("--set", setting)]
        command = [sys.executable, "-m", "msd_sweeps.run", "--space", "space.yaml", "--name", "s", *options]
        environment = os.environ | {"PYTHONPATH": str(tree.resolve())}
        subprocess.run(command, cwd=place, env=environment, check=True, stdout=subprocess.DEVNULL)
        records = [json.loads(line) for line in (place / "runs" / "s" / "ledger.jsonl").open()]
        if not teachers.is_dir():
            shutil.copytree(place / "runs" / "teachers", teachers)
    starts = {r["trial"]: r["time"] for r in reversed(records) if r["event"] == "start" and r["phase"] == "search"}
    ends = [record["time"] for record in records if record["event"] == "end" and record["trial"] in starts]
    epochs = [record for record in records if record["event"] == "epoch" and record["trial"] in starts]
    assert len(ends) == 16
    return max(ends) - min(starts.values()), len(epochs)


def main() -> None:
    command = argparse.ArgumentParser(description=__doc__)
    command.add_argument("trees", nargs="+", type=Path)
    command.add_argument("--rounds", type=int, default=3)
    command.add_argument("--teachers", type=Path, default=Path("runs/teachers"), help="where the teacher is kept")
    command.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", dest="settings")
    options = command.parse_args()
    found: dict[Path, list[tuple[float, int]]] = {tree: [] for tree in options.trees}
    for number in range(options.rounds):
        for tree, rounds in found.items():
            rounds.append(search(tree, options.teachers, options.settings))
            print(f"round {number + 1}, {tree}: {rounds[-1][0]:.1f} s, {rounds[-1][1]} epochs", flush=True)
    for tree, rounds in found.items():
        seconds = statistics.median(one for one, _ in rounds)
        print(f"{tree}: {16 * 3600 / seconds:.0f} trials an hour, median of {len(rounds)} ({seconds:.1f} s)")


if __name__ == "__main__":
    main()
