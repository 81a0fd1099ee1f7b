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
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from msd_sweeps.distill import checkpoint
from msd_sweeps.records.object_store import StoreError, place
from msd_sweeps.records.trial_record import EpochResult
from msd_sweeps.sweep.job import MOST_ATTEMPTS, Job, Submission


class Orders(NamedTuple):
    """What a slot does before its next epoch."""

    admit: list[Job]
    """Trials that take a seat."""
    drop: list[str]
    """Ids of the trials that leave."""
    position: int
    """The epoch of the stream that a slot without students begins with."""
    close: bool
    """Whether the slot ends."""


class Dispatcher:
    """Runs as one asynchronous Ray actor; Tune's trials call it from one side, the slots' workers from the other."""

    def __init__(self, pack: int, quiet_seconds: float = 0.25):
        """pack: students of a slot. quiet_seconds: an empty slot starts when no trial has come for so long."""
        self.pack, self.quiet_seconds = pack, quiet_seconds
        self.waiting: list[Job] = []
        self.seated: dict[int, dict[str, Job]] = {}
        self.lost: dict[int, Any] = {}
        """Slots whose workers have died and may come back, each with the handle of its controller."""
        self.dropped: set[tuple[int, str]] = set()
        """Slots, and the trials that leave them at their next epoch boundary."""
        self.results: defaultdict[Submission, asyncio.Queue[EpochResult]] = defaultdict(asyncio.Queue)
        self._submissions: dict[str, int] = {}
        """The newest submission of each trial."""
        self.changed = asyncio.Condition()
        self.closed = False
        self.failure: str | None = None

    # --- the trials' side

    async def submit(self, job: Job) -> None:
        """Let a trial wait for a seat; an earlier submission of it that still runs is dropped."""
        async with self.changed:
            self._let_go(job.trial)
            self._submissions[job.trial] = job.submission
            if self.failure is not None:
                self._fail(job, self.failure)
            else:
                self.waiting.append(job)
            self.changed.notify_all()

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
        async with self.changed:
            self.results.pop((trial, submission), None)
            if self._submissions.get(trial) == submission:
                self._let_go(trial)
            self.changed.notify_all()

    async def close(self) -> list[Any]:
        """End the slots when they next ask. Returns the controllers of lost slots, which wait for a host instead."""
        async with self.changed:
            self.closed = True
            self.changed.notify_all()
            return list(self.lost.values())

    # --- the slots' side

    async def enter(self, slot: int) -> None:
        """A slot's workers have started, or started again; the trials that they had go on from their checkpoints."""
        async with self.changed:
            self._requeue(slot)
            self.lost.pop(slot, None)
            self.seated[slot] = {}
            self.changed.notify_all()

    async def vacate(self, slot: int, controller: Any) -> None:
        """A slot's workers have died. Any slot may take their trials, as their host may never come back.

        controller: the handle of the actor that starts the workers again.
        """
        async with self.changed:
            self._requeue(slot)
            self.lost[slot] = controller
            self.changed.notify_all()

    async def leave(self, slot: int, failure: str | None) -> None:
        """A slot has ended for good: the others take its trials over; without others the trials fail."""
        async with self.changed:
            self._requeue(slot)
            self.lost.pop(slot, None)
            if failure is not None and not self.seated and not self.lost:
                self.failure = failure
                for job in self.waiting:
                    self._fail(job, failure)
                self.waiting.clear()
            self.changed.notify_all()

    async def orders(self, slot: int, stream: str | None, position: int, live: list[str], timeout: float) -> Orders:
        """What `slot` does next; a slot without students waits up to `timeout` seconds for some.

        stream, position, live: what the slot reads, where, and its trials. Workers that count as dead and ask all the
        same are ended.
        """
        async with self.changed:
            seats = self.seated.get(slot)
            if seats is None:
                return Orders([], live, position, True)
            drop = [trial for trial in live if (slot, trial) in self.dropped]
            for trial in drop:
                self.dropped.discard((slot, trial))
                seats.pop(trial, None)
            staying = len(live) - len(drop)
            if self.closed:
                return Orders([], drop, position, True)
            if not staying:
                await self._wait_for_trials(timeout)
                if self.closed or self.seated.get(slot) is not seats:
                    return Orders([], drop, position, True)
                if self.waiting:
                    stream = self.waiting[0].stream
                    position = _best_position([job for job in self.waiting if job.stream == stream])
            admitted: list[Job] = []
            for job in list(self.waiting):
                fits = job.stream == stream and (job.positions is None or position in job.positions)
                if fits and staying + len(admitted) < self.pack:
                    self.waiting.remove(job)
                    seats[job.trial] = job
                    admitted.append(job)
            return Orders(admitted, drop, position, False)

    async def give_up(self, slot: int, reason: str) -> None:
        """A slot cannot go on, and nor could others: every trial is interrupted and the slots end."""
        async with self.changed:
            jobs = [*self.waiting, *(job for jobs in self.seated.values() for job in jobs.values())]
            self.waiting.clear()
            self.seated = {seated: {} for seated in self.seated}
            for job in jobs:
                self._fail(job, reason, "interrupted")
            self.closed = True
            self.changed.notify_all()

    async def report(self, slot: int, results: list[EpochResult]) -> None:
        """Pass results on; an epoch that was reported before is left out."""
        async with self.changed:
            seats = self.seated.get(slot, {})
            for result in results:
                job = seats.get(result.trial)
                if job is None:
                    continue
                is_dropped = (slot, result.trial) in self.dropped
                if result.state != "running":
                    del seats[result.trial]
                    self.dropped.discard((slot, result.trial))
                elif result.epoch <= job.reported:
                    continue
                if is_dropped:
                    continue
                if result.trial in seats:
                    seats[result.trial] = replace(job, reported=result.epoch)
                of_job = replace(result, slot=slot, attempt=job.attempt, afresh=job.afresh)
                self.results[job.trial, job.submission].put_nowait(of_job)

    # --- inside

    async def _wait_for_trials(self, timeout: float) -> None:
        """Until a trial waits; then, for a moment, as long as more keep coming, so that they start in lockstep."""
        arrived = self.changed.wait_for(lambda: self.closed or self.waiting)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(arrived, timeout)
            while not self.closed and (count := self._count_together()) < self.pack:
                more = partial(lambda known: self.closed or self._count_together() != known, count)
                await asyncio.wait_for(self.changed.wait_for(more), self.quiet_seconds)

    def _count_together(self) -> int:
        """How many trials wait for the stream that comes next."""
        return sum(job.stream == self.waiting[0].stream for job in self.waiting)

    def _let_go(self, trial: str) -> None:
        self.waiting = [job for job in self.waiting if job.trial != trial]
        self.dropped |= {(slot, trial) for slot, jobs in self.seated.items() if trial in jobs}

    def _requeue(self, slot: int) -> None:
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
