"""A student that was broken off at any epoch goes on from its file with the same bits."""

import pytest
import torch

from msd_sweeps.distill import checkpoint
from tests.distill.conftest import make_trial

METHODS = {"msd": {"name": "msd", "scales": (1, 2), "projector": "none"}, "crd": {"name": "crd"}}


def outcome(cohort, trial) -> tuple[list[dict], dict]:
    student = cohort.students[trial.id]
    metrics = [{**one.metrics, "step_seconds": 0, "alone_seconds": 0} for results in cohort.epochs() for one in results]
    return metrics, student.network.state_dict()


@pytest.mark.parametrize("method", METHODS)
def test_interrupted_after_any_epoch_and_resumed(method, new_cohort, tmp_path):
    trial = make_trial(method=METHODS[method], seed=5)
    whole = new_cohort(trial)
    whole.admit(trial)
    expected, weights = outcome(whole, trial)
    for behind in range(1, trial.recipe.epochs):
        broken = new_cohort(trial)
        broken.admit(trial)
        for _ in range(behind):
            broken.run_epoch()
        student = broken.students[trial.id]
        path = checkpoint.save(tmp_path / str(behind), student.epoch, broken.position, student.state())
        broken.run_epoch()  # what comes after the file is lost
        resumed = new_cohort(trial)
        resumed.admit(trial, checkpoint.load(path), position=behind)
        metrics, same = outcome(resumed, trial)
        assert metrics == expected[behind:]
        assert all(torch.equal(same[name], tensor) for name, tensor in weights.items())
