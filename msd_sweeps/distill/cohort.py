"""The only training loop: one teacher, one stream, one or many students in lockstep; and evaluation.

Every student reads the stream from its beginning. Students that join later learn by themselves until they have caught
up with the others, which wait: one pass of the teacher serves all of them from there on.
"""

import time
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from msd_sweeps.distill.data.splits import Split, Splits, Stream, StreamBatch
from msd_sweeps.distill.device import choose_dtype
from msd_sweeps.distill.evaluation import Scores, Scoring, batches_of
from msd_sweeps.distill.graphs import Graphs, Recorder
from msd_sweeps.distill.losses.distiller import Batch, Side
from msd_sweeps.distill.models.network import Network, Taps
from msd_sweeps.distill.stepping import Failure, InTurn, Threads
from msd_sweeps.distill.student import State, Student
from msd_sweeps.records.predictions import Predictions
from msd_sweeps.records.trial_record import EpochResult
from msd_sweeps.space.trial import Trial


def train_epoch(cohort: "Cohort") -> Iterator[list[EpochResult]]:
    """One epoch of the `next_students`: batch, teacher, forward, losses, backward, optimiser, metrics.

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

    group = cohort.next_students
    for student in group:
        student.start_epoch()
    stepping.batch_seconds = stepping.teacher_seconds = 0.0
    needs_teacher = any(student.trial.method.needs_teacher for student in group)
    batches = stepping.batches(cohort.stream.epoch(group[0].epoch), teach if needs_teacher else None)
    for batch, teacher_taps in batches:
        students = [student for student in group if student.trial.id in cohort.students]
        for student in students:
            student.set_learning_rate()
        failures = stepping.step(students, partial(learn, batch=batch, teacher_taps=teacher_taps))
        yield [cohort.lose(student, failure) for student, failure in failures]


class Cohort:
    """Students that learn from one pass of the teacher over one stream.

    Packing changes nothing but speed: a student's numbers depend on its trial alone. Students join and leave between
    epochs.
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
        self.students: dict[str, Student] = {}
        """By trial, in the order of admission."""
        self.teacher = teacher
        if teacher is not None:
            teacher.to(device, self.dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._teacher_side = None if teacher is None else Side.of(teacher, splits.train.image_shape)

    @property
    def next_students(self) -> list[Student]:
        """The students that learn in the next epoch: those that are furthest behind."""
        first = min((student.epoch for student in self.students.values()), default=0)
        return [student for student in self.students.values() if student.epoch == first]

    def admit(self, trial: Trial, state: State | None = None) -> None:
        """Let a student join before the next epoch, fresh or from a checkpoint's state.

        Raises ValueError for another stream key, and for a method that lacks its teacher.
        """
        if trial.stream_key != self.key:
            raise ValueError(f"trial {trial.id} reads stream {trial.stream_key}, this cohort reads {self.key}")
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
        """Train and evaluate the `next_students` for one epoch: one result each, in the order of admission.

        An exception in one student removes that student alone; its result comes last. With several workers it would
        leave the others waiting, so there it is raised and the whole worker group starts again.
        """
        started, group = time.perf_counter(), self.next_students
        lost = [result for results in train_epoch(self) for result in results]
        measured: dict[str, dict[str, float]] = {}

        predicted: dict[str, Predictions] = {}

        def conclude(student: Student) -> None:
            measured[student.trial.id] = student.training_metrics()
            student.epoch += 1

        lost += self._each(self._still_here(group), conclude)
        # Validation after every epoch; the test set once, after the last, and never to choose.
        lost += self._score("val", self.splits.val, self._still_here(group), measured)
        done = [student for student in self._still_here(group) if student.is_done]
        lost += self._score("test", self.splits.test, done, measured, predicted)
        share = (time.perf_counter() - started) / len(group)
        results = []
        for student in self._still_here(group):
            name = student.trial.id
            metrics = measured[name] | {"step_seconds": share / self.stream.steps_per_epoch}
            metrics["alone_seconds"] = share  # a GPU does not tell students apart
            if self.device.type == "cpu":
                teaching = self.stepping.teacher_seconds if student.trial.method.needs_teacher else 0.0
                metrics["alone_seconds"] = student.seconds + self.stepping.batch_seconds + teaching
            state = "finished" if student.is_done else "running"
            of_images = predicted.get(name)
            results.append(EpochResult(name, state, student.epoch, share, metrics, predictions=of_images))
            student.history.append(results[-1])
        return [*results, *lost]

    def _score(
        self,
        name: str,
        part: Split | None,
        students: list[Student],
        measured: dict[str, dict[str, float]],
        predicted: dict[str, Predictions] | None = None,
    ) -> list[EpochResult]:
        """Add students' scores on a part to what was measured of them; the last results of those that failed.

        The part is read once for all of them. predicted: also gets the students' predictions.
        """
        scorings = {student: Scoring(student.network, self.dtype) for student in students}
        lost: list[EpochResult] = []
        if part is None or not scorings:
            return lost

        def add(student: Student, images: Tensor, labels: Tensor) -> None:
            scorings[student].add(images, labels)

        def finish(student: Student) -> None:
            found, metrics = scorings[student].scores(part.labels, self.world_size), measured[student.trial.id]
            metrics |= {f"{name}_top1": found.top1, f"{name}_loss": found.loss}
            if predicted is not None:
                metrics[f"{name}_calibration_error"] = found.calibration_error
                predicted[student.trial.id] = found.predictions
            metrics |= {f"{name}_{metric}": value for metric, value in found.own.items()}

        began = time.perf_counter()
        for images, labels in batches_of(self.splits, part, self.rank, self.world_size):
            read = time.perf_counter() - began
            for student in students:
                student.seconds += read
            lost += self._each(self._still_here(students), partial(add, images=images, labels=labels))
            began = time.perf_counter()
        return lost + self._each(self._still_here(students), finish)

    def _still_here(self, students: list[Student]) -> list[Student]:
        return [student for student in students if student.trial.id in self.students]

    def _each(self, students: list[Student], work: Callable[[Student], None]) -> list[EpochResult]:
        """Call `work` for every student, and lose those that fail."""

        def timed(student: Student) -> None:
            began = time.perf_counter()
            work(student)
            student.seconds += time.perf_counter() - began

        return [self.lose(student, failure) for student, failure in self.stepping.each(students, timed)]

    def lose(self, student: Student, failure: Failure) -> EpochResult:
        """Remove a student that failed, and return its last result; with several workers raise RuntimeError."""
        if self.world_size > 1 and failure.state != "diverged":
            raise RuntimeError(failure.traceback)
        self.drop(student.trial.id)
        student.optimizer.zero_grad(set_to_none=True)  # frees memory before the other students go on
        return EpochResult(student.trial.id, failure.state, student.epoch, 0.0, {}, failure.reason, failure.traceback)


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


def evaluate(network: Network, splits: Splits, part: Split, dtype: torch.dtype) -> Scores:
    """The scores of one network on a part of `splits`, see `Scoring`."""
    scoring = Scoring(network, dtype)
    for images, labels in batches_of(splits, part):
        scoring.add(images, labels)
    return scoring.scores(part.labels)
