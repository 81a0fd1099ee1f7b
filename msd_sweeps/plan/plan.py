"""The plan of a sweep: its trials, its slots and its time, known before anything runs; without torch or Ray."""

import json
import math
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from msd_sweeps.catalog.networks import NETWORKS
from msd_sweeps.plan.power import what_is_seen
from msd_sweeps.plan.slots import Node, SlotPlan, largest_trial, packing_of, plan_slots
from msd_sweeps.space.console import duration
from msd_sweeps.space.designs import Sweep, cell_label
from msd_sweeps.space.levels import on_step, steps_of
from msd_sweeps.space.schema import Choices, Parameter, Space

FLOP_OF_A_STEP = 6
"""Operations for each multiply-add of a forward pass and image: two, and twice as many in the backward pass."""
SHARED_FROM = 2e11
"""Operations of a step from which several GPUs may be worth it: about two milliseconds at 100 TFLOP a second, which the
launches of some hundred kernels take by themselves. An estimate, not measured."""


@dataclass(frozen=True)
class Plan:
    """What a sweep will run, and how it is divided into slots."""

    sweep: Sweep
    step_seconds: float | None = None
    """Seconds per student and step, where the pair of networks has been timed."""
    start_seconds: float | None = None
    """Seconds from the start of Ray to the first epoch's end, where they have been measured."""
    spread: float | None = None
    """Standard deviation of a trial around its row and seed, where an earlier sweep of this pair has shown it."""
    measured_pack: int | None = None
    """The pack that was measured to be best on this machine's GPU; takes the place of the estimated one."""

    @cached_property
    def trials(self) -> int:
        """Trials that the sweep takes at most."""
        return self.sweep.samples + len(self.sweep.fixed_trials) + self.sweep.confirmed_count

    def slots_on(self, nodes: Sequence[Node], memory: float = math.inf) -> SlotPlan:
        """The slots on these nodes. memory: bytes that all slots together may count on.

        Raises InputError that names what is asked for and what the nodes have.
        """
        packing = packing_of(self.sweep, self.measured_pack)
        return plan_slots(self.sweep.space.resources, nodes, self.trials, packing, memory)

    def slots_here(self, cpus: int | None = None) -> SlotPlan:
        """The slots on this machine, of which `cpus` CPUs may be used. Raises InputError as `slots_on` does."""
        slots = self.slots_on([{"CPU": cpus or local_cpus(), "GPU": local_gpus()}], available_bytes())
        return replace(slots, most=slots.slots)  # one machine does not grow

    def text(self, slots: SlotPlan | None) -> str:
        """The plan in words, as it is printed before anything starts. slots: None where a cluster decides."""
        space, base = self.sweep.space, self.sweep.base
        lines = [
            f"sweep      {self.sweep.name}: {space.design.replace('_', ' ')} by {_metrics(space)}, base {space.base}",
            f"pair       {base.teacher.model} -> {base.student.model} on {base.data.name}, method {base.method.name}, "
            f"{base.recipe.epochs} epochs of {base.steps_per_epoch} steps at batch size {base.recipe.batch_size}, "
            f"{base.recipe.precision}",
        ]
        lines += [f"parameter  {name}: {_values(parameter)}" for name, parameter in space.parameters.items()]
        lines += [f"bound      {one.set} where {one.when}" for one in space.bound]
        lines += [f"cell       without {label}" for label in space.without]
        lines += [f"cell       {label}" for label in space.also]
        if space.design == "screening":
            lines += _screening(self.sweep)
        lines.append(f"trials     {self._trials_by_part()}")
        lines.append(f"sees       {what_is_seen(self.sweep, self.spread)}")
        lines.append(f"slots      {slots or 'as many as the cluster has room for'}")
        if slots is not None and slots.on_gpu:
            lines.append(f"           {self._why(slots)}")
        lines.append(f"time       {self._time(slots)}")
        lines.append(f"weights    {self._kept()}")
        return "\n".join(lines)

    def _trials_by_part(self) -> str:
        space, fixed = self.sweep.space, self.sweep.fixed_trials
        if space.design != "search":
            cells = len({planned.label for planned in fixed})
            race = space.race
            more = (
                f", and up to {cells * (race.at_most - race.at_least)} where a comparison is undecided" if race else ""
            )
            return f"{len(fixed)} = {cells} cells x {len(space.first_seeds)} seeds{more}"
        confirm, search = space.confirm, space.search
        stopping = f", stopped early by {space.scheduler.type}" if space.scheduler.type != "none" else ""
        winners = f"{confirm.top_k} winner{'' if confirm.top_k == 1 else 's'}"
        winners += f" of {' and of '.join(self.sweep.searches)}" if search.each else ""
        names = ", ".join([winners, *confirm.baselines])
        searches = f"{len(self.sweep.searches)} searches x " if search.each else ""
        return (
            f"{self.trials} = {searches}{search.num_samples} search samples ({search.sampler}{stopping}) + "
            f"{len(self.sweep.winner_labels) + len(confirm.baselines)} cells ({names}) x {len(confirm.seeds)} seeds"
        )

    def _why(self, slots: SlotPlan) -> str:
        """Why GPUs have slots of their own, or share the batches of one."""
        base = self.sweep.base
        multiply_adds = NETWORKS[base.student.model].multiply_adds_at(base.data.facts.image_size)
        operations = FLOP_OF_A_STEP * 1e6 * multiply_adds * base.recipe.batch_size
        step = f"a step of {base.student.model} is {operations / 1e9:.3g} GFLOP"
        if operations < SHARED_FROM:
            if slots.num_workers == 1:
                return f"a slot for each GPU, because {step}: launches bound it, and more GPUs would not shorten it"
            return f"{step}, which launches bound: num_workers: 1 would train a student on each GPU instead"
        if slots.num_workers == 1:
            return f"{step}: where there are fewer trials than GPUs, num_workers divides its batch among several"
        return f"{step}, whose batch is divided among the workers of a slot"

    def _kept(self) -> str:
        keep = self.sweep.space.keep
        kept = 0 if keep == "none" else self.trials
        kept -= self.sweep.samples if keep == "reported" else 0
        if not kept:
            return "none are kept"
        size = 4 * NETWORKS[largest_trial(self.sweep).student.model].parameters / 1e6
        return f"of {kept} students are kept, at most about {kept * size:.1f} MB (keep: {keep})"

    def training_seconds(self, slots: SlotPlan | None, done: int = 0) -> float:
        """Seconds of training, less `done` epochs of students; NaN where no step of this pair has been timed here."""
        epochs, steps = self.trials * self.sweep.base.recipe.epochs - done, self.sweep.base.steps_per_epoch
        return epochs * steps * (self.step_seconds or math.nan) / (slots.slots if slots else 1)

    def _time(self, slots: SlotPlan | None) -> str:
        if self.step_seconds is None:
            return "unknown: no step of this pair has been timed here yet (--estimate times some)"
        seconds = self.training_seconds(slots)
        training = f"{duration(seconds)} of training at {self.step_seconds * 1000:.0f} ms a step"
        if self.start_seconds is None:
            return f"about {training}, and Ray's start-up, which has not been timed here yet"
        start = duration(self.start_seconds)
        return f"about {duration(seconds + self.start_seconds)}: {start} of start-up, as last time here, and {training}"


