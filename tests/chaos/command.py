"""Faults many times over: `python -m tests.chaos.command [--out reports/reliability]`.

Sweeps live through faults that are drawn and combined, and through rows of one fault each. Writes a table of faults
(times tried, times survived, work lost) and what it was made from. Every draw comes from --seed. `--resume` goes on
with what a broken-off run has written; `--life JSON` repeats one life.
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

from tests.chaos import drawn, faults, other_faults
from tests.chaos.lives import Life, Outcome, References, Tried

_PARTS, _LIVES_OF_A_PART = 14, 3
"""Of lives that are drawn: half of the parts are with real training."""
FOUND = Path(__file__).with_name("found.md")
"""The faults of the product that the table has found."""


class Unit(NamedTuple):
    """What is recorded together: a fault, or a part of the lives that are drawn."""

    name: str
    live: Callable[[Path, References, random.Random], Outcome]


def units(seed: int) -> list[Unit]:
    """Everything that `make chaos` does."""
    found = []
    for part in range(_PARTS):
        live_all = drawn.draw(f"{seed}-{part}", bool(part % 2), _LIVES_OF_A_PART)
        found.append(Unit(f"lives that are drawn, part {part}", _without_random(live_all)))
    return found + [Unit(name, live) for name, live in other_faults.LIVES.items()]


def _without_random(
    live: Callable[[Path, References], Outcome],
) -> Callable[[Path, References, random.Random], Outcome]:
    return lambda folder, references, instants: live(folder, references)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code: 1 where something was lost."""
    command = argparse.ArgumentParser(prog="python -m tests.chaos.command", description=__doc__.split("\n")[0])
    command.add_argument("--seed", type=int, default=0, help="of every draw (0)")
    command.add_argument("--out", type=Path, default=Path("reports/reliability"), metavar="DIR")
    command.add_argument("--resume", action="store_true", help="keep what DIR has of an earlier run")
    command.add_argument("--only", default="", metavar="TEXT", help="rows that have TEXT in their name")
    command.add_argument("--most-seconds", type=float, default=1e9, help="begin nothing more after this long")
    command.add_argument("--life", metavar="JSON", help="repeat this life alone, and write nothing")
    options = command.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        references = References(Path(folder) / "references")
        if options.life is not None:
            outcome = faults.live(Life.of_json(options.life), Path(folder) / "life", references)
            print(*outcome.tried, *outcome.problems, sep="\n")
            return 1 if outcome.problems else 0
        return _run(options, references)


def _run(options: argparse.Namespace, references: References) -> int:
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "faults.json"
    done: list[dict[str, Any]] = json.loads(path.read_text()) if options.resume and path.exists() else []
    known = {(entry["unit"], entry["seed"]) for entry in done}
    started = time.monotonic()
    for unit in units(options.seed):
        if options.only not in unit.name or (unit.name, options.seed) in known:
            continue
        if time.monotonic() - started > options.most_seconds:
            break
        print(unit.name, flush=True)
        entry = _entry(unit, options.seed, references)
        times = sum(tried["times"] for tried in entry["tried"])
        print(f"  {times} tried, {entry['seconds']} s, {entry['problems'] or 'all survived'}", flush=True)
        done.append(entry)
        path.write_text(json.dumps(done, indent=1) + "\n")
    (options.out / "README.md").write_text(page(done))
    return 1 if any(entry["problems"] for entry in done) else 0


def _entry(unit: Unit, seed: int, references: References) -> dict[str, Any]:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        try:
            outcome = unit.live(Path(folder), references, random.Random(f"{seed} {unit.name}"))
        except Exception as error:
            outcome = Outcome([Tried(unit.name, False)], [f"{type(error).__name__}: {error}"])
    tried = [one._asdict() for one in outcome.tried]
    seconds = round(time.monotonic() - began)
    return {"unit": unit.name, "seed": seed, "tried": tried, "problems": outcome.problems, "seconds": seconds}


def page(done: list[dict[str, Any]]) -> str:
    """The table, what was not survived, and what it has found in the product."""
    seeds = ", ".join(map(str, sorted({entry["seed"] for entry in done})))
    every = [tried | {"is_survived": not entry["problems"]} for entry in done for tried in entry["tried"]]
    real = sum(tried["times"] for tried in every if tried["is_real"])
    lines = [
        "# Faults\n",
        f"Written by `make chaos` (`python -m tests.chaos.command`, seeds {seeds}): {sum(t['times'] for t in every)} "
        f"faults were tried, {real} of them with real training on digits; the other trials' numbers are invented from "
        "their ids. In the lives that are drawn they come combined: Hypothesis draws a space (grid, one_at_a_time and "
        "leave_one_out with seeds that are added, a search with ASHA and confirmation), and the faults that its sweep "
        "meets one after another. A fault is survived when the sweep, gone on with by the same command, trained "
        "nothing again that had ended, left nothing behind, and gives the report of an uninterrupted one byte for "
        "byte, figures, Parquet and hashes of data and teachers included; only times, attempts, slots, launches and "
        "the commit are left out. A search has to choose the same configurations. Where a sweep differs, none of its "
        "faults counts as survived.\n",
        "Epochs lost were recorded and had to be trained again. Seconds lost go from the fault to the next epoch that "
        "is new, with starting the command and Ray again. Both are sums.\n",
        "| fault | tried | with real training | survived | epochs lost | seconds lost |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for fault in sorted({tried["fault"] for tried in every}):
        of_one = [tried for tried in every if tried["fault"] == fault]
        times, with_real, survived = (
            sum(tried["times"] for tried in of_one if tried.get(key, True)) for key in ("", "is_real", "is_survived")
        )
        epochs, seconds = (sum(tried[key] for tried in of_one) for key in ("epochs", "seconds"))
        lines.append(f"| {fault} | {times} | {with_real} | {survived} | {epochs} | {seconds:.0f} |")
    lines.append(f"\nThe run took {sum(entry['seconds'] for entry in done) / 60:.0f} minutes.")
    known = {entry["unit"] for entry in done}
    if left := [unit.name for unit in units(0) if unit.name not in known]:
        lines.append(f"\nNot tried yet (`--resume` goes on with them): {'; '.join(left)}.")
    if found := [f"- {entry['unit']}: {problem}" for entry in done for problem in entry["problems"]]:
        lines += ["\n## Not survived\n", *found]
    return "\n".join(lines) + "\n\n" + FOUND.read_text()


if __name__ == "__main__":
    sys.exit(main())
