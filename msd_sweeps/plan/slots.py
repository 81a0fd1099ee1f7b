"""How a machine or a cluster is divided into slots, before a sweep and again when the cluster grows or shrinks."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from msd_sweeps.plan.packing import Packing
from msd_sweeps.space.errors import InputError
from msd_sweeps.space.schema import Resources

Node = Mapping[str, float]
"""What a node has, as Ray names it: CPU, GPU, accelerator_type:H100, and resources of the user's own."""

_MOST_THREADS = 8
_NONE_LOST = 1e-9
"""Floats that stand for whole counts may fall short by a rounding."""
_MOST_NODES_TOLD = 4


class SlotPlan(NamedTuple):
    """How nodes are divided; slots x workers x what each gets never exceeds what there is, on any node."""

    slots: int
    """Slots that there is room for now, and trials for."""
    most: int
    """Slots that there are trials for, however large the cluster grows."""
    num_workers: int
    per_worker: dict[str, float]
    pack: int
    threads_per_student: int = 1
    accelerator_type: str | None = None
    placement_strategy: str = "PACK"

    @property
    def seats(self) -> int:
        """Trials that run at the same time."""
        return self.slots * self.pack

    @property
    def threads(self) -> int:
        """torch's threads in a worker."""
        return max(1, int(self.per_worker.get("CPU", 1)))

    @property
    def on_gpu(self) -> bool:
        return self.per_worker.get("GPU", 0) > 0

    def slots_on(self, nodes: Sequence[Node]) -> int:
        """Slots to have on these nodes: as many as have room, and trials."""
        return min(self.most, self._shape.room(nodes))

    def need_and_have(self, nodes: Sequence[Node]) -> str:
        """What a slot needs and these nodes, without room for one, have."""
        return _no_room(self._shape, nodes)

    @property
    def _shape(self) -> "_Shape":
        return _Shape(self.num_workers, self.per_worker, self.accelerator_type, self.placement_strategy)

    def __str__(self) -> str:
        each = " + ".join(f"{amount:g} {name}" for name, amount in self.per_worker.items())
        each = f"{self.num_workers} worker{'s' * (self.num_workers > 1)} x {each}"
        kind = f" ({self.accelerator_type})" if self.accelerator_type else ""
        return f"{self.slots} slot{'s' * (self.slots > 1)} of {each}{kind}, up to {self.pack} students in each"


