"""How the nodes of a machine or a cluster are divided into slots; computed again when a cluster grows or shrinks."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from msd_sweeps.plan.packing import Packing
from msd_sweeps.space.schema import Resources
from msd_sweeps.space.strict_yaml import InputError

Node = Mapping[str, float]
"""The resources of a node by Ray's names: CPU, GPU, accelerator_type:H100, and resources of the user's own."""

_MOST_THREADS = 8
_ROUNDING = 1e-9
"""Floats that stand for whole counts may fall short by a rounding."""
_MOST_NODES_SHOWN = 4


@dataclass(frozen=True)
class SlotShape:
    """What one slot takes. A worker lies on one node; a slot's workers may lie on several."""

    num_workers: int
    per_worker: dict[str, float]
    """The resources of each worker."""
    accelerator_type: str | None = None
    placement_strategy: str = "PACK"

    def fitting(self, nodes: Sequence[Node]) -> int:
        """The number of slots that these nodes have room for."""
        fits = [self._workers_on(node) for node in nodes]
        if self.placement_strategy == "STRICT_PACK":
            return sum(count // self.num_workers for count in fits)
        if self.placement_strategy == "STRICT_SPREAD":
            slots = range(sum(fits) // self.num_workers, 0, -1)
            return next((n for n in slots if sum(min(count, n) for count in fits) >= n * self.num_workers), 0)
        return sum(fits) // self.num_workers

    def _workers_on(self, node: Node) -> int:
        if self.accelerator_type is not None and not node.get(f"accelerator_type:{self.accelerator_type}"):
            return 0
        return min(int(node.get(name, 0) / amount + _ROUNDING) for name, amount in self.per_worker.items())

    def with_cpus(self, cpus: int) -> "SlotShape":
        """The same with another number of CPUs for each worker."""
        return replace(self, per_worker=self.per_worker | {"CPU": cpus})

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
            if len(nodes) > _MOST_NODES_SHOWN:
                shown.append(f"and {len(nodes) - _MOST_NODES_SHOWN} more")
            message += f" on {len(nodes)} nodes ({'; '.join(shown)}), placed by {self.placement_strategy}"
        if self.accelerator_type is not None:
            known = {name for node in nodes for name in node if name.startswith("accelerator_type:")}
            kinds = ", ".join(sorted(name.partition(":")[2] for name in known))
            message += f"; only nodes with {self.accelerator_type} count, there are {kinds or 'no accelerators'}"
        return message


@dataclass(frozen=True, kw_only=True)
class SlotPlan(SlotShape):
    """How nodes are divided into slots of one shape. On no node do the slots take more than there is."""

    slots: int
    """Slots that there is room for now, and trials for."""
    most: int
    """Slots that there are trials for, however large the cluster grows."""
    pack: int
    """The most students of a slot."""
    threads_per_student: int = 1

    @property
    def threads(self) -> int:
        """torch's threads in a worker."""
        return max(1, int(self.per_worker.get("CPU", 1)))

    @property
    def on_gpu(self) -> bool:
        """Whether workers train on GPUs."""
        return self.per_worker.get("GPU", 0) > 0

    def slots_on(self, nodes: Sequence[Node]) -> int:
        """Slots to have on these nodes: as many as have room, and trials."""
        return min(self.most, self.fitting(nodes))

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
    shape = _shape(resources, nodes)
    parallel = _students_side_by_side(resources, shape)
    room = shape.fitting(nodes)
    if room < 1:
        raise InputError(shape.need_and_have(nodes))
    if resources.pack == "auto":
        slots = room if resources.slots == "auto" else resources.slots
        cpus = math.fsum(node.get("CPU", 0) for node in nodes)
        slot_bytes = memory * shape.num_workers * shape.per_worker["CPU"] / cpus
        pack = packing.pack(trials, max(1, slots), slot_bytes, parallel)
    else:
        pack = max(1, min(resources.pack, trials))
    most = max(1, math.ceil(trials / pack)) if resources.slots == "auto" else resources.slots
    if resources.slots != "auto" and most > room:
        raise InputError(
            f"resources.slots: {most} slots of {shape.num_workers} x {_amounts(shape.per_worker)} asked for, there is "
            f"room for {room}"
        )
    return SlotPlan(
        **vars(shape), slots=min(most, room), most=most, pack=pack, threads_per_student=resources.threads_per_student
    )


def _shape(resources: Resources, nodes: Sequence[Node]) -> SlotShape:
    """The shape of a slot, with the CPUs of a worker chosen where they are left open. Raises InputError."""
    gpus = math.fsum(node.get("GPU", 0) for node in nodes)
    asked, workers = dict(resources.resources_per_worker), resources.num_workers
    use_gpu = asked.get("GPU", 0) > 0 or gpus > 0 if resources.use_gpu == "auto" else resources.use_gpu
    cpus = asked.pop("CPU", resources.cpus_per_worker)
    if use_gpu:
        asked = {"GPU": 1.0} | asked
        if gpus < workers * asked["GPU"] - _ROUNDING:
            each = "one each" if asked["GPU"] == 1 else f"{asked['GPU']:g} each"
            raise InputError(
                f"resources: {workers} workers need {workers * asked['GPU']:g} GPUs ({each}), have {gpus:g}"
            )
    kind, strategy = resources.accelerator_type, resources.placement_strategy
    shape = SlotShape(workers, {"CPU": 1} | asked, kind, strategy)
    if not isinstance(cpus, str):
        return shape.with_cpus(cpus)  # type: ignore[arg-type]
    most = max(_MOST_THREADS, resources.threads_per_student)
    if not use_gpu and workers == 1 and isinstance(resources.pack, int):
        most = min(most, resources.pack * resources.threads_per_student)  # other slots have the rest of the cores
    return shape.with_cpus(_best_cpus(shape, nodes, most))


def _best_cpus(shape: SlotShape, nodes: Sequence[Node], most: int) -> int:
    """CPUs of a worker that give the most slots on GPUs, and use the most CPUs without; of equals the largest."""

    def worth(cpus: int) -> tuple[int, int]:
        slots = shape.with_cpus(cpus).fitting(nodes)
        if not slots:
            return 0, -cpus
        return (slots if "GPU" in shape.per_worker else slots * cpus), cpus

    return max(range(1, most + 1), key=worth)


def _students_side_by_side(resources: Resources, shape: SlotShape) -> int:
    """Students of a slot that step at the same time: on CPUs, one worker steps one for each of its threads.

    Raises InputError where the worker has too few CPUs for one student.
    """
    if "GPU" in shape.per_worker or shape.num_workers > 1:
        return 1
    cpus, for_student = shape.per_worker["CPU"], resources.threads_per_student
    if cpus < for_student:
        raise InputError(
            f"resources.threads_per_student: {for_student} threads for a student, a worker has {cpus:g} CPUs"
        )
    return int(cpus) // for_student


def _amounts(each: Mapping[str, float]) -> str:
    return " and ".join(f"{amount:g} {name}{'s' * (name in ('CPU', 'GPU'))}" for name, amount in each.items())
