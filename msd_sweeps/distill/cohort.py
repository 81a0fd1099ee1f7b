"""The only training loop: one teacher, one stream, one or many students in lockstep."""

import time
import traceback
from collections.abc import Iterator

import torch
from torch import Tensor

from msd_sweeps.distill.data.splits import Split, Splits
from msd_sweeps.distill.data.stream import StreamBatch, open_stream, plain_batches
from msd_sweeps.distill.device import autocast, choose_dtype
from msd_sweeps.distill.models.network import Network, Taps, joined
from msd_sweeps.distill.stepping.graphs import open_steps
from msd_sweeps.distill.stepping.threads import Lanes, open_lanes
from msd_sweeps.distill.student import Evaluation, NonFiniteLoss, State, Student, side_of
from msd_sweeps.records.trial_record import EpochResult
from msd_sweeps.space.trial import Trial

_EVALUATION_BATCH = 500
_TEACHER_PARTS = 4


class Cohort:
    """Students that learn from one pass of the teacher over one stream.

    Packing changes nothing but speed: a student's numbers depend on its trial and on the position of the stream
    at which it joined. Students join and leave between epochs.
    """

    def __init__(
        self,
        trial: Trial,
        teacher: Network | None,
        splits: Splits,
        device: torch.device,
        rank: int = 0,
        world_size: int = 1,
        threads_per_student: int | None = None,
    ):
        """`trial` is any trial of the cohort's stream key. `teacher` is frozen and in evaluation mode.
        threads_per_student: students step side by side on a processor, each on so many threads; None: in turn, on all.

        Raises ValueError where the batch cannot be divided among the workers.
        """
        self.key, self.device, self.rank, self.world_size = trial.stream_key, device, rank, world_size
        self.dtype = choose_dtype(trial.recipe.precision, device)
        self.splits = splits.to(device)
        self.stream = open_stream(self.splits, trial.recipe, trial.stream_seed, rank, world_size)
        self.num_classes = trial.data.facts.num_classes
        self.image_shape = splits.train.image_shape
        self.position = 0
        self.steps = open_steps(device, world_size)
        self.each = open_lanes(threads_per_student, device, world_size)
        self.students: dict[str, Student] = {}
        self.teacher = teacher
        if teacher is not None:
            teacher.to(device, self.dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._teacher_side = None if teacher is None else side_of(teacher, self.image_shape)

    def admit(self, trial: Trial, state: State | None = None, position: int | None = None) -> None:
        """Let a student join before the next epoch, fresh or from a checkpoint's state.

        An empty cohort moves to `position` (a fresh student's default is 0); otherwise the student must fit.
        Raises ValueError for another stream key or position.
        """
        if trial.stream_key != self.key:
            raise ValueError(f"trial {trial.id} reads stream {trial.stream_key}, this cohort reads {self.key}")
        if not self.students:
            self.position = position or 0
        elif position is not None and position != self.position:
            raise ValueError(f"trial {trial.id} is at position {position}, this cohort at {self.position}")
        if self._teacher_side is None and trial.method.name != "none":
            raise ValueError(f"method {trial.method.name} needs a teacher")
        student = Student(
            trial,
            self._teacher_side,
            self.image_shape,
            self.num_classes,
            self.splits.train.labels,
            self.stream.steps_per_epoch,
            self.device,
            self.dtype,
            self.world_size,
        )
        if state is not None:
            student.restore(state)
        self.students[trial.id] = student

    def drop(self, trial: str) -> None:
        """Let a student leave; one that is not here has left already."""
        self.students.pop(trial, None)
        self.steps.forget(trial)

    def epochs(self) -> Iterator[list[EpochResult]]:
        """Train until no student is left; callers may admit and drop between epochs."""
        while self.students:
            yield self.run_epoch()
            self.retire()

    def run_epoch(self) -> list[EpochResult]:
        """One epoch for every student: one result each, in the order of admission.

        An error in one student removes that student alone. With several workers an error in one of them would
        leave the others waiting, so there it is raised and the whole worker group starts again.
        """
        started = time.perf_counter()
        lost: dict[str, EpochResult] = {}
        for student in self.students.values():
            student.start_epoch()
        for batch in self.stream.epoch(self.position):
            lost |= {result.trial: result for result in self.take_step(batch)}
        self.steps.join()
        measured: dict[str, dict[str, float]] = {}

        def measure(student: Student) -> None:
            metrics = student.training_metrics()
            student.epoch += 1
            measured[student.trial.id] = metrics | self._evaluations(student)

        students = list(self.students.values())
        for student, error in zip(students, self.each(students, measure), strict=True):
            if error is not None:
                lost[student.trial.id] = self._lose(student, error)
        share = (time.perf_counter() - started) / max(1, len(measured) + len(lost))
        results = []
        for name, student in self.students.items():
            metrics = measured[name]
            metrics["step_seconds"] = share / self.stream.steps_per_epoch
            state = "finished" if student.is_done else "running"
            results.append(EpochResult(name, state, student.epoch, self.position, share, metrics))
            student.history.append(results[-1])
        self.position += 1
        return [*results, *lost.values()]

    def retire(self) -> None:
        """Let the students that have finished leave; a caller that writes checkpoints does so before."""
        for name in [name for name, student in self.students.items() if student.is_done]:
            self.drop(name)

    @property
    def needs_teacher(self) -> bool:
        return any(student.trial.method.name != "none" for student in self.students.values())

    def teach(self, images: Tensor) -> Taps:
        """The teacher's taps of a batch, computed once for all students."""
        assert self.teacher is not None, "admit() lets nobody in who needs one"
        teacher, images = self.teacher, images.to(self.dtype)
        # So many parts whatever the lanes: how a product's sums are rounded can depend on its rows, too.
        parts = images.chunk(_TEACHER_PARTS) if isinstance(self.each, Lanes) else (images,)
        taps: dict[int, Taps] = {}

        def look(part: int) -> None:
            with torch.no_grad():
                taps[part] = teacher(parts[part])

        for error in self.each(range(len(parts)), look):
            if error is not None:
                raise error
        return joined([taps[part] for part in range(len(parts))])

    def take_step(self, batch: StreamBatch) -> list[EpochResult]:
        """Let all students learn from a batch; gives the results of those that an error removed."""
        self.steps.load(batch, self.teach if self.needs_teacher else None)
        students = list(self.students.values())
        errors = self.each(students, self.steps.step)
        return [self._lose(student, error) for student, error in zip(students, errors, strict=True) if error]

    def _lose(self, student: Student, error: Exception) -> EpochResult:
        if self.world_size > 1 and not isinstance(error, NonFiniteLoss):
            raise error
        name = student.trial.id
        self.drop(name)
        state = _state_of(error)
        told = "" if state == "diverged" else "".join(traceback.format_exception(error))
        reason = f"{type(error).__name__}: {error}" if state == "failed" else str(error).split("\n")[0]
        # What the student holds is freed before its neighbours go on.
        student.optimizer.zero_grad(set_to_none=True)
        return EpochResult(name, state, student.epoch, self.position, 0.0, {}, reason, told)

    def _evaluations(self, student: Student) -> dict[str, float]:
        """Validation after every epoch; the test set once, after the last, and never to choose."""
        metrics: dict[str, float] = {}
        if self.splits.val is not None:
            val = self.evaluate(student.network, self.splits.val)
            metrics |= {"val_top1": val.top1, "val_loss": val.loss}
        if student.is_done:
            test = self.evaluate(student.network, self.splits.test)
            metrics |= {"test_top1": test.top1, "test_loss": test.loss}
        return metrics

    def evaluate(self, network: Network, split: Split) -> Evaluation:
        """Accuracy and cross-entropy of a network on a split, in the cohort's precision."""
        if self.world_size > 1:
            for buffer in network.buffers():  # every rank judges with the statistics of rank 0
                torch.distributed.broadcast(buffer, 0)
        part = split
        if self.world_size > 1:
            part = split.select(torch.arange(self.rank, len(split), self.world_size))
        return evaluate(network, part, self.splits.mean, self.splits.std, self.device, self.dtype, self.world_size)


def evaluate(
    network: Network,
    split: Split,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    device: torch.device,
    dtype: torch.dtype,
    world_size: int = 1,
) -> Evaluation:
    """Accuracy and cross-entropy over the parts of a split that all workers hold."""
    network.eval()
    weights_dtype = next(network.parameters()).dtype
    batch_size = _EVALUATION_BATCH if split.image_shape[-1] <= 64 else _EVALUATION_BATCH // 4
    sums = torch.zeros(3, device=device, dtype=torch.float64)  # right, cross-entropy, count
    with torch.no_grad():
        for images, labels in plain_batches(split, mean, std, batch_size):
            if weights_dtype == torch.float32:
                with autocast(device, dtype):
                    logits = network(images).logits.float()
            else:
                logits = network(images.to(weights_dtype)).logits.float()
            loss = torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
            right = (logits.argmax(1) == labels).sum()
            sums += torch.stack([right, loss, torch.full_like(loss, len(labels))])
    if world_size > 1:
        torch.distributed.all_reduce(sums)
    right, loss, count = sums.tolist()
    return Evaluation(top1=100 * right / count, loss=loss / count)


def _state_of(error: Exception) -> str:
    if isinstance(error, NonFiniteLoss):
        return "diverged"
    # The CPU's allocator raises a plain RuntimeError.
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error):
        return "out_of_memory"
    return "failed"
