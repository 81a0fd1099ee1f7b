"""Steps of students as CUDA graphs, each on a stream of its own.

A step of a small network is hundreds of kernels that take less time than their launches. A captured graph launches all
of them at once, and students on streams of their own fill the device together.
"""

import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, partial
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import torch
from torch import Tensor

from msd_sweeps.distill.data.splits import StreamBatch
from msd_sweeps.distill.models.network import Taps
from msd_sweeps.distill.stepping import NO_TAPS, Failure, InTurn, Item, Learn, Teach, Work
from msd_sweeps.distill.student import Student

WARM_UP_STEPS = 3
"""Steps before a capture. They choose algorithms and make momentum and sums, which a graph then finds in place."""

MOST_STREAMS = 32
"""PyTorch hands out its 32 streams again after so many."""


class DeviceFault(RuntimeError):
    """The device answers nothing any more: this process has to end, and no trial of it is to blame for that alone."""


class Recorder:
    """Captures work on a GPU, in a memory pool of its own, because several graphs run at a time; orders streams."""

    def __init__(self, device: torch.device):
        self._device = device
        self._streams: list[tuple[Any, WeakSet[Any]]] = []

    def capture(self, work: Work, stream: Any) -> Work:
        """Record `work` on a stream without running it; the result replays it in the same memory.

        The stream is the one on which it warmed up and will replay: cuBLAS keeps a workspace for each stream, and
        graphs that are captured on one stream and replayed on several would write into the same workspace at a time.
        """
        graph, current = torch.cuda.CUDAGraph(), torch.cuda.current_stream(self._device)
        try:
            # Other threads, which write checkpoints, may use the device meanwhile.
            with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                work()
        finally:
            torch.cuda.set_stream(current)  # a capture that fails leaves its own
        return graph.replay

    def stream_for(self, owner: object) -> Any:
        """A stream of the owner's own, until the owner is gone; beyond MOST_STREAMS owners, one shared by the fewest.

        Owners that share a stream run one after the other.
        """
        if not self._streams:
            self._streams = [(torch.cuda.Stream(self._device), WeakSet()) for _ in range(MOST_STREAMS)]
        stream, owners = min(self._streams, key=lambda each: len(each[1]))
        owners.add(owner)
        return stream

    def run_on(self, stream: Any, work: Work) -> None:
        """Run on another stream, after everything that the main stream has been given."""
        stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(stream):
            work()

    def waits(self, stream: Any, work: Work) -> bool:
        """Run on another stream; whether the work made the host wait for the device, which a graph cannot do."""
        mode = torch.cuda.get_sync_debug_mode()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                self.run_on(stream, work)
            finally:
                torch.cuda.set_sync_debug_mode(mode)
        return any("called a synchronizing" in str(warning.message) for warning in caught)

    def wait_for(self, stream: Any) -> None:
        """Let the main stream wait for another."""
        torch.cuda.current_stream(self._device).wait_stream(stream)

    def check(self) -> None:
        """Raises DeviceFault where the device's context is broken: every later call would fail as well."""
        try:
            torch.cuda.synchronize(self._device)
        except RuntimeError as error:
            raise DeviceFault(f"the GPU has stopped answering ({str(error).splitlines()[0]})") from error


class _Graph:
    """Work on a stream of its own: plain for its first WARM_UP_STEPS steps, a captured graph from then on.

    Work that waits for the device is found in the last plain step, and goes on plainly.
    """

    def __init__(self, recorder: Recorder, name: str):
        self._recorder, self._name = recorder, name
        self._plain_steps = 0
        self._waits = False
        self._replay: Work | None = None

    @cached_property
    def stream(self) -> Any:
        return self._recorder.stream_for(self)

    @property
    def is_captured(self) -> bool:
        return self._replay is not None

    def run(self, work: Work, may_capture: bool = True) -> None:
        """Take the next step: `work` itself, or its graph. Raises CaptureError where the capture fails."""
        if self._replay is None and may_capture and not self._waits and self._plain_steps >= WARM_UP_STEPS:
            try:
                self._replay = self._recorder.capture(work, self.stream)
            except Exception as error:
                raise CaptureError(f"a step of {self._name} cannot be captured as a CUDA graph: {error}") from error
        self._plain_steps += 1
        if self._plain_steps == WARM_UP_STEPS:
            self._waits = self._recorder.waits(self.stream, work)
            if self._waits:
                message = f"{self._name} waits for the device in every step, so it steps without a CUDA graph, slowly"
                logging.getLogger(__name__).warning(message)
        else:
            self._recorder.run_on(self.stream, self._replay or work)


