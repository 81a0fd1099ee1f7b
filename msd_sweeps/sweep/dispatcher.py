"""Packed execution: slots are long-lived worker groups, and a dispatcher decides which slot runs which trial."""

import asyncio
from collections import defaultdict
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from msd_sweeps.distill import checkpoint
from msd_sweeps.records.object_store import StoreError, place
from msd_sweeps.records.trial_record import EpochResult

Job = dict[str, Any]
"""What a slot needs to run a trial: trial (its id), config, key (its stream), weights (the teacher's file), data_sha256
and weights_sha256 (what its files are where the sweep was prepared), folder (its checkpoints), reported (epochs that
the driver has seen), launch (a number that grows with each that the driver makes of the trial), attempt (the same, and
one more whenever its workers die), and positions (stream positions at which it can join, newest first; None for a
fresh trial, which can join anywhere). weights and folder are paths or URIs."""
Launch = tuple[str, int]
"""A trial, and which of its launches."""

MOST_ATTEMPTS = 3
"""A trial whose workers die so often is given up."""
_QUIET_SECONDS = 0.25


class Orders(NamedTuple):
    """What a slot does before its next epoch. `position` counts for a slot without students."""

    admit: list[Job]
    drop: list[str]
    position: int
    close: bool


class Dispatcher:
    """Stands between Tune's trials and the slots; runs as one asynchronous actor without a CPU of its own."""

    def __init__(self, pack: int):
        self.pack = pack
        self.waiting: list[Job] = []
        self.seated: dict[int, dict[str, Job]] = {}
        self.away: dict[int, Any] = {}
        """Slots whose workers have died and may come back, each with the handle of its controller."""
        self.dropped: set[tuple[int, str]] = set()
        """Slots and the trials that they are told to let go at their next epoch boundary."""
        self.results: defaultdict[Launch, asyncio.Queue[EpochResult]] = defaultdict(asyncio.Queue)
        self._launches: dict[str, int] = {}
        """The newest launch of each trial."""
        self.changed = asyncio.Condition()
        self.closed = False
        self.failure: str | None = None

    # --- the trials' side

    async def submit(self, job: Job) -> None:
        """Queue a trial; a launch of it that still runs is let go."""
        async with self.changed:
            trial = job["trial"]
            self._let_go(trial)
            self._launches[trial] = job["launch"]
            if self.failure is not None:
                self._fail(job, self.failure)
            else:
                self.waiting.append(job)
            self.changed.notify_all()

    async def next_result(self, trial: str, launch: int, timeout: float) -> EpochResult | None:
        """The next result of a launch, or None when there is none in `timeout` seconds."""
        try:
            result = await asyncio.wait_for(self.results[trial, launch].get(), timeout)
        except TimeoutError:
            return None
        if result.state != "running":
            self.results.pop((trial, launch), None)
        return result

    async def drop(self, trial: str, launch: int) -> None:
        """Take a launch out of the queue, or out of its slot at the next epoch boundary.

        Calls reach an asynchronous actor in any order: a later launch that is there already stays.
        """
        async with self.changed:
            self.results.pop((trial, launch), None)
            if self._launches.get(trial) == launch:
                self._let_go(trial)
            self.changed.notify_all()

    async def close(self) -> list[Any]:
        """Send the slots home as soon as they ask; those that wait for a host cannot: their controllers are given."""
        async with self.changed:
            self.closed = True
            self.changed.notify_all()
            return list(self.away.values())

    # --- the slots' side

    async def enter(self, slot: int) -> None:
        """A slot's workers have started, or started again: what they ran goes on from its checkpoints."""
        async with self.changed:
            self._requeue(slot)
            self.away.pop(slot, None)
            self.seated[slot] = {}
            self.changed.notify_all()

    async def vacate(self, slot: int, controller: Any) -> None:
        """A slot's workers have died: what they ran goes to whoever asks first, not to them alone, for their host may
        never come back. controller: the handle of who waits for it."""
        async with self.changed:
            self._requeue(slot)
            self.away[slot] = controller
            self.changed.notify_all()

    async def leave(self, slot: int, failure: str | None) -> None:
        """A slot has ended; after a failure the others take over, and without others the trials fail."""
        async with self.changed:
            self._requeue(slot)
            self.away.pop(slot, None)
            if failure is not None and not self.seated and not self.away:
                self.failure = failure
                for job in self.waiting:
                    self._fail(job, failure)
                self.waiting.clear()
            self.changed.notify_all()

    async def orders(self, slot: int, key: str | None, position: int, live: list[str], timeout: float) -> Orders:
        """What `slot` does next; one without students waits up to `timeout` seconds for some.

        Workers that are taken for dead, and ask all the same, are sent home.
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
                    key = self.waiting[0]["key"]
                    position = _best_position([job for job in self.waiting if job["key"] == key])
            admitted: list[Job] = []
            for job in list(self.waiting):
                fits = job["key"] == key and (job["positions"] is None or position in job["positions"])
                if fits and staying + len(admitted) < self.pack:
                    self.waiting.remove(job)
                    seats[job["trial"]] = job
                    admitted.append(dict(job))
            return Orders(admitted, drop, position, False)

    async def give_up(self, slot: int, reason: str) -> None:
        """A slot cannot go on, and nor could others: every trial is broken off and the slots go home."""
        async with self.changed:
            jobs = [*self.waiting, *(job for jobs in self.seated.values() for job in jobs.values())]
            self.waiting.clear()
            self.seated = {seated: {} for seated in self.seated}
            for job in jobs:
                self._fail(job, reason, "interrupted")
            self.closed = True
            self.changed.notify_all()

    async def report(self, slot: int, results: list[EpochResult]) -> None:
        """Pass results on; an epoch that was reported before is passed over."""
        async with self.changed:
            for result in results:
                trial = result.trial
                job = self.seated.get(slot, {}).get(trial)
                if job is None:
                    continue
                is_dropped = (slot, trial) in self.dropped
                if result.state != "running":
                    del self.seated[slot][trial]
                    self.dropped.discard((slot, trial))
                elif result.epoch <= job["reported"]:
                    continue
                if is_dropped:
                    continue
                job["reported"] = max(job["reported"], result.epoch)
                of_job = replace(result, slot=slot, attempt=job["attempt"], afresh=job.get("afresh", False))
                self.results[trial, job["launch"]].put_nowait(of_job)

    # --- inside

    async def _wait_for_trials(self, timeout: float) -> None:
        """Until a trial waits; then, for a moment, as long as more keep coming, so that they start in lockstep."""

        def arrived() -> bool:
            return self.closed or bool(self.waiting)

        def together() -> int:
            """How many wait of the stream that comes next."""
            return sum(job["key"] == self.waiting[0]["key"] for job in self.waiting)

        def is_another(known: int) -> bool:
            return self.closed or together() != known

        try:
            await asyncio.wait_for(self.changed.wait_for(arrived), timeout)
            while not self.closed and (waiting := together()) < self.pack:
                await asyncio.wait_for(self.changed.wait_for(partial(is_another, waiting)), _QUIET_SECONDS)
        except TimeoutError:
            return

    def _let_go(self, trial: str) -> None:
        self.waiting = [job for job in self.waiting if job["trial"] != trial]
        self.dropped |= {(slot, trial) for slot, jobs in self.seated.items() if trial in jobs}

    def _requeue(self, slot: int) -> None:
        jobs = self.seated.pop(slot, {})
        again = []
        for trial, job in jobs.items():
            if (slot, trial) in self.dropped:
                self.dropped.discard((slot, trial))
                continue
            job["attempt"] += 1
            if job["attempt"] > MOST_ATTEMPTS:
                self._fail(job, f"its workers died {MOST_ATTEMPTS} times")
                continue
            try:
                found = checkpoint.positions(place(job["folder"]))
            except StoreError as error:
                self._fail(job, str(error), "interrupted")
                continue
            # Without a checkpoint it starts afresh where it joined, for the same numbers.
            job["positions"] = list(found) or job["positions"]
            job["afresh"] = not found and job["reported"] > 0
            again.append(job)
        self.waiting[:0] = again

    def _fail(self, job: Job, reason: str, state: str = "failed") -> None:
        attempt = min(job["attempt"], MOST_ATTEMPTS)
        result = EpochResult(job["trial"], state, job["reported"], 0, 0.0, {}, reason, attempt=attempt)
        self.results[job["trial"], job["launch"]].put_nowait(result)


def _best_position(jobs: list[Job]) -> int:
    """Where an empty cohort starts so that most of the waiting trials can go on; 0 when all are fresh."""
    candidates = [position for job in jobs for position in job["positions"] or ()]
    if jobs[0]["positions"] is None:
        return 0
    return max(jobs[0]["positions"], key=lambda position: (candidates.count(position), position))
