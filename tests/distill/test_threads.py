"""Students side by side on threads: what is promised of them beside the numbers, which `test_cohort.py` holds."""

import threading

import pytest
import torch

from msd_sweeps.distill.cohort import choose_stepping
from msd_sweeps.distill.graphs import Graphs
from msd_sweeps.distill.stepping import InTurn, Threads
from tests.distill.conftest import CPU

STUDENTS = [f"student {number}" for number in range(5)]


@pytest.mark.parametrize("stepping", [InTurn(), Threads(2, 1)])
def test_errors_come_in_the_order_of_the_students(stepping):
    done = []

    def work(student: str) -> None:
        done.append(student)
        if student in (STUDENTS[1], STUDENTS[3]):
            raise ValueError(f"{student} fails")

    told = [(student, failure.reason) for student, failure in stepping.each(STUDENTS, work)]
    assert told == [("student 1", "ValueError: student 1 fails"), ("student 3", "ValueError: student 3 fails")]
    assert sorted(done) == STUDENTS


def test_in_turn_an_error_is_seen_before_the_next_student_begins():
    """A data-parallel worker must not go on while the others wait for the student that failed."""
    begun = []

    def work(student: str) -> None:
        begun.append(student)
        raise ValueError

    next(InTurn().each(STUDENTS, work))
    assert begun == STUDENTS[:1]


def test_students_are_side_by_side_each_on_its_own_threads():
    torch.set_num_threads(4)
    meeting, seen = threading.Barrier(2, timeout=60), []

    def work(student: str) -> None:
        meeting.wait()  # breaks where one is alone
        seen.append(torch.get_num_threads())

    assert list(Threads(2, 3).each(STUDENTS[:2], work)) == []
    assert seen == [3, 3]
    assert torch.get_num_threads() == 4


def test_an_interrupt_on_a_students_thread_ends_the_process():
    def work(student: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(Threads(2, 1).each(STUDENTS, work))


@pytest.mark.parametrize(("threads", "side_by_side"), [(1, 5), (2, 2), (5, 1), (8, 1)])
def test_students_fill_the_threads_of_the_process(threads, side_by_side):
    torch.set_num_threads(5)
    meeting, together = threading.Barrier(side_by_side, timeout=60), []

    def work(student: str) -> None:
        meeting.wait()
        together.append(student)

    stepping = choose_stepping(CPU, threads_per_student=threads)
    assert list(stepping.each(STUDENTS[:side_by_side], work)) == []
    assert len(together) == side_by_side
    assert isinstance(stepping, Threads)


@pytest.mark.parametrize(
    ("device", "world_size", "threads_per_student", "expected"),
    [
        ("cpu", 1, None, InTurn),
        ("cpu", 1, 1, Threads),
        ("cpu", 2, 1, InTurn),
        ("cuda", 1, None, Graphs),
        ("cuda", 1, 1, Graphs),
        ("cuda", 2, None, InTurn),
    ],
)
def test_the_stepping_follows_from_device_and_workers(device, world_size, threads_per_student, expected):
    assert type(choose_stepping(torch.device(device), world_size, threads_per_student)) is expected
