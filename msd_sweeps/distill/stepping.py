"""How the parts of a training step run: one student after another, or side by side on threads; see also `graphs`.

On a CPU a step of a small network has hundreds of short parallel loops. Threads that meet after each loop wait for each
other, and every other process on the machine makes all of them wait. Students side by side meet once a batch.
"""

import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Literal, NamedTuple, TypeVar

import torch
from torch import Tensor

from msd_sweeps.distill.data.splits import StreamBatch
from msd_sweeps.distill.models.network import Taps
from msd_sweeps.distill.student import NonFiniteLoss, Student

NO_TAPS = Taps((), torch.empty(0), torch.empty(0), torch.empty(0))
"""The teacher's taps for students that have no teacher; they do not read them."""

Item = TypeVar("Item")
Result = TypeVar("Result")
Work = Callable[[], None]
Teach = Callable[[Tensor], Taps]  # the teacher's forward pass: images [B, 3, H, W] to its taps
Learn = Callable[[Student], None]  # one optimiser step of one student, on the batch and the taps at hand


class Failure(NamedTuple):
    """What is kept of an exception, which itself holds its frames, and with them the tensors of a whole step."""

    state: Literal["failed", "out_of_memory", "diverged"]
    reason: str
    traceback: str

    @classmethod
    def of(cls, error: Exception) -> "Failure":
        if isinstance(error, NonFiniteLoss):
            return cls("diverged", str(error), "")
        trace = "".join(traceback.format_exception(error))
        causes: list[BaseException] = [error]
        # A capture that runs out of memory is reported as a broken capture, with the reason behind it.
        while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None:
            causes.append(cause)
        for cause in causes:
            # The CPU's allocator raises a plain RuntimeError.
            if isinstance(cause, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(cause):
                return cls("out_of_memory", str(cause).split("\n")[0], trace)
        return cls("failed", f"{type(error).__name__}: {error}", trace)


class InTurn:
    """One student after another. The base class of all steppings."""

    broken = False
    """Whether this process must end soon: a capture has failed, which leaves traces in the allocator."""
    batch_seconds = teacher_seconds = 0.0
    """What reading batches and the teacher's passes took since they were set to 0; not measured on a GPU."""

    def batches(self, stream: Iterable[StreamBatch], teach: Teach | None) -> Iterator[tuple[StreamBatch, Taps]]:
        """The batches that students read, with the teacher's taps. teach: None where no student needs it."""
        began = time.perf_counter()
        for batch in stream:
            read = time.perf_counter()
            taps = NO_TAPS if teach is None else self.taps(batch.images, teach)
            self.batch_seconds += read - began
            self.teacher_seconds += time.perf_counter() - read
            yield batch, taps
            began = time.perf_counter()

    def taps(self, images: Tensor, teach: Teach) -> Taps:
        """The teacher's taps of a batch."""
        return teach(images)

    def step(self, students: Sequence[Student], learn: Learn) -> Iterator[tuple[Student, Failure]]:
        """Call `learn` for every student; yields those that raised an exception, as `each` does."""
        return self.each(students, learn)

    def each(self, items: Sequence[Item], work: Callable[[Item], None]) -> Iterator[tuple[Item, Failure]]:
        """Call `work` for every item when all steps are over; yields the items that raised, in their order.

        Lazy: the consumer sees a failure before the next item begins. A data-parallel worker must not go on while
        the others wait for the student that failed.
        """
        for item in items:
            failure = None
            try:
                work(item)
            except Exception as error:
                failure = Failure.of(error)
            if failure is not None:  # the exception is gone, and the memory of its step with it
                yield item, failure


class Threads(InTurn):
    """`count` students at a time, each on `threads` threads.

    The number of threads decides how sums are rounded, so it does not change with the number of students.
    """

    def __init__(self, count: int, threads: int):
        self._threads = threads
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="student")

    def taps(self, images: Tensor, teach: Teach) -> Taps:
        """The teacher's pass is divided among the threads, always into 4 parts: rounding can depend on their rows."""
        parts = [part.result() for part in self._run(teach, images.chunk(4))]
        return Taps.of([torch.cat(tensors) for tensors in zip(*(part.tensors for part in parts), strict=True)])

    def each(self, items: Sequence[Item], work: Callable[[Item], None]) -> Iterator[tuple[Item, Failure]]:
        def failure(item: Item) -> Failure | None:
            try:
                work(item)
            except Exception as error:
                return Failure.of(error)
            return None

        for item, done in zip(items, self._run(failure, items), strict=True):
            if (found := done.result()) is not None:
                yield item, found

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