class CaptureError(RuntimeError):
    """A step cannot be captured."""


class Graphs(InTurn):
    """Batch and taps are copied into buffers that stay in place, where graphs read them.

    The next batch and the teacher's pass over it run ahead, beside the students. Gradients are freed after each step,
    so a captured backward pass makes them anew in the graph's memory.
    """

    def __init__(self, recorder: Recorder):
        self._recorder = recorder
        self._teacher = _Graph(recorder, "the teacher")
        # What the students read, and the same of the next batch, on the teacher's stream.
        self._batch: list[Tensor] = []
        self._taps: list[Tensor] = []
        self._ahead_batch: list[Tensor] = []
        self._ahead_taps: list[Tensor] = []
        self._students: WeakKeyDictionary[Student, _Graph] = WeakKeyDictionary()
        """The graph of each student; it goes with the student."""

    def batches(self, stream: Iterable[StreamBatch], teach: Teach | None) -> Iterator[tuple[StreamBatch, Taps]]:
        source = iter(stream)
        while self._next(source, teach):
            self._join()  # students may still be reading the last batch
            self._recorder.wait_for(self._teacher.stream)
            self._batch = _copied(self._ahead_batch, self._batch)
            self._taps = _copied(self._ahead_taps, self._taps)
            yield StreamBatch(*self._batch), NO_TAPS if teach is None else Taps.of(self._taps)

    def step(self, students: Sequence[Student], learn: Learn) -> Iterator[tuple[Student, Failure]]:
        def start(student: Student) -> None:
            if student not in self._students:
                name = f"trial {student.trial.id} ({student.trial.method.name})"
                self._students[student] = _Graph(self._recorder, name)
            try:
                self._students[student].run(partial(learn, student), may_capture=not self.broken)
            except CaptureError:
                self.broken = True
                raise

        return self._checked(super().each(students, start))

    def each(self, items: Sequence[Item], work: Callable[[Item], None]) -> Iterator[tuple[Item, Failure]]:
        self._join()
        return self._checked(super().each(items, work))

    def is_captured(self, student: Student) -> bool:
        """Whether the student's steps are replays of a graph."""
        return student in self._students and self._students[student].is_captured

    def _next(self, source: Iterator[StreamBatch], teach: Teach | None) -> bool:
        """Read the next batch, and the teacher's taps of it; False at the end of the epoch."""
        batch: StreamBatch | None = None

        def read() -> None:
            nonlocal batch
            batch = next(source, None)
            if batch is not None:
                self._ahead_batch = _copied(batch, self._ahead_batch)

        def run_teacher(teach: Teach) -> None:
            self._ahead_taps = _copied(teach(self._ahead_batch[0]).tensors, self._ahead_taps)

        self._recorder.run_on(self._teacher.stream, read)
        if batch is not None and teach is not None:
            self._teacher.run(partial(run_teacher, teach))
        return batch is not None

    def _checked(self, failures: Iterator[tuple[Item, Failure]]) -> Iterator[tuple[Item, Failure]]:
        """The failures, each once all steps are over and the device is known to work. Raises DeviceFault."""
        for item, failure in failures:
            self._join()  # before its memory is freed
            self._recorder.check()
            yield item, failure

    def _join(self) -> None:
        """Let the main stream wait until all students have taken their steps."""
        for graph in self._students.values():
            self._recorder.wait_for(graph.stream)


def _copied(tensors: Sequence[Tensor], kept: list[Tensor]) -> list[Tensor]:
    """The tensors in memory of their own, which is that of the earlier copies where there are some."""
    if not kept:
        return [tensor.clone() for tensor in tensors]
    torch._foreach_copy_(kept, list(tensors))
    return kept
