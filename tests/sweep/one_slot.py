"""A driver, the real dispatcher and one slot without Ray and without training, in the order in which they act."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from msd_sweeps.records.trial_record import EpochResult
from msd_sweeps.space.designs import Sweep
from msd_sweeps.sweep import tune
from msd_sweeps.sweep.dispatcher import Dispatcher
from msd_sweeps.sweep.job import Job
from msd_sweeps.sweep.tune import Driver
from tests.sweep.life import Life


class Called:
    """An actor's handle: its methods run at once. Where `ray.get` gives back what it is given, nothing else differs."""

    def __init__(self, actor: Any, loop: asyncio.AbstractEventLoop):
        self._actor, self._loop = actor, loop

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._actor, name)
        return SimpleNamespace(remote=lambda *arguments: self._loop.run_until_complete(method(*arguments)))


class OneSlot:
    """A sweep on one slot, from what the ledger holds."""

    def __init__(self, sweep: Sweep, folder: Path, records: list[dict], pack: int, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(tune.ray, "get", lambda value: value)
        self.life = Life(sweep, folder)
        self.life.records = list(records)
        self.life.resume()
        self.loop = asyncio.new_event_loop()
        self.dispatcher = Called(Dispatcher(pack), self.loop)
        capacity = SimpleNamespace(pack=pack, seats=lambda and_ahead: pack * (1 + and_ahead))
        self.driver = Driver(self.life.queue.run, self.life.queue, self.dispatcher, None, capacity)  # type: ignore[arg-type]
        self.live: dict[str, Job] = {}
        self.epochs: dict[str, int] = {}
        """Whole epochs behind the students in the slot."""
        self.diverges: set[int] = set()
        """Numbers of trials that diverge in their second epoch."""

    def run(self, rounds: int = 10_000) -> list[dict]:
        """So many epochs of the slot, or all that there are; the records of the ledger."""
        self.dispatcher.enter.remote(0)
        stream = None
        for _ in range(rounds):
            self.driver.advance()
            if self.driver.is_done:
                break
            orders = self.dispatcher.orders.remote(0, stream, list(self.live), 0.01)
            for trial in orders.drop:
                del self.live[trial]
            for job in orders.admit:
                stream, self.live[job.trial], self.epochs[job.trial] = job.stream, job, job.reported
            first = min(self.epochs[trial] for trial in self.live)
            results = [self._learn(trial) for trial in list(self.live) if self.epochs[trial] == first]
            self.dispatcher.report.remote(0, results)
        self.loop.close()
        return self.life.records

    def _learn(self, name: str) -> EpochResult:
        trial = self.life.queue.trials[name]
        self.epochs[name] += 1
        epoch, is_last = self.epochs[name], self.epochs[name] == trial.config["recipe"]["epochs"]
        is_lost = trial.number in self.diverges and epoch == 2
        if is_last or is_lost:
            del self.live[name]
        if is_lost:
            return EpochResult(name, "diverged", 1, 0.0, {}, "nan")
        return EpochResult(name, "finished" if is_last else "running", epoch, 1.0, invented(trial.config, epoch))


def invented(config: dict[str, Any], epoch: int) -> dict[str, float]:
    """Scores with an optimum, that only the configuration and the epoch decide."""
    weight, rate = config["method"].get("sample_weight", 1.0), config["recipe"]["lr"]
    score = 90 - abs(weight - 1.3) * 20 - abs(rate - 0.02) * 300 + epoch
    return {"val_top1": score, "test_top1": score}
