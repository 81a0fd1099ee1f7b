"""The dispatcher: which slot trains which trial. A slot is a long-lived worker group that trains several at once.

- A trial is in one place: it waits, or it has a seat in one slot.
- A slot asks for orders before each epoch. It gets trials of the stream that it reads, up to `pack` of them; an empty
  slot turns to the stream of the trial that has waited longest.
- Where workers die, their trials wait again, in front of all others, and go on from their checkpoints.
- Every submission gets each epoch's result once, in order, and then one end, unless it is dropped.
"""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

from msd_sweeps.distill import checkpoint
from msd_sweeps.records.fingerprint import Fingerprint
from msd_sweeps.records.object_store import StoreError, place
from msd_sweeps.records.trial_record import EpochResult
from msd_sweeps.space.own_code import Source

MOST_ATTEMPTS = 3
"""A trial whose workers, or whose Tune actor, die this often has failed."""


class Inputs(NamedTuple):
    """What a trial reads: data, and a teacher's weights by path or URI. Every worker has to find the same bytes."""

    data_sha256: str
    weights: str
    weights_sha256: str
    fingerprint: Fingerprint = {}
    code: tuple[Source, ...] = ()
    """The modules of one's own."""


@dataclass(frozen=True)
class Job:
    """All that a worker needs to train a trial, or to go on with it."""

    trial: str
    """The trial's id."""
    config: str
    """The trial's configuration as JSON, with absolute paths."""
    stream: str
    """Trials of the same stream can share a cohort."""
    folder: str
    """The trial's checkpoints, a path or a URI."""
    inputs: Inputs
    keep: str = ""
    """Where the weights are kept when it has finished, a path or a URI; empty: nowhere."""
    submission: int = 1
    """The attempt with which the driver submitted the trial; a resubmitted trial has a larger number."""
    attempt: int = 1
    """The submission's number, and one more for each time that the workers died."""
    reported: int = 0
    """Epochs that the driver knows."""
    positions: tuple[int, ...] | None = None
    """Positions of the stream at which the trial can join, newest first; None: anywhere, for a new trial."""
    afresh: bool = False
    """Whether this attempt begins without a checkpoint although epochs were reported."""


class Orders(NamedTuple):
    """What a slot does before its next epoch: it drops trials, admits jobs, or ends."""

    admit: list[Job]
    drop: list[str]
    position: int
    """The epoch of the stream that a slot without students begins with."""
    close: bool


