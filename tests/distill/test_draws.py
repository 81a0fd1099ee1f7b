"""Masks of dropout and stochastic depth are functions of (seed, step), whoever trains beside a student."""

import tempfile
from pathlib import Path

import pytest
import torch
from torch import nn

from msd_sweeps.distill import checkpoint, models
from msd_sweeps.distill.draws import DrawnDropout, draw_masks
from msd_sweeps.distill.graphs import Graphs
from tests.distill.conftest import make_trial
from tests.distill.test_cohort import numbers, run_alone
from tests.distill.test_graphs import StandIn

RECIPE = {"epochs": 2, "batch_size": 8, "lr": 0.05, "schedule": "cosine", "precision": "float32"}
TRIALS = [
    make_trial(student={"model": "imagenet_mobilenet_v2"}, method={"name": "kd"}, seed=seed, recipe=RECIPE)
    for seed in (1, 2)
]


class TimmsDropPath(nn.Module):
    """As timm has it: torchvision's takes another argument."""

    def __init__(self) -> None:
        super().__init__()
        self.drop_prob = 0.25


TimmsDropPath.__name__ = "DropPath"


@pytest.mark.parametrize("threads", [0, 2])
def test_a_student_with_dropout_gives_the_same_alone_packed_resumed_and_replayed(new_cohort, threads):
    alone = [run_alone(new_cohort(trial, threads), trial) for trial in TRIALS]
    assert alone[0] != alone[1]

    packed = new_cohort(TRIALS[0], threads)
    for trial in TRIALS:
        packed.admit(trial)
    epochs = [[numbers(result) for result in results] for results in packed.epochs()]
    assert [list(of_one) for of_one in zip(*epochs, strict=True)] == alone

    with tempfile.TemporaryDirectory() as folder:
        broken = new_cohort(TRIALS[0], threads)
        broken.admit(TRIALS[0])
        broken.run_epoch()
        torch.rand(3)  # whatever another student might draw
        path = checkpoint.save(Path(folder), 1, broken.students[TRIALS[0].id].state())
        resumed = new_cohort(TRIALS[0], threads)
        resumed.admit(TRIALS[0], checkpoint.load(path))
        assert numbers(resumed.run_epoch()[0]) == alone[0][1]

    if not threads:
        assert run_alone(new_cohort(TRIALS[0], stepping=Graphs(StandIn())), TRIALS[0]) == alone[0]


def masks(layer: nn.Module, seed: int, step: int, shape: tuple[int, ...] = (64, 10, 4)) -> torch.Tensor:
    network = nn.Sequential(nn.Identity(), layer).train()
    draw_masks(network, seed, torch.tensor(step))
    return network(torch.ones(shape))


@pytest.mark.parametrize(
    ("layer", "drawn"),
    [(nn.Dropout(0.25), (64, 10, 4)), (nn.Dropout2d(0.25), (64, 10, 1)), (TimmsDropPath(), (64, 1, 1))],
)
def test_a_layer_drops_its_share_of_what_it_drops_together(layer, drawn):
    found = torch.stack([masks(layer, 3, step) for step in range(50)])
    assert found.unique().tolist() == [0.0, pytest.approx(1 / 0.75)]
    assert found.mean().item() == pytest.approx(1, abs=0.06)
    first = found[:, : drawn[0], : drawn[1], : drawn[2]]
    assert torch.equal(first.expand_as(found), found)
    different = {tuple(first[0].flatten().tolist()), tuple(first[1].flatten().tolist())}
    different.add(tuple(masks(layer, 4, 0)[: drawn[0], : drawn[1], : drawn[2]].flatten().tolist()))
    assert len(different) == 3, "each step and each seed has a mask of its own"


def test_places_of_a_network_drop_differently_and_evaluation_drops_nothing():
    network = nn.Sequential(nn.Dropout(0.5), nn.Dropout(0.5))
    draw_masks(network, 0, torch.tensor(5))
    x = torch.ones(8, 100)
    assert not torch.equal(network[0](x), network[1](x))
    assert torch.equal(network.eval()(x), x)


@pytest.mark.parametrize("name", ["imagenet_mobilenet_v2", "swin_tiny", "convnext_tiny", "resnet8", "vit_small"])
def test_no_network_draws_from_the_global_generator(name):
    if name in ("swin_tiny", "convnext_tiny", "vit_small"):
        pytest.importorskip("timm")
    network = models.build(name, 10).train()
    draw_masks(network, 0, torch.tensor(0))
    before = torch.get_rng_state()
    side = network.image_size
    with torch.no_grad():
        network(torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(torch.get_rng_state(), before)
    rates = [module.p for module in network.modules() if isinstance(module, DrawnDropout)]
    assert any(rates) == (name in ("imagenet_mobilenet_v2", "swin_tiny"))
