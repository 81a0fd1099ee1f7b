"""Students on a CPU: one after another on all of its threads, or side by side on few threads each.

A step of a small network has hundreds of short parallel loops. Threads that meet after each loop wait for each other,
and every other process on the machine makes all of them wait. Students side by side meet once a batch.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

import torch
from torch import Tensor

from msd_sweeps.distill.data.stream import StreamBatch
from msd_sweeps.distill.models.network import Taps, joined
from msd_sweeps.distill.student import Student

_TEACHER_PARTS = 4

NO_TAPS = Taps((), torch.empty(0), torch.empty(0), torch.empty(0))
"""The teacher's taps for students that have no teacher; they do not read them."""

Item = TypeVar("Item")
Result = TypeVar("Result")
Teach = Callable[[Tensor], Taps]
"""The teacher's forward pass: images [B, 3, H, W] to its taps."""
Learn = Callable[[Student], None]
"""One optimiser step of one student, on what `load` gave."""


class InTurn:
    """One student after another. The base class of all steppings."""

    def load(self, batch: StreamBatch, teach: Teach | None) -> tuple[StreamBatch, Taps]:
        """Return the batch that students read and the teacher's taps of it. teach: None where no student needs it."""
        return batch, NO_TAPS if teach is None else teach(batch.images)

    def step(self, students: Sequence[Student], learn: Learn) -> Iterator[tuple[Student, Exception]]:
        """Call `learn` for every student; yields those that raised an exception, as `each` does."""
        return self.each(students, learn)

    def each(self, items: Sequence[Item], work: Callable[[Item], None]) -> Iterator[tuple[Item, Exception]]:
        """Call `work` for every item when all steps are over; yields the items that raised, in their order.

        Lazy: the consumer sees an exception before the next item begins. A data-parallel worker must not go on while
        the others wait for the student that failed.
        """
        for item in items:
            try:
                work(item)
            except Exception as error:
                yield item, error


class Threads(InTurn):
    """`count` students at a time, each on `threads` threads.

    The number of threads decides how sums are rounded, so it does not change with the number of students.
    """

    def __init__(self, count: int, threads: int):
        self._threads = threads
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="student")

    def load(self, batch: StreamBatch, teach: Teach | None) -> tuple[StreamBatch, Taps]:
        """The teacher's pass is divided among the threads.

        The number of parts is fixed, because the rounding of a matrix product can depend on its number of rows.
        """
        if teach is None:
            return batch, NO_TAPS
        parts = self._run(teach, batch.images.chunk(_TEACHER_PARTS))
        return batch, joined([part.result() for part in parts])

    def each(self, items: Sequence[Item], work: Callable[[Item], None]) -> Iterator[tuple[Item, Exception]]:
        for item, done in zip(items, self._run(work, items), strict=True):
            try:
                done.result()
            except Exception as error:
                yield item, error

    def _run(self, work: Callable[[Item], Result], items: Sequence[Item]) -> list[Future[Result]]:
        """Call `work` for every item on the pool's threads and wait for all of them."""

        def limited(item: Item) -> Result:
            torch.set_num_threads(self._threads)
            return work(item)

        threads = torch.get_num_threads()
        try:
            futures = [self._pool.submit(limited, item) for item in items]
            wait(futures)
            return futures
        finally:
            # A part of what torch sets, MKL's number of threads, belongs to the whole process.
            torch.set_num_threads(threads)
