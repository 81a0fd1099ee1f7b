"""Steps to be timed against each other in one run, and the memory of a process that takes them.

Candidates take turns, round by round, so that a machine whose speed drifts slows all of them alike. Images and the
teacher's weights are random: they cost the same.
"""

import itertools
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from msd_sweeps.distill import models
from msd_sweeps.distill.cohort import Cohort, train_epoch
from msd_sweeps.distill.data.loading import Images, Splits
from msd_sweeps.distill.device import choose_device
from msd_sweeps.distill.models.folding import fold_batch_norm
from msd_sweeps.distill.stepping import graphs as capture
from msd_sweeps.space.overrides import changed
from msd_sweeps.space.schema import Changes
from msd_sweeps.space.trial import Trial

_WARM_UP_STEPS = capture.WARM_UP_STEPS + 2
"""A GPU captures its graphs meanwhile."""
_WORTHWHILE = 0.05
_OF_THE_DEVICE = 0.8
"""The rest is left to evaluation, to fragments, and to students that are larger."""

Step = Callable[[], object]


class Timing(NamedTuple):
    """Seconds of one step, per trial: one entry a round."""

    name: str
    seconds: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def over(self, other: "Timing") -> "Ratio":
        """This time over another's: the median and the range of the rounds, each round by itself."""
        ratios = [mine / theirs for mine, theirs in zip(self.seconds, other.seconds, strict=True)]
        return Ratio(statistics.median(ratios), min(ratios), max(ratios))

    def less(self, other: "Timing") -> float:
        """Seconds that this takes more than another: the median of the rounds' differences."""
        return statistics.median(mine - theirs for mine, theirs in zip(self.seconds, other.seconds, strict=True))


class Ratio(NamedTuple):
    """Median and range of a ratio over the rounds."""

    median: float
    low: float
    high: float


def measure(trial: Trial, steps: int = 5) -> float:
    """Median seconds of a training step of one student alone, on random images of the data set's shape."""
    return time_in_turns({"step": cohort_step([trial])}, rounds=steps, steps=1)[0].median


class PackCost(NamedTuple):
    """What a pack costs: seconds of a step, per trial, and bytes of the device's memory."""

    seconds: float
    peak_bytes: float


def worthwhile_pack(cost: Callable[[int], PackCost], most: int, device_bytes: float) -> int:
    """Double a pack for as long as that makes a trial's step cheaper by 5 % and twice the memory is there.

    cost: measures a pack; one that raises torch.OutOfMemoryError is too large.
    """
    pack, known = 1, cost(1)
    while 2 * pack <= most and 2 * known.peak_bytes <= _OF_THE_DEVICE * device_bytes:
        try:
            twice = cost(2 * pack)
        except torch.OutOfMemoryError:
            break
        if twice.seconds > (1 - _WORTHWHILE) * known.seconds:
            break
        pack, known = 2 * pack, twice
    return pack


def measure_pack(trial: Trial, most: int) -> int:
    """Students like this trial's that are worth packing on the current GPU, by trying."""

    def cost(pack: int) -> PackCost:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        step = cohort_step([with_method(trial, trial.method.name, seed) for seed in range(pack)])
        timing = time_in_turns({"step": step}, rounds=5, steps=4, trials={"step": pack})[0]
        return PackCost(timing.median, torch.cuda.max_memory_allocated())

    return worthwhile_pack(cost, most, torch.cuda.mem_get_info()[1])


def time_in_turns(
    candidates: dict[str, Step],
    rounds: int,
    steps: int,
    trials: dict[str, int] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Timing]:
    """Time every candidate `steps` times in each round, after a warm-up. `trials`: how many share a step (1)."""
    for step in candidates.values():
        for _ in range(_WARM_UP_STEPS):
            step()
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, step in candidates.items():
            _wait_for_device()
            started = clock()
            for _ in range(steps):
                step()
            _wait_for_device()
            seconds[name].append((clock() - started) / steps / (trials or {}).get(name, 1))
    return [Timing(name, measured) for name, measured in seconds.items()]


def _wait_for_device() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def cohort_step(trials: list[Trial], threads_per_student: int | None = None) -> Step:
    """One step of a cohort of students, with its teacher pass and its batch; side by side as slots take it where
    `threads_per_student` says how."""
    trial = trials[0]
    splits = _random_splits(trial)
    teacher = fold_batch_norm(models.build(trial.teacher.model, trial.data.facts.num_classes))
    cohort = Cohort(trial, teacher, splits, choose_device(), threads_per_student=threads_per_student)
    for one in trials:
        cohort.admit(one)
    steps = itertools.chain.from_iterable(train_epoch(cohort) for _ in itertools.count())

    def step() -> None:
        for lost in next(steps):
            raise RuntimeError(f"a step of {lost.trial} failed: {lost.reason}\n{lost.traceback}")

    return step


def peer_step(trial: Trial) -> Step:
    """A kd step as the field's repositories run it: float32, channels first, the teacher as it was trained."""
    device = choose_device()
    num_classes = trial.data.facts.num_classes
    teacher = models.build(trial.teacher.model, num_classes).to(device).eval()
    student = models.build(trial.student.model, num_classes).to(device).train()
    optimizer = torch.optim.SGD(student.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    split = _random_splits(trial).train.to(device)
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


def _random_splits(trial: Trial) -> Splits:
    facts = trial.data.facts
    # As many as there are, because a memory bank has a row for each; at most 256 MiB.
    count = min(trial.train_images, 2**28 // (3 * facts.image_size**2))
    generator = torch.Generator().manual_seed(0)
    shape = (count, 3, facts.image_size, facts.image_size)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    part = Images(images, torch.arange(count) % facts.num_classes)
    return Splits(part, None, part, (0.5,) * 3, (0.25,) * 3)


def with_method(base: Trial, name: str, seed: int = 0) -> Trial:
    """The base with another method at its defaults; with its own settings where it is the base's method."""
    if name == base.method.name:
        return changed(base, {"seed": seed, "data_seed": 0})
    method: Changes = {"name": name}
    method |= {"projector": "linear"} if name == "msd" else {}
    return changed(base, {"method": method, "seed": seed, "data_seed": 0})


def peak_mebibytes(trial: Trial, steps: int = 3) -> float:
    """Peak memory of this process after a few steps, MiB: on a GPU what CUDA gave, else what was resident.

    Meant for a process of its own, whose peak nothing else has set. Raises OSError where there is no /proc.
    """
    step = cohort_step([trial])
    for _ in range(steps):
        step()
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    # Not ru_maxrss: a child process begins with its parent's.
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 2**10
