"""Time training steps against each other in one run: `python -m msd_sweeps.bench.steps --help`.

Compares, in turns: the student without a teacher (the floor), a kd step as other repositories run it, steps of methods,
and packed cohorts. Needs torch and pydantic only, and no files. With matplotlib it draws the time per trial against the
size of the pack.
"""

import argparse
import operator
import platform
import statistics
import sys
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path

import torch
from torch import nn

from msd_sweeps.bench.results import Ratio, command_line, markdown, publish
from msd_sweeps.distill import models
from msd_sweeps.distill.device import choose_device, choose_dtype, device_name
from msd_sweeps.distill.timing import Step, cohort_step, random_splits, replicates, time_in_turns
from msd_sweeps.records.files import write_whole
from msd_sweeps.space.console import refusing_bad_input
from msd_sweeps.space.load import load_base
from msd_sweeps.space.methods import METHODS
from msd_sweeps.space.trial import Trial, changed

FLOOR, PEERS = "student without a teacher", "kd as peers run it"
Timings = dict[str, list[float]]
"""Seconds of a step, per trial: one entry a round."""


def packed(pack: int) -> str:
    """The row of a cohort of so many trials."""
    return "one trial alone in a slot" if pack == 1 else f"{pack} trials packed"


def with_method(base: Trial, name: str) -> Trial:
    """The base with another method at its defaults; with its own settings where it is the base's method."""
    return base if name == base.method.name else changed(base, {"method": {"name": name}})


def compare(base: Trial, methods: list[str], packs: list[int], rounds: int, steps: int) -> Timings:
    """The floor, the peers' kd, every method, and cohorts of the base as slots take them, all in turns.

    On a processor a student of a slot has one core, the others of them all.
    """
    candidates: dict[str, Step] = {FLOOR: cohort_step([with_method(base, "none")]), PEERS: peer_step(base)}
    candidates |= {name: cohort_step([with_method(base, name)]) for name in methods if name != "none"}
    trials = {packed(pack): pack for pack in packs}
    candidates |= {name: cohort_step(replicates(base, pack), threads_per_student=1) for name, pack in trials.items()}
    seconds = time_in_turns(candidates, rounds, steps)
    return {name: [each / trials.get(name, 1) for each in taken] for name, taken in seconds.items()}


