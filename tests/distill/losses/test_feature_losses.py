"""fitnet, at, sp, rkd, pkt, vid and reviewkd: small cases by hand, sizes that differ, gradients."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Size, Tensor
from torch.autograd import gradcheck

from msd_sweeps.distill.losses import Side, build
from msd_sweeps.distill.losses.attention import attention_loss
from msd_sweeps.distill.losses.distiller import aligned, same_size
from msd_sweeps.distill.losses.fitnet import regressor
from msd_sweeps.distill.losses.pkt import probability_loss
from msd_sweeps.distill.losses.relation import angle_loss, angles, distance_loss, relative_distances
from msd_sweeps.distill.losses.reviewkd import hierarchical_loss
from msd_sweeps.distill.losses.similarity import similarity_loss
from msd_sweeps.distill.losses.vid import gaussian_loss


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(7)


def test_attention_by_hand():
    student = torch.tensor([[[[1.0, 0.0]], [[1.0, 0.0]]]])  # attention (1, 0)
    teacher = torch.tensor([[[[math.sqrt(3.0), 2.0]]]])  # (3, 4), of unit length (0.6, 0.8)
    assert attention_loss(student, teacher).item() == pytest.approx((0.4**2 + 0.8**2) / 2)


def test_similarity_by_hand():
    student = torch.tensor([[1.0, 0.0], [0.0, 1.0]])  # similarities: the identity
    teacher = torch.tensor([[1.0, 0.0], [1.0, 0.0]])  # all ones, of unit length 1/√2
    half = 1 / math.sqrt(2)
    assert similarity_loss(student, teacher).item() == pytest.approx((2 * (1 - half) ** 2 + 2 * 0.5) / 4)


def test_distances_are_relative_to_their_mean():
    corners = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])  # sides 3, 4, 5
    expected = torch.tensor([[0.0, 3.0, 4.0], [3.0, 0.0, 5.0], [4.0, 5.0, 0.0]]) / 4
    torch.testing.assert_close(relative_distances(corners), expected)
    torch.testing.assert_close(relative_distances(10 * corners + 1), expected)
    student = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    mean = (2 + math.sqrt(2)) / 3
    apart = [1 / mean - 0.75, 1 / mean - 1, math.sqrt(2) / mean - 1.25]
    assert distance_loss(student, corners).item() == pytest.approx(sum(x**2 for x in apart) / 9, abs=1e-6)


def test_angles_of_a_right_triangle():
    corners = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
    found = angles(corners)
    assert found[0, 1, 2].item() == pytest.approx(0, abs=1e-6)
    assert found[1, 0, 2].item() == pytest.approx(0.6)
    assert found[2, 0, 1].item() == pytest.approx(0.8)
    assert found[0, 0, 2].item() == 0


def test_relations_do_not_change_when_features_are_moved_turned_or_scaled():
    features = random(5, 3)
    turn, _ = torch.linalg.qr(random(3, 3))
    other = 4 * features @ turn + 2
    assert distance_loss(features, other).item() == pytest.approx(0, abs=1e-12)
    assert angle_loss(features, other).item() == pytest.approx(0, abs=1e-12)
    assert distance_loss(features, random(5, 3)).item() > 1e-3


def test_probabilities_by_hand():
    student = torch.tensor([[1.0, 0.0], [0.0, 1.0]])  # affinities 1 and ½: rows (⅔, ⅓), (⅓, ⅔)
    teacher = torch.tensor([[1.0, 0.0], [5.0, 0.0]])  # all 1: rows (½, ½)
    expected = 2 * (0.5 * math.log(0.5 * 3 / 2) + 0.5 * math.log(0.5 * 3)) / 4
    assert probability_loss(student, teacher).item() == pytest.approx(expected, abs=1e-6)


def test_gaussian_by_hand():
    mean, target = torch.tensor([[[[1.0]], [[0.0]]]]), torch.tensor([[[[3.0]], [[1.0]]]])
    variance = torch.tensor([2.0, 1.0])
    expected = 0.5 * ((4 / 2 + math.log(2)) + 1) / 2
    assert gaussian_loss(mean, variance, target).item() == pytest.approx(expected)


def test_vid_starts_from_its_initial_variance(pair):
    """With silent regressors each stage costs what a Gaussian around zero does."""
    distiller = pair.distiller("vid", ce_weight=0.0, initial_variance=3.0)
    with torch.no_grad():
        for prediction in distiller.predictions:
            prediction.mean[4].weight.zero_()
    student, teacher = pair.taps()
    expected = sum(0.5 * (stage.square().mean() / 3 + math.log(3)) for stage in teacher.stages)
    found = distiller(student, teacher, pair.batch)["information"]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_hierarchical_loss_by_hand():
    student, teacher = random(2, 3, 4, 4), random(2, 3, 4, 4)
    expected = F.mse_loss(student, teacher)
    for side, weight in ((2, 0.5), (1, 0.25)):
        pooled = F.adaptive_avg_pool2d(student, side), F.adaptive_avg_pool2d(teacher, side)
        expected = expected + weight * F.mse_loss(*pooled)
    torch.testing.assert_close(hierarchical_loss(student, teacher), expected / 1.75)
    one = random(2, 3, 1, 1), random(2, 3, 1, 1)
    torch.testing.assert_close(hierarchical_loss(*one), F.mse_loss(*one))


@pytest.mark.parametrize(("student", "teacher"), [(8, 4), (4, 8), (8, 8), (7, 5), (3, 7), (32, 8)])
def test_hints_bridge_sides_and_channels(student, teacher):
    shapes = Size((1, 3, student, student)), Size((1, 5, teacher, teacher))
    hint, target = same_size(
        regressor(*shapes)(torch.randn(2, 3, student, student)), torch.randn(2, 5, teacher, teacher)
    )
    assert hint.shape == target.shape
    assert hint.shape[1] == 5


def test_a_stage_that_is_not_there_is_an_error(pair):
    with pytest.raises(ValueError, match="there is no stage 4; both networks have 3"):
        pair.distiller("fitnet", stage=4)


def test_stages_meet_at_the_end():
    assert aligned((1, 2, 3), (10, 20)) == [(2, 10), (3, 20)]


def test_the_larger_map_is_pooled_down():
    student, teacher = same_size(random(1, 2, 8, 8), random(1, 3, 4, 4))
    assert student.shape == (1, 2, 4, 4)
    assert teacher.shape == (1, 3, 4, 4)


@pytest.mark.parametrize(
    ("name", "terms"),
    [("at", ["attention"]), ("sp", ["similarity"]), ("rkd", ["distance", "angle"]), ("pkt", ["probability"])],
)
def test_equal_networks_have_nothing_to_learn(equal_pair, pair, name, terms):
    for term in terms:
        assert equal_pair.terms(name)[term].item() == pytest.approx(0, abs=1e-12)
        assert pair.terms(name)[term].item() > 1e-4


@pytest.mark.parametrize("name", ["at", "vid", "reviewkd"])
def test_networks_of_different_depth_and_size_are_compared(make_pair, name):
    pair = make_pair()
    student, teacher = pair.taps()
    shallow = teacher._replace(stages=tuple(F.avg_pool2d(stage, 2) for stage in teacher.stages[1:]))
    own, other = (Side.of(network, pair.images.shape[1:]) for network in (pair.student, pair.teacher))
    other = other._replace(stages=tuple(stage.shape for stage in shallow.stages))
    distiller = build(pair.distiller(name).settings, own, other, torch.arange(40)).double()
    terms = distiller(student, shallow, pair.batch)
    assert all(term.isfinite() for term in terms.values())


def test_gradients():
    maps, target = random(2, 3, 4, 4).requires_grad_(), random(2, 3, 4, 4)
    smaller = random(2, 5, 2, 2)
    features, others = random(4, 3).requires_grad_(), random(4, 5)
    assert gradcheck(lambda own: attention_loss(own, smaller), maps)
    assert gradcheck(lambda own: similarity_loss(own, others), features)
    assert gradcheck(lambda own: distance_loss(own, others), features)
    assert gradcheck(lambda own: angle_loss(own, others), features)
    assert gradcheck(lambda own: probability_loss(own, others), features)
    assert gradcheck(lambda own: hierarchical_loss(own, target), maps)
    variance = torch.rand(3, dtype=torch.float64) + 0.5
    assert gradcheck(lambda own, spread: gaussian_loss(own, spread, target), (maps, variance.requires_grad_()))
