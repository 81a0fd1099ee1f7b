"""kd, dkd, dist and sdd: identities, and cases worked by hand."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck

from msd_sweeps.distill.losses import Side, build
from msd_sweeps.distill.losses.dist import correlation_loss
from msd_sweeps.distill.losses.distiller import soft_divergence, warm_up
from msd_sweeps.distill.losses.dkd import decoupled_divergence, without_target
from msd_sweeps.distill.losses.sdd import consistency_weights
from msd_sweeps.distill.models.network import CannotClassifyRegions, Network


@pytest.fixture
def logits():
    torch.manual_seed(1)
    return torch.randn(4, 5, dtype=torch.float64), torch.randn(4, 5, dtype=torch.float64)


LABELS = torch.tensor([0, 4, 2, 2])


def test_soft_divergence_of_two_classes_by_hand():
    teacher = torch.tensor([[2 * math.log(3.0), 0.0]])  # at T = 2: 3/4 and 1/4
    student = torch.tensor([[0.0, 0.0]])  # 1/2 and 1/2
    expected = 4 * (0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5))
    assert soft_divergence(student, teacher, 2.0).item() == pytest.approx(expected)


def test_soft_divergence_has_gradients_of_one_size_at_high_temperatures(logits):
    """Hinton's reason for T²: in the limit the gradient is the difference of centred logits, over K."""
    student, teacher = logits[0].requires_grad_(), logits[1]
    soft_divergence(student, teacher, 1e4).sum().backward()
    centred = (student - student.mean(1, keepdim=True)) - (teacher - teacher.mean(1, keepdim=True))
    torch.testing.assert_close(student.grad, centred.detach() / 5, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_divergence_is_its_target_part_and_its_weighted_other_part(logits, temperature):
    student, teacher = logits
    target, other = decoupled_divergence(student, teacher, LABELS, temperature)
    probability = (teacher / temperature).softmax(1).gather(1, LABELS[:, None]).squeeze(1)
    whole = soft_divergence(student, teacher, temperature)
    torch.testing.assert_close(target + (1 - probability) * other, whole)


def test_parts_by_hand():
    teacher = torch.tensor([[6.0, 1.0, 2.0, 1.0]], dtype=torch.float64).log()  # target 6/10
    student = torch.tensor([[3.0, 1.0, 1.0, 1.0]], dtype=torch.float64).log()  # target 3/6
    target, other = decoupled_divergence(student, teacher, torch.tensor([0]), 1.0)
    assert target.item() == pytest.approx(0.6 * math.log(0.6 / 0.5) + 0.4 * math.log(0.4 / 0.5))
    assert other.item() == pytest.approx(0.5 * math.log(0.5 * 3) + 2 * 0.25 * math.log(0.25 * 3))


def test_a_certain_teacher_gives_finite_parts():
    student, teacher = torch.tensor([[0.0, 5.0, 1.0]]), torch.tensor([[400.0, 0.0, 1.0]])
    target, other = decoupled_divergence(student, teacher, torch.tensor([0]), 1.0)
    assert target.isfinite().all()
    assert other.isfinite().all()


def test_without_target_keeps_the_order_of_the_others():
    rows = torch.arange(8.0).view(2, 4)
    assert without_target(rows, torch.tensor([1, 3])).tolist() == [[0, 2, 3], [4, 5, 6]]


def test_warm_up_is_linear_and_ends():
    assert [warm_up(epoch, 4) for epoch in (0, 1, 3, 9)] == [0.25, 0.5, 1.0, 1.0]
    assert warm_up(0, 0) == 1.0


@pytest.mark.parametrize(("name", "term"), [("dkd", "target"), ("dkd", "non_target"), ("reviewkd", "review")])
def test_warm_up_scales_its_terms_and_not_cross_entropy(pair, name, term):
    distiller, taps = pair.distiller(name, warmup_epochs=20), pair.taps()
    early = distiller(*taps, pair.batch)
    distiller.start_epoch(19)
    late = distiller(*taps, pair.batch)
    torch.testing.assert_close(late[term], 20 * early[term])
    torch.testing.assert_close(late["ce"], early["ce"])


def test_correlation_loss_does_not_see_shift_and_scale(logits):
    student = logits[0]
    torch.testing.assert_close(correlation_loss(student, 3 * student - 2), torch.zeros_like(student[:, 0]))
    torch.testing.assert_close(correlation_loss(student, -student), 2 + torch.zeros_like(student[:, 0]))
    by_hand = correlation_loss(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[1.0, 3.0, 2.0]]))
    assert by_hand.item() == pytest.approx(0.5)


