"""How many students share a slot where `pack: auto` leaves it open; known before anything runs, without torch."""

import math
from itertools import islice
from typing import NamedTuple

from msd_sweeps.catalog.networks import NETWORKS
from msd_sweeps.space.designs import Sweep
from msd_sweeps.space.trial import Trial

TEACHER_SHARE = 0.15
"""A pack is large enough when the teacher's pass costs each student at most this part of its own step."""
MOST = 32
"""However heavy the teacher: a search learns little from trials that all start together."""
_SHARE_OF_MEMORY = 0.5
"""The rest is left to data, activations and other processes."""
_TRIALS_EXAMINED = 200
_PASSES = 3  # forward, and twice as much backward
_COPIES = 3  # weights, gradients, momentum


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
