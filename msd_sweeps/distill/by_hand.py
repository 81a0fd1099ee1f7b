"""One trial in this process, in the main thread, with the numbers that it has in a sweep."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from msd_sweeps.distill import teacher
from msd_sweeps.distill.cohort import Cohort
from msd_sweeps.distill.data import loading as data
from msd_sweeps.distill.data.splits import StreamBatch
from msd_sweeps.distill.device import choose_device
from msd_sweeps.distill.models.network import Taps
from msd_sweeps.distill.stepping import Failure, Item, Teach, Threads
from msd_sweeps.space.trial import Trial


class MainThread(Threads):
    """A student steps in the main thread, where `breakpoint()` works, and its exceptions are raised with their trace.

    On a CPU the arithmetic is that of a slot: the student on `threads` threads, the teacher's pass in 4 parts.
    """

    def __init__(self, device: torch.device, threads: int, on_batch: Callable[[], None]):
        super().__init__(max(1, torch.get_num_threads() // threads), threads)
        self._is_cpu, self._on_batch = device.type == "cpu", on_batch

    def batches(self, stream: Iterable[StreamBatch], teach: Teach | None) -> Iterator[tuple[StreamBatch, Taps]]:
        for batch in super().batches(stream, teach):
            self._on_batch()
            yield batch

    def taps(self, images: Tensor, teach: Teach) -> Taps:
        return super().taps(images, teach) if self._is_cpu else teach(images)

    def each(self, items: Sequence[Item], work: Callable[[Item], None]) -> Iterator[tuple[Item, Failure]]:
        threads = torch.get_num_threads()
        if self._is_cpu:
            torch.set_num_threads(self._threads)
        try:
            for item in items:
                work(item)
        finally:
            torch.set_num_threads(threads)
        return iter(())


def cohort_of(
    trial: Trial,
    teachers: Path,
    on_batch: Callable[[], None],
    threads: int = 1,
    progress: teacher.Progress | None = None,
) -> Cohort:
    """A cohort of this trial alone, which is admitted; its teacher comes from the cache `teachers`, or is made now.

    on_batch: called before each step. threads: of the student, as the space's `resources.threads_per_student`.
    progress: hears of each epoch of a teacher in training. Raises DataError, TeacherError.
    """
    device = choose_device()
    network = None
    if trial.method.needs_teacher:
        ready = teacher.prepare(trial, teachers, device, progress)
        network = teacher.load(trial, ready.weights)
    cohort = Cohort(trial, network, data.load(trial.data), device, stepping=MainThread(device, threads, on_batch))
    cohort.admit(trial)
    return cohort
