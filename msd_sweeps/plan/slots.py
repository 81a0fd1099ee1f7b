"""How nodes are divided into slots, and how many students share one where `pack: auto` leaves that open.

Computed without torch, before anything runs, and again when a cluster grows or shrinks.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import NamedTuple

from msd_sweeps.catalog.networks import NETWORKS
from msd_sweeps.space.designs import Sweep
from msd_sweeps.space.errors import InputError
from msd_sweeps.space.sections import Resources
from msd_sweeps.space.trial import Trial

Node = Mapping[str, float]
"""The resources of a node by Ray's names: CPU, GPU, accelerator_type:H100, and resources of the user's own."""

TEACHER_SHARE = 0.15
"""A pack is large enough when the teacher's pass costs each student at most this part of its own step."""
MOST = 32
"""However heavy the teacher: a search learns little from trials that all start together."""
_SHARE_OF_MEMORY = 0.5
"""The rest is left to data, activations and other processes."""
_TRIALS_EXAMINED = 200
_PASSES = 3  # forward, and twice as much backward
_COPIES = 3  # weights, gradients, momentum
_MOST_THREADS = 8
_ROUNDING = 1e-9
"""Floats that stand for whole counts may fall short by a rounding."""
_MOST_NODES_SHOWN = 4


class Packing(NamedTuple):
    """What decides the pack of a sweep's slots."""

    enough: int
    """Students among which the teacher is a small part of a step or, on a GPU, from which more were measured to gain
    little."""
    student_bytes: int
    """The largest student's lasting memory."""
    evenly: bool = False
    """Whether all trials are known beforehand: more than `enough` then share a slot where a few would be left over for
    a pass of their own. A search learns more from small packs."""

    def pack(self, trials: int, slots: int, slot_bytes: float, parallel: int = 1) -> int:
        """Students for each of `slots` slots: all slots get work, none more than fits into its memory.

        parallel: students of a slot that step at the same time; the pack is a multiple of it where it can be.
        """
        fitting = _SHARE_OF_MEMORY * slot_bytes / self.student_bytes
        each = math.ceil(trials / slots)
        enough = parallel * math.ceil(self.enough / parallel)
        if self.evenly and each > enough:
            enough = math.ceil(each / (each // enough))
        return max(1, math.floor(min(enough, fitting, each)))


@dataclass(frozen=True)
class SlotPlan:
    """How nodes are divided into slots of one shape. On no node do the slots take more than there is.

    A worker lies on one node; a slot's workers may lie on several.
    """

    num_workers: int
    per_worker: dict[str, float]
    """The resources of each worker."""
    accelerator_type: str | None = None
    placement_strategy: str = "PACK"
    threads_per_student: int = 1
    checkpoint_seconds: float = 0.0
    """The time between two checkpoints of a slot's students."""
    slots: int = 0
    """Slots that there is room for now, and trials for."""
    most: int = 0
    """Slots that there are trials for, however large the cluster grows."""
    pack: int = 0
    """The most students of a slot."""

    @property
    def threads(self) -> int:
        """torch's threads in a worker."""
        return int(self.per_worker["CPU"])

    @property
    def on_gpu(self) -> bool:
        """Whether workers train on GPUs."""
        return "GPU" in self.per_worker

    def slots_on(self, nodes: Sequence[Node]) -> int:
        """Slots to have on these nodes: as many as have room, and trials."""
        return min(self.most, self.fitting(nodes))

    def fitting(self, nodes: Sequence[Node]) -> int:
        """The number of slots that these nodes have room for."""
        kind = self.accelerator_type and f"accelerator_type:{self.accelerator_type}"
        fits = [
            min(int(node.get(name, 0) / amount + _ROUNDING) for name, amount in self.per_worker.items())
            for node in nodes
            if kind is None or node.get(kind)
        ]
        if self.placement_strategy == "STRICT_PACK":
            return sum(count // self.num_workers for count in fits)
        if self.placement_strategy == "STRICT_SPREAD":
            slots = range(sum(fits) // self.num_workers, 0, -1)
            return next((n for n in slots if sum(min(count, n) for count in fits) >= n * self.num_workers), 0)
        return sum(fits) // self.num_workers

    def need_and_have(self, nodes: Sequence[Node]) -> str:
        """A sentence on what a slot needs and what these nodes, which have no room for one, have."""
        have = {name: math.fsum(node.get(name, 0) for node in nodes) for name in self.per_worker}
        need = {name: self.num_workers * amount for name, amount in self.per_worker.items()}
        short = [name for name in need if have[name] < need[name] - _ROUNDING] or list(need)
        needed = _amounts({name: need[name] for name in short})
        found = " and ".join(f"{have[name]:g}" for name in short)
        message = f"resources: {self.num_workers} workers x {_amounts(self.per_worker)} need {needed}, have {found}"
        if len(nodes) > 1:
            shown = [_amounts({name: node.get(name, 0) for name in need}) for node in nodes[:_MOST_NODES_SHOWN]]
            shown += [f"and {len(nodes) - _MOST_NODES_SHOWN} more"] * (len(nodes) > _MOST_NODES_SHOWN)
            message += f" on {len(nodes)} nodes ({'; '.join(shown)}), placed by {self.placement_strategy}"
        if self.accelerator_type is not None:
            known = {name for node in nodes for name in node if name.startswith("accelerator_type:")}
            kinds = ", ".join(sorted(name.partition(":")[2] for name in known))
            message += f"; only nodes with {self.accelerator_type} count, there are {kinds or 'no accelerators'}"
        return message

    def __str__(self) -> str:
        each = " + ".join(f"{amount:g} {name}" for name, amount in self.per_worker.items())
        each = f"{self.num_workers} worker{'s' * (self.num_workers > 1)} x {each}"
        kind = f" ({self.accelerator_type})" if self.accelerator_type else ""
        return f"{self.slots} slot{'s' * (self.slots > 1)} of {each}{kind}, up to {self.pack} students in each"


def plan_slots(
    resources: Resources, nodes: Sequence[Node], trials: int, packing: Packing, memory: float = math.inf
) -> SlotPlan:
    """Divide nodes into slots for a number of trials.

    packing: decides an automatic pack. memory: bytes that all slots together may count on.

    Raises InputError that names what is asked for and what the nodes have.
    """
    plan = _shaped(resources, nodes)
    cpus, threads = plan.per_worker["CPU"], plan.threads_per_student
    parallel = 1
    if not plan.on_gpu and plan.num_workers == 1:  # one worker steps a student for each of its threads
        if cpus < threads:
            raise InputError(
                f"resources.threads_per_student: {threads} threads for a student, a worker has {cpus:g} CPUs"
            )
        parallel = int(cpus) // threads
    room = plan.fitting(nodes)
    if room < 1:
        raise InputError(plan.need_and_have(nodes))
    asked = None if resources.slots == "auto" else resources.slots
    if resources.pack == "auto":
        slot_bytes = memory * plan.num_workers * cpus / math.fsum(node.get("CPU", 0) for node in nodes)
        pack = packing.pack(trials, max(1, asked or room), slot_bytes, parallel)
    else:
        pack = max(1, min(resources.pack, trials))
    most = asked or max(1, math.ceil(trials / pack))
    if asked and asked > room:
        raise InputError(
            f"resources.slots: {asked} slots of {plan.num_workers} x {_amounts(plan.per_worker)} asked for, there is "
            f"room for {room}"
        )
    return replace(plan, slots=min(most, room), most=most, pack=pack)


def _shaped(resources: Resources, nodes: Sequence[Node]) -> SlotPlan:
    """The shape of a slot, with the CPUs of a worker chosen where they are left open. Raises InputError."""
    gpus = math.fsum(node.get("GPU", 0) for node in nodes)
    per_worker, workers = dict(resources.resources_per_worker), resources.num_workers
    use_gpu = per_worker.get("GPU", 0) > 0 or gpus > 0 if resources.use_gpu == "auto" else resources.use_gpu
    cpus = per_worker.pop("CPU", resources.cpus_per_worker)
    if use_gpu:
        per_worker = {"GPU": 1.0} | per_worker
        each = per_worker["GPU"]
        if gpus < workers * each - _ROUNDING:
            shares = "one each" if each == 1 else f"{each:g} each"
            raise InputError(f"resources: {workers} workers need {workers * each:g} GPUs ({shares}), have {gpus:g}")

    def with_cpus(cpus: float) -> SlotPlan:
        return SlotPlan(
            workers,
            {"CPU": cpus} | per_worker,
            resources.accelerator_type,
            resources.placement_strategy,
            resources.threads_per_student,
            resources.checkpoint_seconds,
        )

    def worth(cpus: int) -> tuple[int, int]:
        """The most slots on GPUs, the most CPUs in use without; of equals the most CPUs of a worker."""
        slots = with_cpus(cpus).fitting(nodes)
        return (slots if use_gpu else slots * cpus, cpus) if slots else (0, -cpus)

    if not isinstance(cpus, str):
        return with_cpus(cpus)
    most = max(_MOST_THREADS, resources.threads_per_student)
    if not use_gpu and workers == 1 and isinstance(resources.pack, int):
        most = min(most, resources.pack * resources.threads_per_student)  # other slots have the rest of the cores
    return with_cpus(max(range(1, most + 1), key=worth))


def _amounts(each: Mapping[str, float]) -> str:
    return " and ".join(f"{amount:g} {name}{'s' * (name in ('CPU', 'GPU'))}" for name, amount in each.items())


def packing_of(sweep: Sweep, measured_pack: int | None = None) -> Packing:
    """The packing of a sweep, from the networks and methods that its trials can have.

    measured_pack: one that was tried on the device; it fits there, and a larger one may not.
    """
    if measured_pack is not None:
        return Packing(measured_pack, student_bytes=1)
    trials, evenly = _examined(sweep), sweep.space.design != "search"
    return Packing(max(map(students_for, trials)), max(map(lasting_bytes, trials)), evenly)


def largest_trial(sweep: Sweep) -> Trial:
    """The trial whose student keeps the most memory."""
    return max(_examined(sweep), key=lasting_bytes)


def _examined(sweep: Sweep) -> list[Trial]:
    trials = [sweep.base, *(planned.trial for planned in islice(sweep.fixed_trials, _TRIALS_EXAMINED))]
    if sweep.space.design == "search":
        trials += [planned.trial for planned in islice(sweep.search_corners(), _TRIALS_EXAMINED)]
    return trials


def students_for(trial: Trial) -> int:
    """Students that have to share the teacher's pass, by multiply-adds, for it to be a small part of a step."""
    size = trial.data.facts.image_size
    teacher, student = (NETWORKS[model].multiply_adds_at(size) for model in (trial.teacher.model, trial.student.model))
    return min(MOST, math.ceil(teacher / (_PASSES * student) / TEACHER_SHARE))


def lasting_bytes(trial: Trial) -> int:
    """Bytes that a student keeps between steps: weights, gradients, momentum, and a memory bank where it has one."""
    return 4 * (_COPIES * NETWORKS[trial.student.model].parameters + trial.method.kept_floats(trial.train_images))
