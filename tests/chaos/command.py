"""Faults at random instants, many times over: `python -m tests.chaos.command [--out reports/reliability]`.

Writes a table of faults (times tried, times survived, work lost) and what it was made from. Every draw comes from
--seed. `--resume` goes on with what a broken-off run has written.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tests.chaos import driver_kills, other_faults
from tests.chaos.other_faults import Outcome


class Unit(NamedTuple):
    """One life of a sweep: a row of the table adds up those of one fault."""

    fault: str
    part: int
    live: Callable[[Path, random.Random], Outcome]


def units() -> list[Unit]:
    """Everything that `make chaos` does."""
    found = []
    for mode in driver_kills.MODES:
        for part, times in enumerate((5,) * 5):
            found.append(Unit(f"kill -9 of the driver, {mode}", part, _killed(mode, times)))
    found += [Unit(fault, 0, live) for fault, live in other_faults.LIVES.items()]
    return found


def _killed(mode: str, times: int) -> Callable[[Path, random.Random], Outcome]:
    def live(folder: Path, instants: random.Random) -> Outcome:
        reference, seconds = driver_kills.uninterrupted(driver_kills.workplace(folder / "whole"), mode)
        place = driver_kills.workplace(folder / "broken")
        lost = sum(driver_kills.kill_once(place, mode, instants, seconds) for _ in range(times))
        run, _ = driver_kills.uninterrupted(place, mode)
        return Outcome(times, driver_kills.problems(run, reference), lost)

    return live


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code: 1 where something was lost."""
    command = argparse.ArgumentParser(prog="python -m tests.chaos.command", description=__doc__.split("\n")[0])
    command.add_argument("--seed", type=int, default=0, help="of every instant (0)")
    command.add_argument("--out", type=Path, default=Path("reports/reliability"), metavar="DIR")
    command.add_argument("--resume", action="store_true", help="keep what DIR has of an earlier run")
    command.add_argument("--only", default="", metavar="TEXT", help="faults that have TEXT in their name")
    command.add_argument("--most-seconds", type=float, default=1e9, help="begin nothing more after this long")
    options = command.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "faults.json"
    done: list[dict[str, Any]] = json.loads(path.read_text()) if options.resume and path.exists() else []
    known = {(entry["fault"], entry["part"], entry["seed"]) for entry in done}
    started = time.monotonic()
    for unit in units():
        if options.only not in unit.fault or (unit.fault, unit.part, options.seed) in known:
            continue
        if time.monotonic() - started > options.most_seconds:
            break
        entry = _live(unit, options.seed)
        told = f"{entry['tried']} tried, {entry['seconds']} s, {entry['epochs_lost']} epochs lost"
        print(f"{unit.fault}, part {unit.part}: {told}, {entry['problems'] or 'nothing else'}", flush=True)
        done.append(entry)
        path.write_text(json.dumps(done, indent=1) + "\n")
        (options.out / "README.md").write_text(_page(done))
    return 1 if any(entry["problems"] for entry in done) else 0


def _live(unit: Unit, seed: int) -> dict[str, Any]:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        try:
            outcome = unit.live(Path(folder), random.Random(f"{seed} {unit.fault} {unit.part}"))
        except Exception as error:
            outcome = Outcome(1, [f"{type(error).__name__}: {error}"], 0)
    return {
        "fault": unit.fault,
        "part": unit.part,
        "seed": seed,
        **outcome._asdict(),
        "seconds": round(time.monotonic() - began),
    }


def _page(done: list[dict[str, Any]]) -> str:
    seeds = ", ".join(map(str, sorted({entry["seed"] for entry in done})))
    lines = [
        "# Faults\n",
        f"Written by `make chaos` (`python -m tests.chaos.command`, seeds {seeds}). A fault is survived when the "
        "sweep, gone on with, has exactly one valid result for every cell and seed, trained nothing again that had "
        "ended, and gives the numbers and the report of an uninterrupted one. Work lost counts the epochs that a "
        "ledger has twice. What was under way when the fault came is trained again and not counted, and so is an "
        "epoch that was recorded and whose checkpoint is lost: its result is passed over the second time.\n",
        "| fault | times tried | times survived | work lost |",
        "|---|---|---|---|",
    ]
    for fault in dict.fromkeys(unit.fault for unit in units()):
        of_one = [entry for entry in done if entry["fault"] == fault]
        if not of_one:
            lines.append(f"| {fault} | not yet | | |")
            continue
        tried = sum(entry["tried"] for entry in of_one)
        survived = sum(entry["tried"] for entry in of_one if not entry["problems"])
        lines.append(f"| {fault} | {tried} | {survived} | {sum(e['epochs_lost'] for e in of_one)} epochs |")
    for entry in done:
        lines += [f"\n{entry['fault']}, part {entry['part']}: {problem}" for problem in entry["problems"]]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
