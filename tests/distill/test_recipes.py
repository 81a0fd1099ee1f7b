"""Recipes of other authors: optimizers, label smoothing, mixup and CutMix."""

import pytest
import torch
import torch.nn.functional as F

from msd_sweeps.distill.data.splits import Splits, Stream
from msd_sweeps.distill.losses.distiller import Batch
from msd_sweeps.distill.student import build_optimizer
from msd_sweeps.space.errors import InputError
from msd_sweeps.space.load import load_base
from msd_sweeps.space.trial import Recipe
from tests.distill.conftest import make_trial

RECIPE = {"epochs": 2, "batch_size": 16, "lr": 0.01, "precision": "float32"}


def trained(new_cohort, threads: int = 0, **recipe):
    cohort = new_cohort(make_trial(method={"name": "kd"}, recipe=RECIPE | recipe), threads)
    cohort.admit(make_trial(method={"name": "kd"}, recipe=RECIPE | recipe))
    return [result for results in cohort.epochs() for result in results]


@pytest.mark.parametrize("recipe", [{"optimizer": "adamw"}, {"label_smoothing": 0.1}, {"mixup": 0.8}, {"cutmix": 1.0}])
def test_each_changes_the_numbers_and_packing_does_not(new_cohort, recipe):
    plain, alone, threaded = trained(new_cohort), trained(new_cohort, **recipe), trained(new_cohort, 1, **recipe)
    losses = [[result.metrics["train_loss"] for result in results] for results in (plain, alone, threaded)]
    assert losses[1] == losses[2]
    assert losses[0] != losses[1]
    assert alone[-1].state == "finished"


def test_one_step_of_each_optimizer_is_torchs_own():
    for optimizer, own in (
        ("adamw", lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=5e-4)),
        (
            {"class": "torch.optim.NAdam", "betas": [0.8, 0.9]},
            lambda p: torch.optim.NAdam(p, 0.1, (0.8, 0.9), 1e-8, 5e-4),
        ),
    ):
        mine, theirs = (torch.nn.Parameter(torch.arange(4.0)) for _ in range(2))
        recipe = Recipe.model_validate({"lr": 0.1, "optimizer": optimizer})
        for parameter, made in ((mine, build_optimizer(recipe, [mine])), (theirs, own([theirs]))):
            (parameter**2).sum().backward()
            made.step()
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("recipe.optimizer=adamm", "recipe.optimizer: expected"),
        ("recipe.optimizer={class: torch.optim.NAdm}", "optimizer.class: torch.optim.NAdm is no class of an optimizer"),
        ("recipe.optimizer={class: torch.optim.NAdam, beta: 1}", "recipe.optimizer.beta: .*; did you mean 'betas'"),
        ("recipe.mixup=0.5", "recipe.mixup: 'dkd' reads the label of each image"),
    ],
)
def test_what_does_not_fit_is_told(setting, says):
    with pytest.raises(InputError, match=says):
        load_base("digits", ["method={name: dkd}", setting])
    with pytest.raises(InputError, match=r"momentum and nesterov belong to sgd"):
        load_base("digits", ["recipe={optimizer: adamw, nesterov: true}"])


def test_smoothing_is_torchs_and_the_cross_entropy_of_a_mixture_is_the_mixture_of_cross_entropies(new_cohort):
    cohort = new_cohort(make_trial())
    cohort.admit(make_trial(method={"name": "none"}))
    (student,) = cohort.students.values()
    images = torch.randn(4, 3, 32, 32)
    taps, labels = student.network(images), torch.tensor([1, 2, 3, 4])
    index = torch.arange(4)
    smooth = student.distiller(taps, taps, Batch(labels, index, labels, 0.2))["ce"]
    torch.testing.assert_close(smooth, F.cross_entropy(taps.logits, labels, label_smoothing=0.2))
    targets = 0.3 * F.one_hot(labels, 10) + 0.7 * F.one_hot(labels.flip(0), 10)
    mixed = student.distiller(taps, taps, Batch(labels, index, targets))["ce"]
    apart = 0.3 * F.cross_entropy(taps.logits, labels) + 0.7 * F.cross_entropy(taps.logits, labels.flip(0))
    torch.testing.assert_close(mixed, apart)


@pytest.mark.parametrize("recipe", [{"mixup": 0.8}, {"cutmix": 1.0}, {"mixup": 0.2, "cutmix": 1.0}])
def test_a_mixed_stream_is_a_function_of_seed_epoch_and_step(splits: Splits, recipe):
    def read(seed: int, disturbed: bool = False):
        stream, batches = Stream(splits, Recipe.model_validate(RECIPE | recipe), seed), []
        for batch in stream.epoch(1):
            if disturbed:
                torch.rand(3)  # another reader of the global generator
            batches.append(batch)
        return batches

    state = torch.get_rng_state()
    first, again, other = read(3), read(3, disturbed=True), read(4)
    for one, two in zip(first, again, strict=True):
        assert torch.equal(one.images, two.images)
        assert torch.equal(one.targets, two.targets)
        torch.testing.assert_close(one.targets.sum(1), torch.ones(16))
        labels = F.one_hot(one.labels, 10).float()
        shares = (one.targets - labels.roll(1, 0))[(labels != labels.roll(1, 0)).any(1)]
        assert shares.abs().max() < 1  # each is made of its own label and its neighbour's
    assert not torch.equal(first[0].images, other[0].images)
    assert not torch.equal(first[0].targets, first[1].targets)
    torch.set_rng_state(state)
