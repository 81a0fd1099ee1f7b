"""Steps on a GPU as captured CUDA graphs: one for the teacher, one for each student on a stream of its own.

A step of a small network is hundreds of kernels that take less time than their launches; a graph launches all of them
at once, and students on streams of their own fill the device together. Not yet run on a GPU: what is tested is the
order of things, on a CPU, with a stand-in for the capture.
"""

import logging
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from msd_sweeps.distill.data.stream import StreamBatch
from msd_sweeps.distill.models.network import Taps
from msd_sweeps.distill.student import Student

WARM_UP_STEPS = 3
"""Steps before a capture: they choose algorithms and make momentum and sums, which a graph then finds in place."""

Replay = Callable[[], None]
Teach = Callable[[Tensor], Taps]


class Steps(Protocol):
    """How a cohort takes its steps."""

    def load(self, batch: StreamBatch, teach: Teach | None) -> None:
        """Take the next batch and what the teacher says of it; None where nobody asks it."""
        ...

    def step(self, student: Student) -> None:
        """Let a student learn from them. Raises what its step raises."""
        ...

    def join(self) -> None:
        """Wait, on the device, until all students have taken their steps."""
        ...

    def forget(self, trial: str) -> None:
        """A student has left."""
        ...


def open_steps(device: torch.device, world_size: int) -> Steps:
    """Graphs on a GPU. Data-parallel workers step plainly: their reductions are not captured."""
    if device.type == "cuda" and world_size == 1:
        return GraphSteps(CudaRecorder(device))
    return PlainSteps()


class PlainSteps:
    """One student after another, as the CPU takes them."""

    def load(self, batch: StreamBatch, teach: Teach | None) -> None:
        self._batch, self._taps = batch, _silence(batch.images) if teach is None else teach(batch.images)

    def step(self, student: Student) -> None:
        student.step(self._batch, self._taps)

    def join(self) -> None:
        """Nothing: a step is over when it returns."""

    def forget(self, trial: str) -> None:
        """Nothing is kept of a student."""


class Recorder(Protocol):
    """What captures work on a device and orders its streams."""

    def capture(self, work: Callable[[], Any]) -> Replay:
        """Record `work` without running it; what it returns lies where every replay writes it."""
        ...

    def new_stream(self) -> Any: ...
    def run_on(self, stream: Any, work: Callable[[], None]) -> None:
        """Run on another stream after all that the main one has been given."""
        ...

    def wait_for(self, stream: Any) -> None:
        """Let the main stream wait for another."""
        ...


class CudaRecorder:
    """CUDA graphs, each with a memory pool of its own, because graphs of several students run at the same time."""

    def __init__(self, device: torch.device):
        self._device = device

    def capture(self, work: Callable[[], Any]) -> Replay:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            work()
        return graph.replay

    def new_stream(self) -> Any:
        return torch.cuda.Stream(self._device)

    def run_on(self, stream: Any, work: Callable[[], None]) -> None:
        stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(stream):
            work()

    def wait_for(self, stream: Any) -> None:
        torch.cuda.current_stream(self._device).wait_stream(stream)


class GraphSteps:
    """Batch and taps lie in buffers that stay in place; graphs read them there."""

    def __init__(self, recorder: Recorder):
        self._recorder = recorder
        self._batch: StreamBatch | None = None
        self._taps: Taps | None = None
        self._taught = 0
        self._teach: Replay | None = None
        self._lanes: dict[str, _Lane] = {}

    def load(self, batch: StreamBatch, teach: Teach | None) -> None:
        self.join()  # students may still be reading the last batch
        if self._batch is None:
            self._batch = StreamBatch(*(tensor.clone() for tensor in batch))
        else:
            for mine, theirs in zip(self._batch, batch, strict=True):
                mine.copy_(theirs)
        if teach is None:
            return
        images = self._batch.images
        if self._teach is None and self._taught >= WARM_UP_STEPS:
            self._teach = self._recorder.capture(lambda: self._keep(teach(images)))
        if self._teach is None:
            self._taught += 1
            self._keep(teach(images))
        else:
            self._teach()

    def step(self, student: Student) -> None:
        assert self._batch is not None, "load() comes before step()"
        lane = self._lanes.get(student.trial.id)
        if lane is None or lane.student is not student:
            lane = self._lanes[student.trial.id] = _Lane(student, self._recorder)
        lane.step(self._batch, self._taps or _silence(self._batch.images))

    def join(self) -> None:
        for lane in self._lanes.values():
            self._recorder.wait_for(lane.stream)

    def forget(self, trial: str) -> None:
        lane = self._lanes.pop(trial, None)
        if lane is not None:
            self._recorder.wait_for(lane.stream)

    def _keep(self, taps: Taps) -> None:
        """Put the taps where students look for them."""
        if self._taps is None:
            self._taps = Taps(
                tuple(stage.clone() for stage in taps.stages),
                taps.last.clone(),
                taps.pooled.clone(),
                taps.logits.clone(),
            )
            return
        for mine, theirs in zip(_flat(self._taps), _flat(taps), strict=True):
            mine.copy_(theirs)


class _Lane:
    """A student's stream, and its graph once it has warmed up."""

    def __init__(self, student: Student, recorder: Recorder):
        self.student, self.stream = student, recorder.new_stream()
        self._recorder = recorder
        self._eager_steps = 0
        self._replay: Replay | None = None
        self._refused = False

    def step(self, batch: StreamBatch, taps: Taps) -> None:
        student = self.student
        student.advance()
        if self._replay is None and self._eager_steps >= WARM_UP_STEPS and not self._refused:
            self._capture(batch, taps)
        if self._replay is None:
            self._eager_steps += 1
            self._recorder.run_on(self.stream, lambda: student.compute(batch, taps))
        else:
            self._recorder.run_on(self.stream, self._replay)

    def _capture(self, batch: StreamBatch, taps: Taps) -> None:
        if not has_constant_loss(self.student):
            return
        # Gradients are made anew inside the graph, so that each replay overwrites them.
        self.student.optimizer.zero_grad(set_to_none=True)
        self._recorder.wait_for(self.stream)
        try:
            self._replay = self._recorder.capture(lambda: self.student.compute(batch, taps))
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            self._refused = True
            trial = self.student.trial
            logging.getLogger(__name__).warning(
                "trial %s (%s) cannot be captured and steps plainly: %s", trial.id, trial.method.name, error
            )


def has_constant_loss(student: Student) -> bool:
    """Whether the loss has stopped to change from epoch to epoch: a graph keeps the factor of a warm-up."""
    return student.epoch + 1 >= getattr(student.trial.method, "warmup_epochs", 0)


def _silence(images: Tensor) -> Taps:
    """What a student without a teacher is given."""
    nothing = images.new_empty(0)
    return Taps((), nothing, nothing, nothing)


def _flat(taps: Taps) -> list[Tensor]:
    return [*taps.stages, taps.last, taps.pooled, taps.logits]