def _screening(sweep: Sweep) -> list[str]:
    """The cells of a screening design, its resolution, and what it cannot tell apart."""
    layout, names = sweep.layout, [name.rpartition(".")[2] for name in sweep.space.parameters]
    cells = [cell for cell in sweep.cells() if cell.levels]
    lines = [f"{cell.label:<10} {cell_label(cell.levels[0])}" for cell in cells]
    whole = f"{len(cells)} of {math.prod(layout.levels)} combinations"
    return [*lines, f"resolution {layout.resolution}, {whole}", *(f"aliased    {one}" for one in layout.aliases(names))]


def _metrics(space: Space) -> str:
    if len(space.metrics) == 1:
        return space.metrics[0].name
    return "the Pareto front of " + " and ".join(f"{metric.name} ({metric.mode})" for metric in space.metrics)


def _values(parameter: Parameter) -> str:
    when = f", when {parameter.when}" if parameter.when else ""
    if isinstance(parameter, Choices):
        return "one of " + ", ".join(map(json.dumps, parameter.choices)) + when
    spacing, high = ", logarithmic" if parameter.log else "", parameter.high
    kind = "whole numbers " if parameter.is_integer else ""
    if parameter.step:
        high = on_step(parameter, parameter.low + steps_of(parameter) * parameter.step)
        beyond = "" if math.isclose(high, parameter.high) else f" ({parameter.high:g} is not on a step)"
        spacing = f" in steps of {parameter.step:g}{beyond}"
    return f"{kind}{parameter.low:g} to {high:g}{spacing}{when}"


def local_cpus(control_group: Path = Path("/sys/fs/cgroup")) -> int:
    """CPUs that this process may use: its affinity, and the quota of its control group (either version), rounded up."""
    cpus = len(os.sched_getaffinity(0))
    for names in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        with suppress(OSError, ValueError):  # absent, or "max" where there is no limit
            quota, period = map(int, " ".join((control_group / name).read_text() for name in names).split())
            if quota > 0 and period > 0:
                cpus = min(cpus, -(-quota // period))
    return cpus


def local_gpus(devices: Path = Path("/dev")) -> int:
    """NVIDIA GPUs, or MIG parts of one, that this process may use; from the devices, without loading CUDA."""
    present = len([path for path in devices.glob("nvidia[0-9]*") if path.name[6:].isdigit()])
    present = present or int((devices / "dxg").exists())  # Windows' subsystem for Linux
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None or not present:
        return present
    chosen = [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1")]
    return len(chosen) if all(name.startswith("MIG-") for name in chosen) else min(present, len(chosen))


def available_bytes(meminfo: Path = Path("/proc/meminfo"), control_group: Path = Path("/sys/fs/cgroup")) -> float:
    """Bytes of memory that are free on this machine or in its control group; infinite where neither is known.

    meminfo, control_group: where Linux reports them.
    """
    found = math.inf
    with suppress(OSError, ValueError, IndexError):
        found = 1024.0 * int(meminfo.read_text().split("MemAvailable:")[1].split()[0])
    with suppress(OSError, ValueError):  # "max" where there is no limit
        limit, used = (int((control_group / f"memory.{name}").read_text()) for name in ("max", "current"))
        found = min(found, float(limit - used))
    return found
