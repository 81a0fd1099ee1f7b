"""How the parts of a training step run: one student after another, side by side on threads, or as CUDA graphs.

On a CPU a step of a small network has hundreds of short parallel loops. Threads that meet after each loop wait for each
other, and every other process on the machine makes all of them wait. Students side by side meet once a batch.

On a GPU it is hundreds of kernels that take less time than their launches. A captured graph launches all of them at
once, and students on streams of their own fill the device together. Not yet run on a GPU: the tests check the order of
things on a CPU, with a stand-in for the capture.
"""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from msd_sweeps.distill.data.splits import StreamBatch
from msd_sweeps.distill.models.network import Taps
from msd_sweeps.distill.student import Student

WARM_UP_STEPS = 3
"""Steps before a capture. They choose algorithms and make momentum and sums, which a graph then finds in place."""

NO_TAPS = Taps((), torch.empty(0), torch.empty(0), torch.empty(0))
"""The teacher's taps for students that have no teacher; they do not read them."""

Item = TypeVar("Item")
Result = TypeVar("Result")
Work = Callable[[], None]
Teach = Callable[[Tensor], Taps]  # the teacher's forward pass: images [B, 3, H, W] to its taps
Learn = Callable[[Student], None]  # one optimiser step of one student, on what `load` gave


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
        """The teacher's pass is divided among the threads, always into 4 parts: rounding can depend on their rows."""
        if teach is None:
            return batch, NO_TAPS
        parts = [part.result() for part in self._run(teach, batch.images.chunk(4))]
        return batch, Taps.of([torch.cat(tensors) for tensors in zip(*(part.tensors for part in parts), strict=True)])

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


class Recorder:
    """Captures work on a GPU, in a memory pool of its own, because several graphs run at a time; orders streams."""

    def __init__(self, device: torch.device):
        self._device = device

    def capture(self, work: Work) -> Work:
        """Record `work` without running it; the result replays it in the same memory."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            work()
        return graph.replay

    def new_stream(self) -> Any:
        return torch.cuda.Stream(self._device)

    def run_on(self, stream: Any, work: Work) -> None:
        """Run on another stream, after everything that the main stream has been given."""
        stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(stream):
            work()

    def wait_for(self, stream: Any) -> None:
        """Let the main stream wait for another."""
        torch.cuda.current_stream(self._device).wait_stream(stream)


class _Graph:
    """Work that runs plainly for its first WARM_UP_STEPS steps, and as a captured graph from then on."""

    def __init__(self, recorder: Recorder, name: str):
        self._recorder, self._name = recorder, name
        self._plain_steps: float = 0  # -inf where a capture was refused
        self._replay: Work | None = None

    def ready(self, work: Work, may_capture: bool = True) -> Work:
        """What runs the next step: `work` itself, or its graph."""
        if self._replay is None and may_capture and self._plain_steps >= WARM_UP_STEPS:
            try:
                self._replay = self._recorder.capture(work)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                self._plain_steps = -math.inf
                # A logged exception would keep the student alive.
                logging.getLogger(__name__).warning(f"{self._name} cannot be captured and steps plainly: {error}")
        self._plain_steps += 1
        return self._replay or work


class Graphs(InTurn):
    """Batch and taps are copied into buffers that stay in place, where graphs read them.

    Gradients are freed after each step, so a captured backward pass makes them anew in the graph's memory.
    """

    def __init__(self, recorder: Recorder):
        self._recorder = recorder
        self._batch: StreamBatch | None = None
        self._taps: Taps | None = None
        self._teacher = _Graph(recorder, "the teacher")
        self._students: WeakKeyDictionary[Student, tuple[Any, _Graph]] = WeakKeyDictionary()
        """The stream and the graph of each student; they go with the student."""

    def load(self, batch: StreamBatch, teach: Teach | None) -> tuple[StreamBatch, Taps]:
        self._join()  # students may still be reading the last batch
        self._batch = StreamBatch(*_copied(batch, self._batch))
        if teach is not None:
            self._teacher.ready(partial(self._teach, teach, self._batch.images))()
        return self._batch, self._taps or NO_TAPS

    def step(self, students: Sequence[Student], learn: Learn) -> Iterator[tuple[Student, Exception]]:
        def start(student: Student) -> None:
            if student not in self._students:
                name = f"trial {student.trial.id} ({student.trial.method.name})"
                self._students[student] = self._recorder.new_stream(), _Graph(self._recorder, name)
            stream, graph = self._students[student]
            # A graph keeps the factor of a loss that warms up from epoch to epoch.
            is_constant = student.epoch + 1 >= getattr(student.trial.method, "warmup_epochs", 0)
            self._recorder.run_on(stream, graph.ready(partial(learn, student), may_capture=is_constant))

        for student, error in super().each(students, start):
            self._join()  # before its memory is freed
            yield student, error

    def each(self, items: Sequence[Item], work: Callable[[Item], None]) -> Iterator[tuple[Item, Exception]]:
        self._join()
        return super().each(items, work)

    def _teach(self, teach: Teach, images: Tensor) -> None:
        """Put the teacher's taps where students read them."""
        self._taps = Taps.of(_copied(teach(images).tensors, self._taps and self._taps.tensors))

    def _join(self) -> None:
        """Let the main stream wait until all students have taken their steps."""
        for stream, _ in self._students.values():
            self._recorder.wait_for(stream)


def _copied(tensors: Sequence[Tensor], kept: Sequence[Tensor] | None) -> Sequence[Tensor]:
    """The tensors in memory of their own, which is that of the earlier copies where there are some."""
    if kept is None:
        return [tensor.clone() for tensor in tensors]
    for copy, tensor in zip(kept, tensors, strict=True):
        copy.copy_(tensor)
    return kept


def choose_stepping(device: torch.device, world_size: int = 1, threads_per_student: int | None = None) -> InTurn:
    """Graphs on a GPU; threads on a CPU where `threads_per_student` is given; otherwise one student after another.

    Data-parallel workers always step in turn: their gradient reductions must meet in the same order on all ranks,
    and are not captured.
    """
    if world_size > 1:
        return InTurn()
    if device.type == "cuda":
        return Graphs(Recorder(device))
    if threads_per_student is not None:
        return Threads(max(1, torch.get_num_threads() // threads_per_student), threads_per_student)
    return InTurn()
