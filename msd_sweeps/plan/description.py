"""What a sweep will do, in words, and how long it may take; nothing here needs torch or Ray."""

import json
import os
from pathlib import Path

from msd_sweeps.plan.slots import Node, SlotPlan
from msd_sweeps.space.designs import Sweep
from msd_sweeps.space.schema import Choices, Parameter, Space


def local_cpus() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0))


def local_gpus() -> int:
    """NVIDIA GPUs that this process may use, found without loading CUDA."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([device for device in visible.split(",") if device.strip() not in ("", "-1")])
    return len([path for path in Path("/dev").glob("nvidia[0-9]*") if path.name[6:].isdigit()])


def local_node(cpus: int | None = None) -> Node:
    """This machine as a node, with the CPUs that a local Ray may use."""
    return {"CPU": cpus or local_cpus(), "GPU": local_gpus()}


def trial_count(sweep: Sweep) -> int:
    """Trials that a sweep takes at most."""
    searched = sweep.space.search.num_samples if sweep.space.design == "search" else 0
    return searched + len(sweep.fixed_trials) + sweep.confirmed_count


def describe(sweep: Sweep, slots: SlotPlan | None, step_seconds: float | None) -> str:
    """The plan, as it is printed before anything starts. `slots` is None where a cluster decides."""
    space, base = sweep.space, sweep.base
    lines = [
        f"sweep      {sweep.name}: {space.design.replace('_', ' ')} by {_metrics_told(space)}, base {space.base}",
        f"pair       {base.teacher.model} -> {base.student.model} on {base.data.name}, method {base.method.name}, "
        f"{base.recipe.epochs} epochs of {base.steps_per_epoch} steps at batch size {base.recipe.batch_size}",
    ]
    for name, parameter in space.parameters.items():
        lines.append(f"parameter  {name}: {_told(parameter)}")
    for label in [*space.without, *space.also]:
        lines.append(f"cell       {'without ' if label in space.without else ''}{label}")
    lines.append(f"trials     {_trials_told(sweep)}")
    lines.append(f"slots      {slots or 'as many as the cluster has room for'}")
    lines.append(f"time       {_time_told(sweep, slots, step_seconds)}")
    return "\n".join(lines)


def _metrics_told(space: Space) -> str:
    if len(space.metrics) == 1:
        return space.metrics[0].name
    return "the Pareto front of " + " and ".join(f"{metric.name} ({metric.mode})" for metric in space.metrics)


def _told(parameter: Parameter) -> str:
    when = f", when {parameter.when}" if parameter.when else ""
    if isinstance(parameter, Choices):
        values = parameter.choices
        return "one of " + ", ".join(map(json.dumps, values)) + when
    spacing = ", logarithmic" if parameter.log else f", step {parameter.step:g}" if parameter.step else ""
    kind = "whole numbers " if parameter.is_integer else ""
    return f"{kind}{parameter.low:g} to {parameter.high:g}{spacing}{when}"


def _trials_told(sweep: Sweep) -> str:
    space = sweep.space
    if space.design != "search":
        cells = len({planned.label for planned in sweep.fixed_trials})
        return f"{len(sweep.fixed_trials)} = {cells} cells x {len(space.seeds)} seeds"
    stopping = f", stopped early by {space.scheduler.type}" if space.scheduler.type != "none" else ""
    cells = space.confirm.top_k + len(space.confirm.baselines)
    winners = f"{space.confirm.top_k} winner{'' if space.confirm.top_k == 1 else 's'}"
    names = ", ".join([winners, *space.confirm.baselines])
    return (
        f"{trial_count(sweep)} = {space.search.num_samples} search samples ({space.search.sampler}{stopping}) + "
        f"{cells} cells ({names}) x {len(space.confirm.seeds)} seeds"
    )


def _time_told(sweep: Sweep, slots: SlotPlan | None, step_seconds: float | None) -> str:
    if step_seconds is None:
        return "unknown: no step of this pair has been timed here yet (--estimate times some)"
    seconds = trial_count(sweep) * sweep.base.recipe.epochs * sweep.base.steps_per_epoch * step_seconds
    seconds /= slots.slots if slots else 1
    return f"at most about {duration(seconds)}, from {step_seconds * 1000:.0f} ms a step"


def duration(seconds: float) -> str:
    """A length of time in words, such as 3 h 20 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min"
