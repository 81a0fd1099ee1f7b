"""What a training step costs on this machine, for one student and for packs of several.

Images and the teacher's weights are random: they cost the same as real ones.
"""

import itertools
import statistics
import time
from collections.abc import Callable

import torch

from msd_sweeps.distill import models
from msd_sweeps.distill.cohort import Cohort, train_epoch
from msd_sweeps.distill.data.splits import Images, Splits
from msd_sweeps.distill.device import choose_device
from msd_sweeps.distill.graphs import WARM_UP_STEPS
from msd_sweeps.distill.stepping import InTurn
from msd_sweeps.space.trial import Trial, changed

Step = Callable[[], object]


def measure(trial: Trial, steps: int = 5) -> float:
    """Median seconds of a training step of one student alone, on random images of the data set's shape."""
    return statistics.median(time_in_turns({"step": cohort_step([trial])}, rounds=steps, steps=1)["step"])


def worthwhile_pack(cost: Callable[[int], tuple[float, float]], most: int, device_bytes: float) -> int:
    """Double a pack for as long as that makes a trial's step cheaper by 5 % and twice the memory is there.

    A fifth of the memory is left to evaluation, to fragments, and to students that are larger. cost: measures a pack:
    seconds of a step, per trial, and bytes. One that raises torch.OutOfMemoryError is too large.
    """
    pack, (seconds, peak_bytes) = 1, cost(1)
    while 2 * pack <= most and 2 * peak_bytes <= 0.8 * device_bytes:
        before = seconds
        try:
            seconds, peak_bytes = cost(2 * pack)
        except torch.OutOfMemoryError:
            break
        if seconds > 0.95 * before:
            break
        pack *= 2
    return pack


def measure_pack(trial: Trial, most: int) -> int:
    """How many students like this trial's are worth packing on the current GPU, found by trying."""

    def cost(pack: int) -> tuple[float, float]:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        step = cohort_step(replicates(trial, pack))
        seconds = statistics.median(time_in_turns({"step": step}, rounds=5, steps=4)["step"])
        return seconds / pack, torch.cuda.max_memory_reserved()  # the graphs' own pools are not in max_memory_allocated

    return worthwhile_pack(cost, most, torch.cuda.mem_get_info()[1])


def replicates(trial: Trial, count: int) -> list[Trial]:
    """So many trials that differ by their seeds and see the same images."""
    return [changed(trial, {"seed": seed, "data_seed": 0}) for seed in range(count)]


def time_in_turns(
    candidates: dict[str, Step], rounds: int, steps: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of one step of each candidate: one entry a round, after a warm-up.

    Candidates take turns, `steps` steps at a time, so that a machine whose speed drifts slows all of them alike.
    """
    wait_for_device = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    for step in candidates.values():
        for _ in range(WARM_UP_STEPS + 2):  # a GPU captures its graphs meanwhile
            step()
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, step in candidates.items():
            wait_for_device()
            started = clock()
            for _ in range(steps):
                step()
            wait_for_device()
            seconds[name].append((clock() - started) / steps)
    return seconds


def cohort_step(trials: list[Trial], threads_per_student: int | None = None) -> Step:
    """One step of a cohort of students, with its teacher pass and its batch.

    threads_per_student: as in `Cohort`; slots on a processor give each student one. A step raises
    torch.OutOfMemoryError and RuntimeError for a student that is lost.
    """
    return steps_of(random_cohort(trials, threads_per_student=threads_per_student))


def random_cohort(
    trials: list[Trial],
    splits: Splits | None = None,
    stepping: InTurn | None = None,
    threads_per_student: int | None = None,
) -> Cohort:
    """A cohort of trials that share a stream, with a teacher of random weights.

    splits: random ones where None. The other arguments are those of `Cohort`.
    """
    trial = trials[0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = models.build(trial.teacher.model, trial.data.facts.num_classes)
    splits = random_splits(trial) if splits is None else splits
    teacher, device = models.fold_batch_norm(network), choose_device()
    cohort = Cohort(trial, teacher, splits, device, threads_per_student=threads_per_student, stepping=stepping)
    for one in trials:
        cohort.admit(one)
    return cohort


def steps_of(cohort: Cohort) -> Step:
    """One step of a cohort, epoch after epoch."""
    steps = itertools.chain.from_iterable(train_epoch(cohort) for _ in itertools.count())

    def step() -> None:
        for lost in next(steps):
            error = torch.OutOfMemoryError if lost.state == "out_of_memory" else RuntimeError
            raise error(f"a step of {lost.trial} failed: {lost.reason}\n{lost.traceback}")

    return step


def random_splits(trial: Trial, most: int | None = None) -> Splits:
    """Random images of the shape of a trial's data, to train and to test on.

    most: images; None: as many as the data set has, because a memory bank has a row for each, and at most 256 MiB.
    """
    facts = trial.data.facts
    count = min(trial.train_images, most or 2**28 // (3 * facts.image_size**2))
    generator = torch.Generator().manual_seed(0)
    shape = (count, 3, facts.image_size, facts.image_size)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    part = Images(images, torch.arange(count) % facts.num_classes)
    return Splits(part, None, part, (0.5,) * 3, (0.25,) * 3)
