"""Every method and network can be captured: replays of one recorded step learn what plain steps do, bit by bit."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from msd_sweeps.catalog.networks import NETWORKS
from msd_sweeps.distill import models
from msd_sweeps.distill.cohort import Cohort, train_epoch
from msd_sweeps.distill.data.splits import Splits
from msd_sweeps.distill.graphs import Graphs
from msd_sweeps.distill.stepping import InTurn
from msd_sweeps.distill.student import Student
from msd_sweeps.space.trial import Trial
from tests.distill.conftest import CPU, make_trial, random_images
from tests.distill.losses.conftest import settings_of
from tests.distill.losses.test_contract import VARIANTS
from tests.distill.tape import Faked, Plain, Tape, record, tensors_of

CIFAR = {name for name in models.NETWORKS if NETWORKS[name].image_size == 32}
QUICK = {"resnet8", "resnet8x4", "wrn_16_1", "vgg8"}
"""Networks that compile in a few seconds."""
FAMILIES = QUICK | {"MobileNetV2", "ShuffleNetV1", "ShuffleNetV2"}
"""A small network of each family; the others take minutes."""
LABELS = [f"{name} {changes or ''}".strip() for name, changes in VARIANTS]
SPLITS = Splits(random_images(40, 0), None, random_images(4, 2), (0.5,) * 3, (0.25,) * 3)
"""Epochs of five steps at batch size 8."""


def trials_of_all_methods(precision: str) -> list[Trial]:
    recipe = {"epochs": 2, "batch_size": 8, "lr": 0.05, "schedule": "cosine", "precision": precision}
    settings = [settings_of(name, **changes).model_dump() for name, changes in VARIANTS]
    return [make_trial(method=method, recipe=recipe, seed=seed) for seed, method in enumerate(settings)]


def trial_of_network(model: str) -> Trial:
    recipe = {"epochs": 1, "batch_size": 8, "lr": 0.05, "schedule": "cosine", "precision": "float32"}
    sides = {"teacher": {"model": model}, "student": {"model": model}}
    return make_trial(method={"name": "kd"}, recipe=recipe, **sides)


def new_cohort(trials: Sequence[Trial], stepping: InTurn) -> Cohort:
    torch.manual_seed(0)
    teacher = models.fold_batch_norm(models.build(trials[0].teacher.model, 10))
    cohort = Cohort(trials[0], teacher, SPLITS, CPU, stepping=stepping)
    for trial in trials:
        cohort.admit(trial)
    return cohort


def train(trials: Sequence[Trial], stepping: InTurn) -> list[Student]:
    cohort = new_cohort(trials, stepping)
    students = list(cohort.students.values())
    for results in cohort.epochs():
        assert [result.reason for result in results] == [""] * len(students)
    return students


def assert_same(found: Student, expected: Student) -> None:
    """Weights, buffers and momentum are equal bit by bit, and so are the metrics of every epoch."""
    tensors = zip(tensors_of(found.state()), tensors_of(expected.state()), strict=True)
    assert all(torch.equal(mine, theirs) for mine, theirs in tensors)
    for mine, theirs in zip(found.history, expected.history, strict=True):
        one, other = (
            {name: value for name, value in each.metrics.items() if not name.endswith("_seconds")}
            for each in (mine, theirs)
        )
        assert one == other


@pytest.fixture(scope="module", params=["float32", pytest.param("bfloat16", marks=pytest.mark.slow)])
def methods(request: pytest.FixtureRequest) -> tuple[list[Student], list[Student], Graphs]:
    """The students of all methods after plain and after recorded steps, and who recorded them."""
    graphs = Graphs(Tape())
    trials = trials_of_all_methods(request.param)
    return train(trials, Plain()), train(trials, graphs), graphs


@pytest.mark.parametrize("place", range(len(VARIANTS)), ids=LABELS)
def test_replays_of_a_method_learn_what_plain_steps_do(methods, place):
    plain, replayed, graphs = methods
    assert graphs.is_captured(replayed[place])
    assert_same(replayed[place], plain[place])


@pytest.mark.parametrize(
    "model", [pytest.param(m, marks=[] if m in FAMILIES else pytest.mark.slow) for m in sorted(CIFAR)]
)
def test_replays_of_a_network_learn_what_plain_steps_do(model):
    graphs, trial = Graphs(Tape()), trial_of_network(model)
    (plain,), (replayed,) = train([trial], Plain()), train([trial], graphs)
    assert graphs.is_captured(replayed)
    assert_same(replayed, plain)


def test_no_step_of_a_method_asks_for_a_number():
    cohort = new_cohort(trials_of_all_methods("float32"), Faked())
    lost = next(train_epoch(cohort))
    assert [(result.reason, result.traceback) for result in lost] == []
    assert len(cohort.students) == len(VARIANTS)


@pytest.mark.parametrize("model", models.NETWORKS)
def test_no_pass_of_a_network_asks_for_a_number(model):
    network = models.build(model, 10).train()
    images = torch.zeros(2, 3, network.image_size, network.image_size)
    with FakeTensorMode(allow_non_fake_inputs=True):
        torch.stack([tap.sum() for tap in network(images).tensors]).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize(
    "model", [pytest.param(m, marks=[] if m in QUICK else pytest.mark.slow) for m in sorted(CIFAR)]
)
def test_a_network_compiles_as_one_graph(model):
    torch._dynamo.reset()  # the networks share the code of their forward pass, which compiles anew only a few times
    torch.manual_seed(0)
    network = models.build(model, 10).train()
    images = torch.randn(2, 3, 32, 32)
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")(images)
    for mine, theirs in zip(compiled.tensors, network(images).tensors, strict=True):
        torch.testing.assert_close(mine, theirs)
    compiled.logits.sum().backward()


@pytest.mark.parametrize(
    "work",
    [
        lambda x: x.sum().item(),
        lambda x: x[x > 0],
        lambda x: x * torch.tensor(2.0),
        lambda x: torch.equal(x, x),
        lambda x: bool(x.any()),
    ],
)
def test_the_stand_in_refuses_what_waits_for_the_device(work: Callable[[Tensor], object]):
    with pytest.raises(RuntimeError, match="not permitted when stream is capturing"):
        record(lambda: work(torch.ones(3)))


def test_the_stand_in_freezes_what_python_computes_and_undoes_the_recording():
    total, seen, factor = torch.zeros(2), torch.ones(2), 1.0
    replay = record(lambda: total.add_(seen * factor))
    assert total.tolist() == [0, 0]
    factor = 5.0
    seen.fill_(2)
    replay()
    assert total.tolist() == [2, 2]