class Dispatcher:
    """Runs as one asynchronous Ray actor; Tune's trials call it from one side, the slots' workers from the other.

    A method that awaits nothing is not interrupted by others, so it needs no lock.
    """

    def __init__(self, pack: int, quiet_seconds: float = 0.25):
        """pack: students of a slot. quiet_seconds: an empty slot starts when no trial has come for so long."""
        self.pack, self.quiet_seconds = pack, quiet_seconds
        self.waiting: list[Job] = []
        self.seated: dict[int, dict[str, Job]] = {}
        self.lost: dict[int, Any] = {}
        """Slots whose workers have died and may come back, each with the handle of its controller."""
        self.dropped: set[tuple[int, str]] = set()
        """Slots, and the trials that leave them at their next epoch boundary."""
        self.results: defaultdict[tuple[str, int], asyncio.Queue[EpochResult]] = defaultdict(asyncio.Queue)
        """By the id of a trial and the number of its submission."""
        self._submissions: dict[str, int] = {}
        """The newest submission of each trial."""
        self._changed = asyncio.Event()
        self.closed = False
        self.failure: str | None = None

    async def submit(self, job: Job) -> None:
        """Let a trial wait for a seat; an earlier submission of it that still runs is dropped."""
        self._let_go(job.trial)
        self._submissions[job.trial] = job.submission
        if self.failure is None:
            self.waiting.append(job)
        else:
            self._fail(job, self.failure)
        self._changed.set()

    async def next_result(self, trial: str, submission: int, timeout: float) -> EpochResult | None:
        """The next result of a submission, or None when there is none in `timeout` seconds."""
        try:
            result = await asyncio.wait_for(self.results[trial, submission].get(), timeout)
        except TimeoutError:
            return None
        if result.state != "running":
            self.results.pop((trial, submission), None)
        return result

    async def drop(self, trial: str, submission: int) -> None:
        """Take a submission out of those that wait, or out of its slot at the next epoch boundary.

        Calls reach an asynchronous actor in any order: a later submission that is there already stays.
        """
        self.results.pop((trial, submission), None)
        if self._submissions.get(trial) == submission:
            self._let_go(trial)
        self._changed.set()

    async def close(self) -> list[Any]:
        """End the slots when they next ask. Returns the controllers of lost slots, which wait for a host instead."""
        self.closed = True
        self._changed.set()
        return list(self.lost.values())

    async def enter(self, slot: int) -> None:
        """A slot's workers have started, or started again; the trials that they had go on from their checkpoints."""
        self._requeue(slot)
        self.seated[slot] = {}

    async def vacate(self, slot: int, controller: Any) -> None:
        """A slot's workers have died. Any slot may take their trials, as their host may never come back.

        controller: the handle of the actor that starts the workers again.
        """
        self._requeue(slot)
        self.lost[slot] = controller

    async def leave(self, slot: int, failure: str | None) -> None:
        """A slot has ended for good: the others take its trials over; without others the trials fail."""
        self._requeue(slot)
        if failure is not None and not self.seated and not self.lost:
            self.failure = failure
            for job in self.waiting:
                self._fail(job, failure)
            self.waiting.clear()

    async def orders(self, slot: int, stream: str | None, position: int, live: list[str], timeout: float) -> Orders:
        """What `slot` does next; a slot without students waits up to `timeout` seconds for some.

        stream, position, live: what the slot reads, where, and its trials. Workers that count as dead and ask all the
        same are ended.
        """
        seats = self.seated.get(slot)
        if seats is None:
            return Orders([], live, position, True)
        drop = [trial for trial in live if (slot, trial) in self.dropped]
        for trial in drop:
            self.dropped.discard((slot, trial))
            seats.pop(trial, None)
        free = self.pack - len(live) + len(drop)
        if free == self.pack and not self.closed:
            await self._wait_for_trials(timeout)
            if self.waiting:
                stream = self.waiting[0].stream
                position = _best_position([job for job in self.waiting if job.stream == stream])
        if self.closed or self.seated.get(slot) is not seats:
            return Orders([], drop, position, True)
        fitting = [
            job for job in self.waiting if job.stream == stream and (job.positions is None or position in job.positions)
        ]
        admitted = fitting[:free]
        for job in admitted:
            self.waiting.remove(job)
            seats[job.trial] = job
        return Orders(admitted, drop, position, False)

    async def give_up(self, slot: int, reason: str) -> None:
        """A slot cannot go on, and nor could others: every trial is interrupted and the slots end."""
        jobs = [*self.waiting, *(job for jobs in self.seated.values() for job in jobs.values())]
        self.waiting.clear()
        self.seated = {seated: {} for seated in self.seated}
        for job in jobs:
            self._fail(job, reason, "interrupted")
        await self.close()

    async def report(self, slot: int, results: list[EpochResult]) -> None:
        """Pass results on; an epoch that was reported before is left out."""
        seats = self.seated.get(slot, {})
        for result in results:
            job, is_dropped = seats.get(result.trial), (slot, result.trial) in self.dropped
            if job is None or (result.state == "running" and result.epoch <= job.reported):
                continue
            if result.state == "running":
                seats[result.trial] = replace(job, reported=result.epoch)
            else:
                del seats[result.trial]
                self.dropped.discard((slot, result.trial))
            if not is_dropped:
                of_job = replace(result, slot=slot, attempt=job.attempt, afresh=job.afresh)
                self.results[job.trial, job.submission].put_nowait(of_job)

    async def _wait_for_trials(self, timeout: float) -> None:
        """Until a trial waits; then, for a moment, as long as more keep coming, so that they start in lockstep."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._until(lambda: bool(self.closed or self.waiting)), timeout)
            while not self.closed and (count := self._count_together()) < self.pack:
                more = partial(lambda known: self.closed or self._count_together() != known, count)
                await asyncio.wait_for(self._until(more), self.quiet_seconds)

    async def _until(self, is_met: Callable[[], bool]) -> None:
        while not is_met():
            self._changed.clear()
            await self._changed.wait()

    def _count_together(self) -> int:
        """How many trials wait for the stream that comes next."""
        return sum(job.stream == self.waiting[0].stream for job in self.waiting)

    def _let_go(self, trial: str) -> None:
        self.waiting = [job for job in self.waiting if job.trial != trial]
        self.dropped |= {(slot, trial) for slot, jobs in self.seated.items() if trial in jobs}

    def _requeue(self, slot: int) -> None:
        """A slot has no workers now: those of its trials that may go on wait again."""
        again = []
        for trial, job in self.seated.pop(slot, {}).items():
            if (slot, trial) in self.dropped:
                self.dropped.discard((slot, trial))
                continue
            if job.attempt >= MOST_ATTEMPTS:
                self._fail(job, f"its workers died {MOST_ATTEMPTS} times")
                continue
            job = replace(job, attempt=job.attempt + 1)
            try:
                found = tuple(checkpoint.positions(place(job.folder)))
            except StoreError as error:
                self._fail(job, str(error), "interrupted")
                continue
            # Without a checkpoint it begins again where it joined the stream, for the same numbers.
            again.append(replace(job, positions=found or job.positions, afresh=not found and job.reported > 0))
        self.waiting[:0] = again
        self.lost.pop(slot, None)
        self._changed.set()

    def _fail(self, job: Job, reason: str, state: str = "failed") -> None:
        result = EpochResult(job.trial, state, job.reported, 0, 0.0, {}, reason, attempt=job.attempt)
        self.results[job.trial, job.submission].put_nowait(result)


def _best_position(jobs: list[Job]) -> int:
    """Where an empty slot begins so that most of the waiting trials can go on; 0 for a new trial."""
    first = jobs[0].positions
    if first is None:
        return 0
    candidates = [position for job in jobs for position in job.positions or ()]
    return max(first, key=lambda position: (candidates.count(position), position))