def test_dist_compares_rows_and_columns_of_softened_probabilities(pair):
    terms = pair.terms("dist", inter_weight=1.0, intra_weight=1.0, temperature=2.0)
    own, target = ((taps.logits.detach() / 2).softmax(1) for taps in pair.taps())
    inter = 1 - torch.stack([torch.corrcoef(torch.stack(rows))[0, 1] for rows in zip(own, target, strict=True)])
    columns = zip(own.t(), target.t(), strict=True)
    intra = 1 - torch.stack([torch.corrcoef(torch.stack(rows))[0, 1] for rows in columns])
    torch.testing.assert_close(terms["inter"], 4 * inter.mean())
    torch.testing.assert_close(terms["intra"], 4 * intra.mean())


def test_kd_term_is_weighted_and_averaged_over_the_batch(pair):
    terms = pair.terms("kd", ce_weight=0.1, kd_weight=0.9, temperature=4.0)
    student, teacher = (taps.logits.detach() for taps in pair.taps())
    divergence = F.kl_div((student / 4).log_softmax(1), (teacher / 4).softmax(1), reduction="batchmean")
    torch.testing.assert_close(terms["kd"], 0.9 * 16 * divergence)
    torch.testing.assert_close(terms["ce"], 0.1 * F.cross_entropy(student, pair.batch.labels))


def test_sdd_at_scale_one_is_kd(pair):
    torch.testing.assert_close(pair.terms("sdd", scales=(1,)), pair.terms("kd"))


def test_sdd_of_dkd_at_scale_one_is_dkd(pair):
    torch.testing.assert_close(pair.terms("sdd", form="dkd", scales=(1,)), pair.terms("dkd"))


def test_sdd_is_the_weighted_mean_over_regions(pair):
    found = pair.terms("sdd", scales=(1, 2), disagree_weight=3.0, kd_weight=1.0)["kd"]
    student_taps, teacher_taps = pair.taps()
    losses = []
    for row in range(len(pair.batch.labels)):
        label = pair.batch.labels[row]
        image_is_right = teacher_taps.logits[row].argmax() == label
        for top, left, side in [(0, 0, 4), (0, 0, 2), (0, 2, 2), (2, 0, 2), (2, 2, 2)]:
            window = (row, slice(None), slice(top, top + side), slice(left, left + side))
            own = pair.student.head(student_taps.last[window].mean((1, 2)))
            target = pair.teacher.head(teacher_taps.last[window].mean((1, 2)))
            weight = 1.0 if (target.argmax() == label) == image_is_right else 3.0
            losses.append(weight * soft_divergence(own, target, 4.0))
    torch.testing.assert_close(found, torch.stack(losses).mean())


def test_regions_that_contradict_the_image_weigh_more():
    image = torch.tensor([[1.0, 0.0], [0.0, 1.0]])  # right, wrong
    regions = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]]])
    weights = consistency_weights(regions, image, torch.tensor([0, 0]), 2.0)
    assert weights.tolist() == [[1.0, 2.0], [2.0, 1.0]]


def test_sdd_names_the_network_that_cannot_classify_regions(pair):
    student_taps, teacher_taps = pair.taps()
    student, teacher = (Side.of(network, pair.images.shape[1:]) for network in (pair.student, pair.teacher))
    blind = teacher._replace(classify=Network().classify)
    distiller = build(pair.distiller("sdd").settings, student, blind, torch.arange(40))
    with pytest.raises(CannotClassifyRegions, match="Network: no classifier reads"):
        distiller(student_taps, teacher_taps, pair.batch)


def test_sdd_rejects_a_scale_finer_than_the_map(pair):
    with pytest.raises(ValueError, match=r"scale 5 is finer than the 4 × 4 feature map; its finest is 4"):
        pair.distiller("sdd", scales=(1, 5))


@pytest.mark.parametrize(
    ("name", "terms"),
    [("kd", ["kd"]), ("dkd", ["target", "non_target"]), ("dist", ["inter", "intra"]), ("sdd", ["kd"])],
)
def test_equal_networks_have_nothing_to_learn(equal_pair, name, terms):
    found = equal_pair.terms(name)
    for term in terms:
        assert found[term].item() == pytest.approx(0, abs=1e-12)


def test_gradients(logits):
    student, teacher = logits[0].requires_grad_(), logits[1]
    assert gradcheck(lambda rows: soft_divergence(rows, teacher, 3.0), student)
    assert gradcheck(lambda rows: decoupled_divergence(rows, teacher, LABELS, 3.0), student)
    assert gradcheck(lambda rows: correlation_loss(rows, teacher), student)
