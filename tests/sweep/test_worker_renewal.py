"""A worker whose CUDA capture failed ends in order, so that a fresh process goes on; without Ray and CUDA."""

import asyncio

import pytest
import torch

from msd_sweeps.distill import checkpoint
from msd_sweeps.distill.cohort import Cohort
from msd_sweeps.distill.graphs import Graphs
from msd_sweeps.sweep import worker
from msd_sweeps.sweep.dispatcher import Dispatcher
from msd_sweeps.sweep.job import Job
from msd_sweeps.sweep.worker import FreshProcess, Worker
from tests.distill.conftest import CPU, make_trial
from tests.distill.test_captured import SPLITS
from tests.distill.test_graphs import RECIPE, StandIn
from tests.sweep.life import NO_INPUTS
from tests.sweep.one_slot import Called

TRIALS = {trial.id: trial for trial in (make_trial(method={"name": "none"}, seed=n, recipe=RECIPE) for n in (1, 2))}


@pytest.mark.parametrize("is_broken", [True, False])
def test_a_worker_ends_after_a_failed_capture_when_its_epoch_is_saved_and_reported(is_broken, tmp_path, monkeypatch):
    recorder, loop = StandIn(), asyncio.new_event_loop()
    recorder.refuses, recorder.patience = RuntimeError if is_broken else None, 1

    def cohort(trial, job):
        return Cohort(trial, None, SPLITS, CPU, stepping=Graphs(recorder))

    monkeypatch.setattr(worker.ray, "get", lambda value: value)
    monkeypatch.setattr(worker.own_code, "trial_of", lambda config, code: TRIALS[config])
    dispatcher = Dispatcher(pack=2, max_failures=0)
    made = Worker(Called(dispatcher, loop), 0, torch.device("cpu"))
    monkeypatch.setattr(made, "_new_cohort", cohort)
    jobs = [Job(name, name, one.stream_key, str(tmp_path / name), NO_INPUTS) for name, one in TRIALS.items()]
    loop.run_until_complete(dispatcher.answer([], jobs, []))

    def replaced() -> None:
        """Ray Train starts the worker again."""
        loop.run_until_complete(dispatcher.vacate(0, "controller"))
        loop.run_until_complete(dispatcher.close())

    if not is_broken:
        monkeypatch.setattr(made, "_renew", lambda renew=made._renew: (renew(), replaced()))
        made.run()
        return
    with pytest.raises(FreshProcess):
        made.run()
    replaced()
    states = [result.state for one in dispatcher.rounds for result in one.results]
    assert sorted(states) == ["failed", "running"]
    (waiting,) = dispatcher.waiting
    assert (waiting.reported, waiting.deaths, waiting.attempt) == (1, 0, 2)
    assert checkpoint.newest(tmp_path / waiting.trial, 1).name == "epoch-000001.pt"