def peer_step(trial: Trial) -> Step:
    """A kd step as the field's repositories run it: float32, channels first, the teacher as it was trained."""
    device = choose_device()
    num_classes = trial.data.facts.num_classes
    teacher = models.build(trial.teacher.model, num_classes).to(device).eval()
    student = models.build(trial.student.model, num_classes).to(device).train()
    optimizer = torch.optim.SGD(student.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    split = random_splits(trial).train.to(device)
    pixels, labels = next(split.plain(trial.recipe.batch_size))
    images = pixels.float() / 255

    def step() -> None:
        with torch.no_grad():
            target = teacher(images).logits
        logits = student(images).logits
        kd = nn.functional.kl_div(
            (logits / 4).log_softmax(1), (target / 4).log_softmax(1), log_target=True, reduction="batchmean"
        )
        loss = 0.1 * nn.functional.cross_entropy(logits, labels) + 0.9 * 16 * kd
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()  # their meters read the loss at every step

    return step


def peak_mebibytes(trial: Trial) -> float:
    """Peak memory of this process after a few steps, MiB: on a GPU what CUDA gave, else what was resident.

    For a process of its own, whose peak nothing else has set. Raises OSError where there is no /proc.
    """
    step = cohort_step([trial])
    for _ in range(3):
        step()
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    # Not ru_maxrss: a child process begins with its parent's.
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 2**10


def ratios(timings: Timings, peaks: dict[str, float]) -> list[Ratio]:
    """Each ratio with a target of which both sides were measured."""
    eight = packed(8)
    targets = [(eight, ", per trial", FLOOR, 1.15), (eight, ", per trial", PEERS, 1 / 3), ("msd", "", "kd", 1.05)]
    found = [
        Ratio(f"{mine}{unit} ÷ {other}", timings[mine], timings[other], most)
        for mine, unit, other, most in targets
        if {mine, other} <= timings.keys()
    ]
    memory = {name: [peak] for name, peak in peaks.items()}
    for what, measured, most in (("time", timings, 0.1), ("memory", memory, 0.5)):
        if {"msd", "kd", "crd"} <= measured.keys():
            msd, crd = (map(operator.sub, measured[name], measured["kd"]) for name in ("msd", "crd"))
            title = f"{what} that msd adds to kd ÷ {what} that crd adds"
            raw = tuple(measured[name] for name in ("kd", "msd", "crd"))
            found.append(Ratio(title, list(msd), list(crd), most, measured=raw))
    return found


def as_markdown(timings: Timings, peaks: dict[str, float]) -> str:
    """A table of the timings, each with its ratio to the floor, to the peers' kd, and to ours where that was timed."""
    yardsticks = {FLOOR: "floor", PEERS: "peers' kd"} | ({"kd": "kd"} if "kd" in timings else {})
    rows = []
    for name, seconds in timings.items():
        low, middle, high = (1e3 * of(seconds) for of in (min, statistics.median, max))
        over = [f"{statistics.median(Ratio('', seconds, timings[other], 1).rounds):.2f}" for other in yardsticks]
        peak = f"{peaks[name]:.0f}" if name in peaks else ""
        rows.append([name, f"{middle:.1f}", f"{low:.1f} to {high:.1f}", *over, peak])
    head = ["step of", "ms a trial (median)", "range", *(f"÷ {name}" for name in yardsticks.values())]
    return markdown([*head, "peak memory, MiB"], rows)


def draw(path: Path, timings: Timings, packs: list[int]) -> None:
    """Draw time per trial against the size of the pack, as an SVG."""
    import numpy as np

    from msd_sweeps.report.figures.style import BLUE, GREY, ORANGE, new_figure, rendered, style

    times = np.array([timings[packed(pack)] for pack in packs]) * 1e3
    with style():
        figure, (axis,) = new_figure(2.8)
        medians = np.median(times, axis=1)
        spread = [medians - times.min(axis=1), times.max(axis=1) - medians]
        axis.errorbar(packs, medians, yerr=spread, fmt="o-", color=BLUE, capsize=3, label="packed trials")
        for name, color in ((FLOOR, GREY), (PEERS, ORANGE)):
            axis.axhline(1e3 * statistics.median(timings[name]), color=color, linestyle="--", label=name)
        axis.set_xscale("log", base=2)
        axis.set_xticks(packs, list(map(str, packs)))
        axis.set_ylim(bottom=0)
        axis.set_xlabel("trials in the pack")
        axis.set_ylabel("ms a step and trial (median, range)")
        axis.legend()
        write_whole(path, rendered(figure, "svg"))


@refusing_bad_input
def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    command = argparse.ArgumentParser(prog="python -m msd_sweeps.bench.steps", description=__doc__.split("\n")[0])
    add = command.add_argument
    add("--base", default="digits", help="the pair to time (digits); random images of its shape are used")
    add("--set", action="append", default=[], metavar="PATH=VALUE", dest="settings", help="change the base; repeatable")
    add("--methods", nargs="*", default=["kd", "msd", "crd"], help=f"methods to time, or 'all': {', '.join(METHODS)}")
    add("--packs", nargs="*", type=int, default=[1, 2, 4, 8, 16], help="students in a packed cohort")
    add("--rounds", type=int, default=7)
    add("--steps", type=int, default=2, help="steps in a round")
    add("--memory", action="store_true", help="measure each method's peak memory, in a process of its own")
    add("--out", type=Path, metavar="DIR", help="write table, numbers and plot into this folder as well")
    options = command.parse_args(arguments)
    base = load_base(options.base, options.settings)
    methods = [name for name in METHODS if name != "none"] if options.methods == ["all"] else options.methods
    for name in methods:
        with_method(base, name)  # raises for bad input, before anything is timed
    peaks: dict[str, float] = {}
    for name in methods if options.memory else []:  # first, while this process leaves the machine to them
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            peaks[name] = pool.submit(peak_mebibytes, with_method(base, name)).result()
    timings = compare(base, methods, options.packs, options.rounds, options.steps)
    device = choose_device()
    title = (
        f"{base.teacher.model} -> {base.student.model} on {base.data.name} shapes, batch {base.recipe.batch_size}, "
        f"{str(choose_dtype(base.recipe.precision, device)).removeprefix('torch.')}; "
        f"{device_name(device)}; torch {torch.__version__}, Python {platform.python_version()}"
    )
    words = command_line("msd_sweeps.bench.steps", arguments)
    made = f"`{words}`: {options.rounds} rounds of {options.steps} steps, in turns; wall time"
    rows = [{"name": name, "seconds": taken, "peak_mebibytes": peaks.get(name)} for name, taken in timings.items()]
    path = options.out and options.out / f"{Path(options.base).stem}-{device.type}-steps"
    table = as_markdown(timings, peaks)
    publish(path, "Cost of a training step", title, made, table, ratios(timings, peaks), {"steps": rows})
    if path is not None and options.packs and find_spec("matplotlib"):  # the core's machine may have torch alone
        draw(path.with_suffix(".svg"), timings, options.packs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
