"""Time training steps against each other in one run: `python -m msd_sweeps.bench.steps --help`.

Compares, in turns: the student without a teacher (the floor), the base's trial alone, packed cohorts of it, steps of
other methods, and a kd step as the field's repositories run it. Needs torch and pydantic only, and no files; with
matplotlib it draws the time per trial against the size of the pack.
"""

import argparse
import json
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from msd_sweeps.distill.device import choose_device, choose_dtype, device_name
from msd_sweeps.distill.timing import (
    Ratio,
    Step,
    Timing,
    cohort_step,
    peak_mebibytes,
    peer_step,
    time_in_turns,
    with_method,
)
from msd_sweeps.space.errors import InputError
from msd_sweeps.space.load import load_base
from msd_sweeps.space.trial import Trial

METHODS = (
    "none",
    "kd",
    "dkd",
    "fitnet",
    "at",
    "sp",
    "rkd",
    "pkt",
    "vid",
    "crd",
    "wcord",
    "reviewkd",
    "dist",
    "sdd",
    "msd",
)
FLOOR, PEERS = "student without a teacher", "kd as peers run it"


def packed(pack: int) -> str:
    """The row of a cohort of so many trials."""
    return "one trial alone in a slot" if pack == 1 else f"{pack} trials packed"


def compare(base: Trial, methods: list[str], packs: list[int], rounds: int, steps: int, cpu_time: bool) -> list[Timing]:
    """The floor, the peers' kd, every method, and cohorts of the base as slots take them, all in turns.

    On a processor a student of a slot has one core, the others of them all.
    """
    candidates: dict[str, Step] = {FLOOR: cohort_step([with_method(base, "none")]), PEERS: peer_step(base)}
    for method in methods:
        if method != "none":
            candidates[method] = cohort_step([with_method(base, method)])
    trials: dict[str, int] = {}
    for pack in packs:
        name = packed(pack)
        students = [with_method(base, base.method.name, seed) for seed in range(pack)]
        candidates[name] = cohort_step(students, threads_per_student=1)
        trials[name] = pack
    clock = time.process_time if cpu_time else time.perf_counter
    return time_in_turns(candidates, rounds, steps, trials, clock)


def peak_of(base: str, settings: list[str], method: str) -> float:
    """Peak memory, MiB, of a process of its own that takes a few steps of one method."""
    words = [sys.executable, "-m", "msd_sweeps.bench.steps", "--base", base, "--peak-of", method]
    words += [word for setting in settings for word in ("--set", setting)]
    out = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    return float(out.strip().splitlines()[-1])


def ratios(timings: list[Timing], peaks: dict[str, float]) -> list[dict[str, Any]]:
    """What was measured of each ratio that the project sets itself a target for."""
    by_name = {timing.name: timing for timing in timings}

    def known(*names: str) -> bool:
        return all(name in by_name for name in names)

    found: list[dict[str, Any]] = []

    def add(what: str, ratio: Ratio, target: float) -> None:
        found.append({"ratio": what, "target": target, **ratio._asdict()})

    eight = packed(8)
    if known(eight):
        add(f"{eight}, per trial ÷ {FLOOR}", by_name[eight].over(by_name[FLOOR]), 1.15)
        add(f"{eight}, per trial ÷ {PEERS}", by_name[eight].over(by_name[PEERS]), 1 / 3)
    if known("msd", "kd"):
        add("msd ÷ kd", by_name["msd"].over(by_name["kd"]), 1.05)
    if known("msd", "kd", "crd"):
        msd, kd, crd = (by_name[name] for name in ("msd", "kd", "crd"))
        share = msd.less(kd) / crd.less(kd)
        add("time that msd adds to kd ÷ time that crd adds", Ratio(share, share, share), 0.1)
    if all(name in peaks for name in ("msd", "kd", "crd")):
        share = (peaks["msd"] - peaks["kd"]) / (peaks["crd"] - peaks["kd"])
        add("memory that msd adds to kd ÷ memory that crd adds", Ratio(share, share, share), 0.5)
    return found


def as_markdown(timings: list[Timing], peaks: dict[str, float]) -> str:
    """A table of the timings, each with its ratio to the floor, to the peers' kd, and to ours where that was timed."""
    by_name = {timing.name: timing for timing in timings}
    yardsticks = {FLOOR: "floor", PEERS: "peers' kd"} | ({"kd": "kd"} if "kd" in by_name else {})
    ratios = " | ".join(f"÷ {told}" for told in yardsticks.values())
    lines = [
        f"| step of | ms a trial (median) | range | {ratios} | peak memory, MiB |",
        "|---|---|---|" + "---|" * (len(yardsticks) + 1),
    ]
    for timing in timings:
        peak = f"{peaks[timing.name]:.0f}" if timing.name in peaks else ""
        low, high = min(timing.seconds) * 1e3, max(timing.seconds) * 1e3
        over = " | ".join(f"{timing.over(by_name[name]).median:.2f}" for name in yardsticks)
        lines.append(f"| {timing.name} | {timing.median * 1e3:.1f} | {low:.1f} to {high:.1f} | {over} | {peak} |")
    return "\n".join(lines)


