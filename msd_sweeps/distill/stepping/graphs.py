"""Steps on a GPU as captured CUDA graphs: one for the teacher, and one for each student on a stream of its own.

A step of a small network is hundreds of kernels that take less time than their launches. A graph launches all of them
at once, and students on streams of their own fill the device together. Not yet run on a GPU: the tests check the order
of things on a CPU, with a stand-in for the capture.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from msd_sweeps.distill.data.stream import StreamBatch
from msd_sweeps.distill.models.network import Taps
from msd_sweeps.distill.stepping.threads import NO_TAPS, InTurn, Item, Learn, Teach
from msd_sweeps.distill.student import Student

WARM_UP_STEPS = 3
"""Steps before a capture. They choose algorithms and make momentum and sums, which a graph then finds in place."""

Work = Callable[[], None]


class Recorder:
    """Captures work on a GPU and orders its streams.

    Each graph has a memory pool of its own, because graphs of several students run at the same time.
    """

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
        self._steps = 0
        self._replay: Work | None = None
        self._is_refused = False

    def ready(self, work: Work, may_capture: bool = True) -> Work:
        """What runs the next step: `work` itself, or its graph."""
        is_warm = self._steps >= WARM_UP_STEPS
        if is_warm and may_capture and self._replay is None and not self._is_refused:
            self._capture(work)
        self._steps += 1
        return self._replay or work

    def _capture(self, work: Work) -> None:
        try:
            self._replay = self._recorder.capture(work)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            self._is_refused = True
            logging.getLogger(__name__).warning("%s cannot be captured and steps plainly: %s", self._name, str(error))


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
        if self._batch is None:
            self._batch = StreamBatch(*(tensor.clone() for tensor in batch))
        else:
            _overwrite(self._batch, batch)
        if teach is not None:
            self._teacher.ready(partial(self._teach, teach, self._batch.images))()
        return self._batch, self._taps or NO_TAPS

    def step(self, students: Sequence[Student], learn: Learn) -> Iterator[tuple[Student, Exception]]:
        def start(student: Student) -> None:
            stream, graph = self._of(student)
            self._recorder.run_on(stream, graph.ready(partial(learn, student), has_constant_loss(student)))

        for student, error in super().each(students, start):
            self._join()  # before its memory is freed
            yield student, error

    def each(self, items: Sequence[Item], work: Callable[[Item], None]) -> Iterator[tuple[Item, Exception]]:
        self._join()
        return super().each(items, work)

    def _teach(self, teach: Teach, images: Tensor) -> None:
        """Put the teacher's taps where students read them."""
        taps = teach(images)
        if self._taps is None:
            self._taps = Taps(tuple(stage.clone() for stage in taps.stages), *(tensor.clone() for tensor in taps[1:]))
        else:
            _overwrite((*self._taps.stages, *self._taps[1:]), (*taps.stages, *taps[1:]))

    def _of(self, student: Student) -> tuple[Any, _Graph]:
        if student not in self._students:
            name = f"trial {student.trial.id} ({student.trial.method.name})"
            self._students[student] = self._recorder.new_stream(), _Graph(self._recorder, name)
        return self._students[student]

    def _join(self) -> None:
        """Let the main stream wait until all students have taken their steps."""
        for stream, _ in self._students.values():
            self._recorder.wait_for(stream)


def has_constant_loss(student: Student) -> bool:
    """Whether the loss no longer changes from epoch to epoch: a graph keeps the factor of a warm-up."""
    return student.epoch + 1 >= getattr(student.trial.method, "warmup_epochs", 0)


def _overwrite(kept: Sequence[Tensor], new: Sequence[Tensor]) -> None:
    for mine, theirs in zip(kept, new, strict=True):
        mine.copy_(theirs)
