"""The dispatcher: which slot trains which trial. A slot is a long-lived worker group that trains several at once.

- A trial is in one place: it waits, or it has a seat in one slot.
- A slot asks for orders before each epoch. It gets trials of the stream that it reads, up to `pack` of them; an empty
  slot turns to the stream of the trial that has waited longest.
- What a slot reports of one epoch is a round. The driver takes rounds whole, records them, and answers with the trials
  that begin and those that are stopped. A slot waits for the answer where a search decides something; otherwise it
  may be one round ahead.
- Where workers die, their trials wait again, in front of all others, and go on from their checkpoints.
- Trials that were twice in a slot whose workers died, without an epoch in between, are suspects. One after another they
  get a slot to themselves until they make progress, so only the one at fault is given up.
- Every submission gets each epoch's result once, in order, and then one end, unless it is dropped.
"""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from msd_sweeps.records.trial_record import EpochResult
from msd_sweeps.sweep.job import Job, Orders, Round


class Dispatcher:
    """Runs as one asynchronous Ray actor; Tune's trials call it from one side, the slots' workers from the other.

    A method that awaits nothing is not interrupted by others, so it needs no lock.
    """

    def __init__(self, pack: int, max_failures: int = 3):
        """pack: students of a slot. max_failures: deaths of its workers, without progress, that a trial survives."""
        self.pack, self.max_failures = pack, max_failures
        self.waiting: list[Job] = []
        self.seated: dict[int, dict[str, Job]] = {}
        self.lost: dict[int, Any] = {}
        """Slots whose workers have died and may come back, each with the handle of its controller."""
        self.dropped: set[tuple[int, str]] = set()
        """Slots, and the trials that leave them at their next epoch boundary."""
        self.results: defaultdict[tuple[str, int], asyncio.Queue[EpochResult]] = defaultdict(asyncio.Queue)
        """By the id of a trial and the number of its submission."""
        self.rounds: list[Round] = []
        """Those that the driver has not taken."""
        self.unanswered: dict[int, tuple[int, bool]] = {}
        """By the numbers of rounds: the slot, and whether it waits for the answer."""
        self._count = 0
        self._submissions: dict[str, int] = {}
        """The newest submission of each trial."""
        self._progressed: set[int] = set()
        self._changed = asyncio.Event()
        self.closed = False
        self.failure: str | None = None

    async def take(self) -> tuple[list[Round], set[str]]:
        """The rounds that the driver has not seen, which it answers, and the trials that wait for a seat."""
        rounds, self.rounds = self.rounds, []
        return rounds, {job.trial for job in self.waiting}

    async def answer(self, numbers: list[int], jobs: list[Job], stopped: list[Job]) -> None:
        """Go on after some rounds: `jobs` begin together, `stopped` have lost. What waited for this goes on."""
        for job in stopped:
            self._let_go(job.trial)
            self._end(job, "stopped", "")
        for job in jobs:
            self._submit(job)
        for number in numbers:
            self.unanswered.pop(number, None)
        self._changed.set()

    def _submit(self, job: Job) -> None:
        """Let a trial wait for a seat; an earlier submission of it that still runs is dropped."""
        self._let_go(job.trial)
        self._submissions[job.trial] = job.submission
        if self.failure is None:
            self.waiting.append(job)
        else:
            self._fail(job, self.failure)

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

    async def enter(self, slot: int, is_death: bool = True) -> None:
        """A slot's workers have started, or started again; the trials that they had go on from their checkpoints.

        is_death: False where the workers are about to be replaced in order.
        """
        self._requeue(slot, is_death)
        self.seated[slot] = {}

    async def vacate(self, slot: int, controller: Any, is_death: bool = True) -> None:
        """A slot's workers have died. Any slot may take their trials, as their host may never come back.

        controller: the handle of the actor that starts the workers again. is_death: False where a node was lost, which
        is no fault of the trials.
        """
        self._requeue(slot, is_death)
        self.lost[slot] = controller

    async def has_progressed(self, slot: int) -> bool:
        """Whether a slot has reported anything since it was asked last: then its workers may die as often again."""
        self._progressed, before = self._progressed - {slot}, self._progressed
        return slot in before and not self.closed

    async def leave(self, slot: int, failure: str | None) -> None:
        """A slot has ended for good: the others take its trials over; without others the trials fail."""
        self._requeue(slot, False)
        if failure is not None and not self.seated and not self.lost:
            self.failure = failure
            for job in self.waiting:
                self._fail(job, failure)
            self.waiting.clear()

    async def orders(self, slot: int, stream: str | None, live: list[str], timeout: float) -> Orders:
        """What `slot` does next; a slot without students waits up to `timeout` seconds for some.

        stream, live: what the slot reads, and its trials. Workers that count as dead and ask all the same are ended.
        """
        seats = self.seated.get(slot)
        if seats is None:
            return Orders([], live, True)
        await self._until(lambda: self.closed or self.seated.get(slot) is not seats or self._may_go_on(slot))
        drop = [trial for trial in live if (slot, trial) in self.dropped]
        for trial in drop:
            self.dropped.discard((slot, trial))
            seats.pop(trial, None)
        free = self.pack - len(live) + len(drop)
        if free == self.pack and not self.closed:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._until(lambda: bool(self.closed or self.waiting)), timeout)
            stream = self.waiting[0].stream if self.waiting else stream
        if self.closed or self.seated.get(slot) is not seats:
            return Orders([], drop, True)
        admitted = self._next_of(stream, free, seats)
        for job in admitted:
            self.waiting.remove(job)
            seats[job.trial] = job
        return Orders(admitted, drop, False)

    def _next_of(self, stream: str | None, free: int, seats: dict[str, Job]) -> list[Job]:
        """The trials of a stream that take the free seats of a slot."""
        if any(job.is_alone for job in seats.values()):
            return []
        # Trials from the beginning take passes of the teacher for themselves, so several begin together.
        may_begin = free >= fewest_together(self.pack)
        fitting = [job for job in self.waiting if job.stream == stream and (job.reported or may_begin)]
        if not seats and fitting and fitting[0].is_alone:
            return fitting[:1]
        return [job for job in fitting if not job.is_alone][:free]

    async def give_up(self, slot: int, reason: str) -> None:
        """A slot cannot go on, and nor could others: every trial is interrupted and the slots end."""
        jobs = [*self.waiting, *(job for jobs in self.seated.values() for job in jobs.values())]
        self.waiting.clear()
        self.seated = {seated: {} for seated in self.seated}
        for job in jobs:
            self._fail(job, reason, "interrupted")
        await self.close()

    async def report(self, slot: int, results: list[EpochResult]) -> None:
        """Pass a round on; an epoch that was reported before is left out."""
        seats, passed, waits = self.seated.get(slot, {}), [], False
        for result in results:
            job, is_dropped = seats.get(result.trial), (slot, result.trial) in self.dropped
            if job is None or (result.state == "running" and result.epoch <= job.reported):
                continue
            if result.state == "running":
                seats[result.trial] = replace(job, reported=result.epoch, deaths=0, is_suspect=False)
                if job.is_suspect and not is_dropped:
                    self._make_room(slot, seats)
            else:
                del seats[result.trial]
                self.dropped.discard((slot, result.trial))
            if not is_dropped:
                passed.append(replace(result, slot=slot, attempt=job.attempt))
                waits |= job.decides(result)
                self.results[job.trial, job.submission].put_nowait(passed[-1])
        if passed:
            self._progressed.add(slot)
            self.unanswered[self._new_round(passed)] = slot, waits

    def _new_round(self, results: list[EpochResult]) -> int:
        self._count += 1
        self.rounds.append(Round(self._count, results))
        return self._count

    def _may_go_on(self, slot: int) -> bool:
        waits = [waits for of_slot, waits in self.unanswered.values() if of_slot == slot]
        return not any(waits) and len(waits) < 2

    async def _until(self, is_met: Callable[[], bool]) -> None:
        while not is_met():
            self._changed.clear()
            await self._changed.wait()

    def _make_room(self, slot: int, seats: dict[str, Job]) -> None:
        """A trial that was a suspect leaves its slot to the next suspect, and goes on after the last of them."""
        places = [place for place, job in enumerate(self.waiting, 1) if job.is_suspect]
        if places:
            ((trial, job),) = seats.items()
            self.waiting.insert(places[-1], job)
            self.dropped.add((slot, trial))
            seats.clear()

    def _let_go(self, trial: str) -> None:
        self.waiting = [job for job in self.waiting if job.trial != trial]
        self.dropped |= {(slot, trial) for slot, jobs in self.seated.items() if trial in jobs}

    def _requeue(self, slot: int, is_death: bool) -> None:
        """A slot has no workers now: those of its trials that may go on wait again."""
        again, left = [], self.seated.pop(slot, {})
        for trial, job in left.items():
            if (slot, trial) in self.dropped:
                continue
            deaths = job.deaths + is_death
            if deaths > self.max_failures and len(left) == 1:
                self._fail(job, f"its workers died {deaths} times without progress")
                continue
            is_new = not job.is_suspect and deaths >= min(2, self.max_failures + 1)
            counted = replace(job, deaths=deaths, suspicions=job.suspicions + is_new)
            again.append(replace(counted, attempt=job.attempt + 1, is_suspect=job.is_suspect or is_new))
        self.dropped = {(of_slot, trial) for of_slot, trial in self.dropped if of_slot != slot}
        self.waiting[:0] = again
        self.lost.pop(slot, None)
        self._changed.set()

    def _fail(self, job: Job, reason: str, state: str = "failed") -> None:
        self._new_round([self._end(job, state, reason)])

    def _end(self, job: Job, state: str, reason: str) -> EpochResult:
        """Let a submission end that no worker reports any more."""
        result = EpochResult(job.trial, state, job.reported, 0.0, {}, reason, attempt=job.attempt)
        self.results[job.trial, job.submission].put_nowait(result)
        return result


def fewest_together(pack: int) -> int:
    """How many seats of a slot have to be free before new trials begin beside those that run."""
    return max(1, pack // 4)
