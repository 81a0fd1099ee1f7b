"""Every method trains every CIFAR pair: as many students as methods, in one packed cohort a pair."""

import pytest
import torch

from msd_sweeps.distill import models
from msd_sweeps.distill.cohort import Cohort
from msd_sweeps.distill.data.loading import Images, Splits
from msd_sweeps.distill.models import fold_batch_norm
from msd_sweeps.space.load import load
from msd_sweeps.space.methods import METHODS
from msd_sweeps.space.trial import Trial, changed

PAIRS = load("pairs").space.parameters["pair"].choices
SHIPPED = load("pairs").space.parameters["method"].choices
OTHERS = set(METHODS) - {changes["method"]["name"] for changes in SHIPPED.values()}
"""Methods that are in the registry alone."""
STEPS, BATCH = 2, 3  # of two samples every correlation is 1 or -1


def random_splits() -> Splits:
    generator = torch.Generator().manual_seed(0)
    shape = (STEPS * BATCH, 3, 32, 32)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    part = Images(images, torch.arange(len(images)) * 16)
    return Splits(part, None, part.select(torch.arange(2)), (0.5,) * 3, (0.25,) * 3)


@pytest.fixture(scope="module")
def trials() -> dict[str, dict[str, Trial]]:
    """The trials of pairs.yaml by pair and method, cut short."""
    short = ["seeds=[0]", "recipe.epochs=1", f"recipe.batch_size={BATCH}", "recipe.milestones=[]"]
    found = {planned.label: planned.trial for planned in load("pairs", settings=short).fixed_trials}
    trials = {pair: {method: found[f"pair={pair}, method={method}"] for method in SHIPPED} for pair in PAIRS}
    for of_pair in trials.values():
        of_pair |= {name: changed(of_pair["none"], {"method": {"name": name}}) for name in OTHERS}
    return trials


def teacher_of(trial: Trial, images: torch.Tensor) -> models.Network:
    """A random teacher whose batch norms know its activations, as a trained one's do: 54 blocks that add up
    unscaled would end far from any number a loss is made for."""
    torch.manual_seed(0)
    network = models.build(trial.teacher.model, 100).train()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        network(images.float() / 64 - 2)
    return fold_batch_norm(network)


def test_the_methods_and_pairs_are_all_there(trials):
    assert len(PAIRS) == 13
    for of_pair in trials.values():
        assert {trial.method.name for trial in of_pair.values()} == set(METHODS)
        assert len(of_pair) == len(METHODS) + 2  # both forms of sdd, and msd with and without kd


@pytest.mark.parametrize("pair", PAIRS)
def test_every_method_trains(trials, pair):
    splits, trial = random_splits(), trials[pair]["none"]
    cohort = Cohort(trial, teacher_of(trial, splits.train.images), splits, torch.device("cpu"))
    for one in trials[pair].values():
        cohort.admit(one)
    students = dict(cohort.students)
    before = {
        name: [parameter.detach().clone() for parameter in student.learner.parameters()]
        for name, student in students.items()
    }
    results = {result.trial: result for result in cohort.run_epoch()}
    for method, one in trials[pair].items():
        result = results[one.id]
        assert result.state == "finished", f"{method}: {result.reason}\n{result.traceback}"
        named = students[one.id].learner.named_parameters()
        stuck = [name for old, (name, new) in zip(before[one.id], named, strict=True) if torch.equal(old, new)]
        assert not stuck, f"{method}: these parameters did not move: {stuck}"
