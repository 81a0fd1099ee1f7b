"""Students side by side on a processor: each steps on few threads of its own, instead of one after another on all.

A small network's step has hundreds of short parallel loops. Threads that meet after each of them wait for each other,
and whoever else uses the machine makes all of them wait; students on lanes of their own meet once a batch.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

import torch

Item = TypeVar("Item")


class Each(Protocol):
    """Does some work for every student, or for every part of a batch."""

    def __call__(self, items: Sequence[Item], work: Callable[[Item], None]) -> Iterator[Exception | None]:
        """What went wrong with each, in their order."""
        ...


def in_turn(items: Sequence[Item], work: Callable[[Item], None]) -> Iterator[Exception | None]:
    """One after another; what became of one is told before the next begins."""
    return (_tried(work, item) for item in items)


class Lanes:
    """So many at a time, each on `threads` threads, whoever else is there: the number of threads decides how sums are
    rounded."""

    def __init__(self, count: int, threads: int):
        self._threads = threads
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="lane")

    def __call__(self, items: Sequence[Item], work: Callable[[Item], None]) -> Iterator[Exception | None]:
        threads = torch.get_num_threads()
        try:
            return iter(list(self._pool.map(lambda item: self._on_lane(work, item), items)))
        finally:
            # A part of what torch keeps of it, MKL's, is the whole process's.
            torch.set_num_threads(threads)

    def _on_lane(self, work: Callable[[Item], None], item: Item) -> Exception | None:
        torch.set_num_threads(self._threads)
        return _tried(work, item)


def _tried(work: Callable[[Item], None], item: Item) -> Exception | None:
    try:
        work(item)
    except Exception as error:
        return error
    return None


def open_lanes(threads_per_student: int | None, device: torch.device, world_size: int) -> Each:
    """Lanes on a processor for as many students as its threads are enough for; None gives each student all of them.

    A GPU has streams instead, and the reductions of data-parallel workers meet in one order only.
    """
    if threads_per_student is None or device.type != "cpu" or world_size > 1:
        return in_turn
    return Lanes(max(1, torch.get_num_threads() // threads_per_student), threads_per_student)
