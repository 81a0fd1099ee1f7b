"""Two data-parallel workers, each with half of the batch, learn what one learns from the whole."""

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, nn

from msd_sweeps.distill.cohort import Cohort
from msd_sweeps.distill.data.splits import Splits
from msd_sweeps.distill.models import build, fold_batch_norm
from msd_sweeps.distill.student import Learner
from msd_sweeps.space.methods import METHODS
from tests.distill.conftest import CPU, make_trial, random_images
from tests.distill.losses.conftest import new_pair, settings_of
from tests.distill.losses.test_contract import VARIANTS

LABELS = [f"{name} {changes or ''}".strip() for name, changes in VARIANTS]
WITHOUT_LOGITS = [name for name in METHODS if not {"none", "kd", "dkd", "dist", "sdd"} & {name}]
"""Methods whose own terms reach no classifier."""
SPLITS = Splits(random_images(32, 0), random_images(8, 1), random_images(8, 2), (0.5,) * 3, (0.25,) * 3)
RECIPE = {"epochs": 1, "batch_size": 16, "lr": 0.01, "schedule": "cosine", "precision": "float32"}
Tensors = dict[str, Tensor]


def gradients(place: int, rank: int, world_size: int) -> tuple[Tensors, Tensors]:
    """The terms of a worker's part of the second batch, and the gradients that all workers have."""
    torch.manual_seed(1)
    name, changes = VARIANTS[place]
    pair = new_pair()
    distiller = pair.distiller(name, **changes)
    for module in distiller.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()  # workers on processors normalise their own parts
    module = learner = Learner(pair.student, distiller)
    if world_size > 1:
        module = nn.parallel.DistributedDataParallel(learner, broadcast_buffers=False, find_unused_parameters=True)
    part = slice(rank, None, world_size)
    batch = pair.batch._replace(labels=pair.batch.labels[part], index=pair.batch.index[part])
    taps = pair.student(pair.images[part]), pair.teacher(pair.images[part])
    for _ in range(2):
        learner.zero_grad()
        terms = module(lambda: distiller(pair.student(pair.images[part]), taps[1], batch))
        torch.stack(list(terms.values())).sum().backward()
    found = {name: each.grad for name, each in learner.named_parameters() if each.grad is not None}
    return {name: term.detach() for name, term in terms.items()}, found


@functools.cache
def train_without_logits(rank: int, world_size: int) -> dict[str, Tensors]:
    """The state of each student that learns from features alone, after an epoch."""
    trials = []
    for name in WITHOUT_LOGITS:
        settings = settings_of(name, ce_weight=0.0, kd_weight=0.0)
        trials.append(make_trial(method=settings.model_dump(), recipe=RECIPE))
    torch.manual_seed(0)
    teacher = fold_batch_norm(build("resnet8", 10))
    cohort = Cohort(trials[0], teacher, SPLITS, CPU, rank, world_size)
    for trial in trials:
        cohort.admit(trial)
    students = {student.trial.method.name: student for student in cohort.students.values()}
    for results in cohort.epochs():
        assert [result.reason for result in results] == [""] * len(trials)
    return {name: student.network.state_dict() | student.distiller.state_dict() for name, student in students.items()}


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    found = {
        "gradients": [gradients(place, rank, 2) for place in range(len(VARIANTS))],
        "trained": train_without_logits(rank, 2),
    }
    torch.save(found, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What the two workers found."""
    folder = tmp_path_factory.mktemp("two")
    torch.multiprocessing.spawn(work, (str(folder),), nprocs=2)
    return [torch.load(Path(folder) / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("place", range(len(VARIANTS)), ids=LABELS)
def test_workers_have_the_terms_and_the_gradients_of_the_whole_batch(both, place):
    (terms, mine), (other_terms, theirs) = (rank["gradients"][place] for rank in both)
    whole_terms, whole = gradients(place, 0, 1)
    torch.testing.assert_close({name: (terms[name] + other_terms[name]) / 2 for name in terms}, whole_terms)
    torch.testing.assert_close(mine, theirs, rtol=0, atol=0)
    torch.testing.assert_close(mine, whole)


@pytest.mark.parametrize("name", WITHOUT_LOGITS)
def test_workers_agree_where_the_loss_does_not_reach_the_classifier(both, name):
    mine, theirs = (rank["trained"][name] for rank in both)
    torch.testing.assert_close(mine, theirs, rtol=0, atol=0)
    classifier = next(key for key in mine if key.startswith(("fc.", "linear.", "classifier.")))
    torch.testing.assert_close(mine[classifier], train_without_logits(0, 1)[name][classifier])
