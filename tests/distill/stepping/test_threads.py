"""Students on lanes: what is promised of them beside the numbers, which `test_cohort.py` holds."""

import threading

import pytest
import torch

from msd_sweeps.distill.stepping.threads import Lanes, in_turn, open_lanes
from msd_sweeps.distill.student import Student
from tests.distill.conftest import CPU

STUDENTS: list[Student] = [f"student {number}" for number in range(5)]  # type: ignore[misc]


@pytest.mark.parametrize("each", [in_turn, Lanes(2, 1)])
def test_errors_come_in_the_order_of_the_students(each):
    done = []

    def work(student: Student) -> None:
        done.append(student)
        if student in (STUDENTS[1], STUDENTS[3]):
            raise ValueError(f"{student} fails")

    told = [error and str(error) for error in each(STUDENTS, work)]
    assert told == [None, "student 1 fails", None, "student 3 fails", None]
    assert sorted(done) == STUDENTS


def test_in_turn_an_error_is_told_before_the_next_begins():
    """A data-parallel worker must not go on while the others wait for the student that failed."""
    begun = []
    found = in_turn(STUDENTS, begun.append)
    next(found)
    assert begun == STUDENTS[:1]


def test_students_are_side_by_side_each_on_its_own_threads():
    torch.set_num_threads(4)
    meeting, seen = threading.Barrier(2, timeout=60), []

    def work(student: Student) -> None:
        meeting.wait()  # breaks where one is alone
        seen.append(torch.get_num_threads())

    assert list(Lanes(2, 3)(STUDENTS[:2], work)) == [None, None]
    assert seen == [3, 3]
    assert torch.get_num_threads() == 4


def test_a_process_that_is_told_to_end_does_so_from_a_lane():
    def work(student: Student) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Lanes(2, 1)(STUDENTS, work)


@pytest.mark.parametrize(("threads", "lanes"), [(1, 5), (2, 2), (5, 1), (8, 1)])
def test_lanes_fill_the_threads_that_there_are(threads, lanes):
    torch.set_num_threads(5)
    meeting, together = threading.Barrier(lanes, timeout=60), []

    def work(student: Student) -> None:
        meeting.wait()
        together.append(student)

    each = open_lanes(threads, CPU, 1)
    assert list(each(STUDENTS[:lanes], work)) == [None] * lanes
    assert len(together) == lanes
    assert isinstance(each, Lanes)


@pytest.mark.parametrize(
    ("threads", "device", "world_size"), [(None, CPU, 1), (1, CPU, 2), (1, torch.device("cuda"), 1)]
)
def test_in_turn_where_lanes_are_not_asked_for_or_cannot_be(threads, device, world_size):
    assert open_lanes(threads, device, world_size) is in_turn
