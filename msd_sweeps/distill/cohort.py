"""The only training loop: one teacher, one stream, one or many students in lockstep; and evaluation."""

import time
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from msd_sweeps.distill.data.splits import Split, Splits, Stream, StreamBatch
from msd_sweeps.distill.device import choose_dtype
from msd_sweeps.distill.evaluation import own_scores
from msd_sweeps.distill.graphs import Graphs, Recorder
from msd_sweeps.distill.losses.distiller import Batch, Side
from msd_sweeps.distill.models.network import Network, Taps
from msd_sweeps.distill.stepping import Failure, InTurn, Threads
from msd_sweeps.distill.student import State, Student
from msd_sweeps.records.trial_record import EpochResult
from msd_sweeps.space.trial import Trial


def train_epoch(cohort: "Cohort") -> Iterator[list[EpochResult]]:
    """One epoch of every student of a cohort: batch, teacher, forward, losses, backward, optimiser, metrics.

    `cohort.stepping` decides only how the parts run: in turn, side by side on threads, or as captured CUDA graphs.
    Yields after every batch the last results of the students that an exception removed.
    """
    device, dtype, stepping = cohort.device, cohort.dtype, cohort.stepping

    def teach(images: Tensor) -> Taps:
        """The frozen teacher's pass, once for all students."""
        assert cohort.teacher is not None, "admit() refuses students that need one"
        with torch.no_grad():
            return cohort.teacher(images.to(dtype))

    def learn(student: Student, batch: StreamBatch, teacher_taps: Taps) -> None:
        """One step of one student."""
        started = time.perf_counter()

        def forward() -> tuple[dict[str, Tensor], Tensor]:
            with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                taps = student.network(batch.images)
            about = batch.labels, batch.index, batch.targets, student.trial.recipe.label_smoothing
            terms = student.distiller(taps, teacher_taps, Batch(*about))
            return terms, taps.logits.detach()

        terms, logits = student.learner(forward)  # the pass that DistributedDataParallel wraps
        loss = torch.stack(list(terms.values())).sum()
        loss.backward()
        student.optimizer.step()
        student.optimizer.zero_grad(set_to_none=True)
        student.add_metrics(loss, terms, logits, batch.labels)
        student.seconds += time.perf_counter() - started

    for student in cohort.students.values():
        student.start_epoch()
    stepping.batch_seconds = stepping.teacher_seconds = 0.0
    needs_teacher = any(student.trial.method.needs_teacher for student in cohort.students.values())
    batches = stepping.batches(cohort.stream.epoch(cohort.position), teach if needs_teacher else None)
    for batch, teacher_taps in batches:
        students = list(cohort.students.values())
        for student in students:
            student.set_learning_rate()
        failures = stepping.step(students, partial(learn, batch=batch, teacher_taps=teacher_taps))
        yield [cohort.lose(student, failure) for student, failure in failures]


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
        stepping: InTurn | None = None,
    ):
        """`trial` is any trial of the cohort's stream key. `teacher` is frozen and in evaluation mode.

        threads_per_student: on a CPU students step side by side, each on so many threads; None: in turn, on all
        threads. stepping: replaces the choice that follows from device and workers. Raises ValueError as `Stream`.
        """
        self.key, self.device, self.rank, self.world_size = trial.stream_key, device, rank, world_size
        self.dtype = choose_dtype(trial.recipe.precision, device)
        self.splits = splits.to(device)
        self.stream = Stream(self.splits, trial.recipe, trial.stream_seed, rank, world_size)
        self.stepping = stepping or choose_stepping(device, world_size, threads_per_student)
        self.position = 0
        """The epoch of the stream that comes next."""
        self.students: dict[str, Student] = {}
        """By trial, in the order of admission."""
        """What the batches and the teacher's passes of this epoch took."""
        self.teacher = teacher
        if teacher is not None:
            teacher.to(device, self.dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._teacher_side = None if teacher is None else Side.of(teacher, splits.train.image_shape)

    def admit(self, trial: Trial, state: State | None = None, position: int | None = None) -> None:
        """Let a student join before the next epoch, fresh or from a checkpoint's state.

        An empty cohort moves to `position` (a fresh student's default is 0); otherwise the student must fit.
        Raises ValueError for another stream key or position, and for a method that lacks its teacher.
        """
        if trial.stream_key != self.key:
            raise ValueError(f"trial {trial.id} reads stream {trial.stream_key}, this cohort reads {self.key}")
        if not self.students:
            self.position = position or 0
        elif position is not None and position != self.position:
            raise ValueError(f"trial {trial.id} is at position {position}, this cohort at {self.position}")
        student = Student(trial, self.splits.train, self._teacher_side, self.device, self.world_size)
        if state is not None:
            student.restore(state)
        self.students[trial.id] = student

    def drop(self, trial: str) -> None:
        """Let a student leave between epochs; nothing happens where it has left already."""
        self.students.pop(trial, None)

    def retire(self) -> None:
        """Let the students that have finished leave; a caller that writes checkpoints does so before."""
        self.students = {name: student for name, student in self.students.items() if not student.is_done}

    def epochs(self) -> Iterator[list[EpochResult]]:
        """Train until no student is left; callers may admit and drop between epochs."""
        while self.students:
            yield self.run_epoch()
            self.retire()

    def run_epoch(self) -> list[EpochResult]:
        """Train and evaluate every student for one epoch: one result each, in the order of admission.

        An exception in one student removes that student alone; its result comes last. With several workers it would
        leave the others waiting, so there it is raised and the whole worker group starts again.
        """
        started = time.perf_counter()
        lost = [result for results in train_epoch(self) for result in results]
        measured: dict[str, dict[str, float]] = {}

        def measure(student: Student) -> None:
            began = time.perf_counter()
            metrics = measured[student.trial.id] = student.training_metrics()
            student.epoch += 1
            # Validation after every epoch; the test set once, after the last, and never to choose.
            for name, part in (("val", self.splits.val), ("test", self.splits.test if student.is_done else None)):
                if part is not None:
                    scores = evaluate(student.network, self.splits, part, self.dtype, self.rank, self.world_size)
                    metrics[f"{name}_top1"], metrics[f"{name}_loss"] = scores
                    metrics |= own_scores(student.network, self.splits, part, self.dtype, name)
            student.seconds += time.perf_counter() - began

        students = list(self.students.values())
        lost += [self.lose(student, failure) for student, failure in self.stepping.each(students, measure)]
        share = (time.perf_counter() - started) / max(1, len(self.students) + len(lost))
        results = []
        for name, student in self.students.items():
            metrics = measured[name] | {"step_seconds": share / self.stream.steps_per_epoch}
            metrics["alone_seconds"] = share  # a GPU does not tell students apart
            if self.device.type == "cpu":
                teaching = self.stepping.teacher_seconds if student.trial.method.needs_teacher else 0.0
                metrics["alone_seconds"] = student.seconds + self.stepping.batch_seconds + teaching
            state = "finished" if student.is_done else "running"
            results.append(EpochResult(name, state, student.epoch, self.position, share, metrics))
            student.history.append(results[-1])
        self.position += 1
        return [*results, *lost]

    def lose(self, student: Student, failure: Failure) -> EpochResult:
        """Remove a student that failed, and return its last result; with several workers raise RuntimeError."""
        if self.world_size > 1 and failure.state != "diverged":
            raise RuntimeError(failure.traceback)
        self.drop(student.trial.id)
        student.optimizer.zero_grad(set_to_none=True)  # frees memory before the other students go on
        return EpochResult(
            student.trial.id, failure.state, student.epoch, self.position, 0.0, {}, failure.reason, failure.traceback
        )


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


@torch.no_grad()
def evaluate(
    network: Network, splits: Splits, part: Split, dtype: torch.dtype, rank: int = 0, world_size: int = 1
) -> tuple[float, float]:
    """Top-1 accuracy in percent and mean cross-entropy in nats of a network on a part of `splits`, in evaluation mode.

    dtype: float32 weights compute under autocast to it; other weights compute in their own precision. Several workers
    each take a part of the images.
    """
    network.eval()
    if world_size > 1:
        part = part.select(torch.arange(rank, len(part), world_size))
    device, weights_dtype = part.labels.device, next(network.parameters()).dtype
    has_autocast = weights_dtype == torch.float32 and dtype != torch.float32
    batch_size = 500 if part.image_shape[-1] <= 64 else 125
    sums = torch.zeros(3, device=device, dtype=torch.float64)  # right, cross-entropy, count
    normalise = splits.normaliser()
    for images, labels in part.plain(batch_size):
        with torch.autocast(device.type, dtype, enabled=has_autocast):
            logits = network(normalise(images).to(weights_dtype)).logits.float()
        loss = torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
        sums += torch.stack([(logits.argmax(1) == labels).sum(), loss, torch.full_like(loss, len(labels))])
    if world_size > 1:
        torch.distributed.all_reduce(sums)
    num_right, total_loss, count = sums.tolist()
    return 100 * num_right / count, total_loss / count