def ratios_as_markdown(found: list[dict[str, Any]]) -> str:
    """A table of the ratios with their targets, and whether the median keeps them."""
    lines = ["| ratio | median | range of the rounds | target | kept |", "|---|---|---|---|---|"]
    for one in found:
        kept = "yes" if one["median"] <= one["target"] else "no"
        spread = f"{one['low']:.3f} to {one['high']:.3f}" if one["low"] != one["high"] else ""
        lines.append(f"| {one['ratio']} | {one['median']:.3f} | {spread} | ≤ {one['target']:.3g} | {kept} |")
    return "\n".join(lines) if found else ""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = argparse.ArgumentParser(prog="python -m msd_sweeps.bench.steps", description=__doc__.split("\n")[0])
    add = command.add_argument
    add("--base", default="digits", help="the pair to time (digits); random images of its shape are used")
    add("--set", action="append", default=[], metavar="PATH=VALUE", dest="settings", help="change the base; repeatable")
    add("--methods", nargs="*", default=["kd", "msd", "crd"], help=f"methods to time, or 'all': {', '.join(METHODS)}")
    add("--packs", nargs="*", type=int, default=[1, 2, 4, 8, 16], help="students in a packed cohort")
    add("--rounds", type=int, default=7)
    add("--steps", type=int, default=2, help="steps in a round")
    add(
        "--cpu-time",
        action="store_true",
        help="count CPU seconds of one thread, not the clock's: for a machine that others use at the same time",
    )
    add("--memory", action="store_true", help="measure each method's peak memory, in a process of its own")
    add("--out", type=Path, metavar="DIR", help="write table, numbers and plot into this folder as well")
    add("--peak-of", help=argparse.SUPPRESS)
    return command


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = parser().parse_args(arguments)
    try:
        base = load_base(options.base, options.settings)
        methods = list(METHODS[1:]) if options.methods == ["all"] else options.methods
        for name in methods:
            with_method(base, name)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.peak_of:
        print(peak_mebibytes(with_method(base, options.peak_of)))
        return 0
    if options.cpu_time:
        torch.set_num_threads(1)
    # First, while this process leaves the machine to them.
    peaks = {name: peak_of(options.base, options.settings, name) for name in methods} if options.memory else {}
    timings = compare(base, methods, options.packs, options.rounds, options.steps, options.cpu_time)
    found = ratios(timings, peaks)
    title = (
        f"{base.teacher.model} -> {base.student.model} on {base.data.name} shapes, batch {base.recipe.batch_size}, "
        f"{str(choose_dtype(base.recipe.precision, choose_device())).removeprefix('torch.')}; "
        f"{device_name(choose_device())}; torch {torch.__version__}, Python {platform.python_version()}"
    )
    words = " ".join(["python -m msd_sweeps.bench.steps", *(sys.argv[1:] if arguments is None else arguments)])
    tables = [as_markdown(timings, peaks), ratios_as_markdown(found)]
    print("\n\n".join([title, *tables]))
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        path = options.out / f"{Path(options.base).stem}-{choose_device().type}-steps"
        counted = "CPU seconds of one thread" if options.cpu_time else "wall time"
        made = f"Made by `{words}`: {options.rounds} rounds of {options.steps} steps, in turns; {counted}."
        text = ["# Cost of a training step", f"{title}.\n{made}", *tables]
        path.with_suffix(".md").write_text("\n\n".join(text).rstrip() + "\n")
        rows = [timing._asdict() | {"peak_mebibytes": peaks.get(timing.name)} for timing in timings]
        numbers: dict[str, Any] = {"title": title, "command": words, "steps": rows, "ratios": found}
        numbers |= {"floor": FLOOR, "peers": PEERS, "packs": {str(pack): packed(pack) for pack in options.packs}}
        path.with_suffix(".json").write_text(json.dumps(numbers, indent=1) + "\n")
        _draw(path.with_suffix(".json"))
    return 0


def _draw(numbers: Path) -> None:
    try:
        from msd_sweeps.bench.drawing import draw
    except ImportError as error:
        print(f"no plot, because {error.name} is not installed here: python -m msd_sweeps.bench.drawing {numbers}")
        return
    draw(numbers)


if __name__ == "__main__":
    sys.exit(main())