def plan_slots(
    resources: Resources, nodes: Sequence[Node], trials: int, packing: Packing, memory: float = math.inf
) -> SlotPlan:
    """Divide nodes into slots for a number of trials; a worker lies on one node, a slot's workers may lie on several.

    packing: decides an automatic pack. memory: bytes that all slots together may count on.

    Raises InputError that says what is asked for and what is there.
    """
    gpus = math.fsum(node.get("GPU", 0) for node in nodes)
    asked = dict(resources.resources_per_worker)
    use_gpu = asked.get("GPU", 0) > 0 or gpus > 0 if resources.use_gpu == "auto" else resources.use_gpu
    workers, kind = resources.num_workers, resources.accelerator_type
    rest = {name: amount for name, amount in asked.items() if name != "CPU"}
    if use_gpu:
        rest = {"GPU": 1.0} | rest
        if gpus < workers * rest["GPU"] - _NONE_LOST:
            each = "one each" if rest["GPU"] == 1 else f"{rest['GPU']:g} each"
            raise InputError(
                f"resources: {workers} workers need {workers * rest['GPU']:g} GPUs ({each}), have {gpus:g}"
            )
    shape = _Shape(workers, {"CPU": 1} | rest, kind, resources.placement_strategy)
    wanted = asked.get("CPU", resources.cpus_per_worker)
    has_lanes, for_student = not use_gpu and workers == 1, resources.threads_per_student
    most = max(_MOST_THREADS, for_student)
    if has_lanes and isinstance(resources.pack, int):
        most = min(most, resources.pack * for_student)  # other slots have the rest of the cores
    threads = _best_threads(shape, nodes, most) if isinstance(wanted, str) else wanted
    if has_lanes and threads < for_student:
        raise InputError(
            f"resources.threads_per_student: {for_student} threads for a student, a worker has {threads:g} CPUs"
        )
    shape = shape._replace(each={"CPU": threads} | rest)
    room = shape.room(nodes)
    if room < 1:
        raise InputError(_no_room(shape, nodes))
    if resources.pack == "auto":
        lanes = int(threads) // for_student if has_lanes else 1
        spread = room if resources.slots == "auto" else resources.slots
        cpus = math.fsum(node.get("CPU", 0) for node in nodes)
        pack = packing.pack(trials, max(1, spread), memory * workers * threads / cpus, lanes)
    else:
        pack = max(1, min(resources.pack, trials))
    if resources.slots == "auto":
        most = max(1, -(-trials // pack))
    else:
        most = resources.slots
        if most > room:
            raise InputError(
                f"resources.slots: {most} slots of {workers} x {_told(shape.each)} asked for, there is room for {room}"
            )
    return SlotPlan(min(most, room), most, workers, shape.each, pack, for_student, kind, shape.strategy)


class _Shape(NamedTuple):
    """What one slot takes."""

    workers: int
    each: dict[str, float]
    kind: str | None
    strategy: str

    def room(self, nodes: Sequence[Node]) -> int:
        """Slots that fit."""
        fits = [self._workers_on(node) for node in nodes]
        if self.strategy == "STRICT_PACK":
            return sum(count // self.workers for count in fits)
        if self.strategy == "STRICT_SPREAD":
            slots = range(sum(fits) // self.workers, 0, -1)
            return next((n for n in slots if sum(min(count, n) for count in fits) >= n * self.workers), 0)
        return sum(fits) // self.workers

    def _workers_on(self, node: Node) -> int:
        if self.kind is not None and not node.get(f"accelerator_type:{self.kind}"):
            return 0
        return min(int(node.get(name, 0) / amount + _NONE_LOST) for name, amount in self.each.items())


def _best_threads(shape: _Shape, nodes: Sequence[Node], most: int) -> int:
    """CPUs of a worker that give the most slots on GPUs, and use the most CPUs without; of equals the largest."""

    def worth(threads: int) -> tuple[int, int]:
        slots = shape._replace(each=shape.each | {"CPU": threads}).room(nodes)
        if not slots:
            return 0, -threads
        return (slots if "GPU" in shape.each else slots * threads), threads

    return max(range(1, most + 1), key=worth)


def _no_room(shape: _Shape, nodes: Sequence[Node]) -> str:
    """Need and have, in words."""
    have = {name: math.fsum(node.get(name, 0) for node in nodes) for name in shape.each}
    need = {name: shape.workers * amount for name, amount in shape.each.items()}
    told = [name for name in need if have[name] < need[name] - _NONE_LOST] or list(need)
    message = (
        f"resources: {shape.workers} workers x {_told(shape.each)} need {_told({name: need[name] for name in told})}, "
        f"have {' and '.join(f'{have[name]:g}' for name in told)}"
    )
    if len(nodes) > 1:
        each = "; ".join(_told({name: node.get(name, 0) for name in need}) for node in nodes[:_MOST_NODES_TOLD])
        more = f"; and {len(nodes) - _MOST_NODES_TOLD} more" * (len(nodes) > _MOST_NODES_TOLD)
        message += f" on {len(nodes)} nodes ({each}{more}), placed by {shape.strategy}"
    if shape.kind is not None:
        found = {name for node in nodes for name in node if name.startswith("accelerator_type:")}
        kinds = ", ".join(sorted(name.partition(":")[2] for name in found))
        message += f"; only nodes with {shape.kind} count, there are {kinds or 'no accelerators'}"
    return message


def _told(each: Mapping[str, float]) -> str:
    return " and ".join(f"{amount:g} {_plural(name)}" for name, amount in each.items())


def _plural(name: str) -> str:
    return f"{name}s" if name in ("CPU", "GPU") else name
