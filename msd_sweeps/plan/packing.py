"""How many students share a slot where `pack: auto` leaves it open; known before anything runs, without torch."""

import contextlib
import math
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from msd_sweeps.catalog.networks import NETWORKS
from msd_sweeps.space.designs import Sweep
from msd_sweeps.space.trial import Trial

TEACHER_SHARE = 0.15
"""A pack is large enough when the teacher's pass costs each student at most this part of its own step."""
MOST = 32
"""However heavy the teacher: a search learns little from trials that all start together."""
_OF_THE_MEMORY = 0.5
"""The rest is left to data, activations and others."""
_TRIALS_LOOKED_AT = 200
_PASSES = 3  # forward, and twice as much backward
_COPIES = 3  # weights, gradients, momentum
_MEMINFO = Path("/proc/meminfo")
_CONTROL_GROUP = Path("/sys/fs/cgroup")


class Packing(NamedTuple):
    """What decides the pack of a sweep's slots.

    enough: students from which the teacher is a small part or, on a GPU, from which more were found to gain little.
    student_bytes: the largest student's lasting memory. evenly: whether all trials are known beforehand; some more than
    enough then share a slot, rather than a few be left over for a pass of their own. A search learns more from small
    packs.
    """

    enough: int
    student_bytes: int
    evenly: bool = False

    def measured(self, pack: int) -> "Packing":
        """The same with a pack that was tried on the device: it fits there, and a larger one may not."""
        return self._replace(enough=pack, student_bytes=1, evenly=False)

    def pack(self, trials: int, slots: int, slot_bytes: float, lanes: int = 1) -> int:
        """Students for each of `slots` slots: all slots get work, none more than fits into its memory.

        lanes: students of a slot that step side by side; none stays empty for want of students.
        """
        room = _OF_THE_MEMORY * slot_bytes / self.student_bytes
        each = math.ceil(trials / slots)
        enough = lanes * math.ceil(self.enough / lanes)
        if self.evenly and each > enough:
            enough = math.ceil(each / (each // enough))
        return max(1, math.floor(min(enough, room, each)))


def packing_of(sweep: Sweep) -> Packing:
    """The packing of a sweep, from the networks and methods that its trials can have."""
    trials = _looked_at(sweep)
    evenly = sweep.space.design != "search"
    return Packing(max(map(students_for, trials)), max(map(lasting_bytes, trials)), evenly)


def largest_trial(sweep: Sweep) -> Trial:
    """The trial whose student keeps the most memory."""
    return max(_looked_at(sweep), key=lasting_bytes)


def _looked_at(sweep: Sweep) -> list[Trial]:
    trials = [sweep.base, *(planned.trial for planned in islice(sweep.fixed_trials, _TRIALS_LOOKED_AT))]
    if sweep.space.design == "search":
        trials += [planned.trial for planned in islice(sweep.search_corners(), _TRIALS_LOOKED_AT)]
    return trials


def students_for(trial: Trial) -> int:
    """Students among which the teacher's pass has to be shared, by multiply-adds, to be a small part of a step."""
    size = trial.data.facts.image_size
    teacher, student = (NETWORKS[model].multiply_adds_at(size) for model in (trial.teacher.model, trial.student.model))
    return min(MOST, math.ceil(teacher / (_PASSES * student) / TEACHER_SHARE))


def lasting_bytes(trial: Trial) -> int:
    """What a student keeps between steps: weights, gradients, momentum, and a memory bank where it has one."""
    kept = _COPIES * NETWORKS[trial.student.model].parameters + trial.method.kept_floats(trial.train_images)
    return 4 * kept


def available_bytes() -> float:
    """Memory that this machine, or the control group it is confined to, has left; infinite where it is not told."""
    found = math.inf
    with contextlib.suppress(OSError, ValueError, IndexError):
        found = 1024.0 * int(_MEMINFO.read_text().split("MemAvailable:")[1].split()[0])
    with contextlib.suppress(OSError, ValueError):  # "max" where there is no limit
        limit, used = (int((_CONTROL_GROUP / f"memory.{name}").read_text()) for name in ("max", "current"))
        found = min(found, float(limit - used))
    return found
