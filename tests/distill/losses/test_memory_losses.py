"""crd and wcord: the memory, the contrast against noise, and optimal transport."""

import math

import pytest
import torch
from torch import distributed
from torch.autograd import gradcheck

from msd_sweeps.distill.losses.crd import Memory, noise_contrast, scrambled
from msd_sweeps.distill.losses.wcord import critic_gap, transport_loss, transport_plan


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(5)


def test_noise_contrast_of_two_samples_and_two_negatives_by_hand():
    scores = torch.log(torch.tensor([[6.0, 2.0, 1.0], [3.0, 4.0, 0.5]], dtype=torch.float64))
    normaliser, num_train = 10.0, 8
    noise = 2 / num_train  # M times P_n
    expected = []
    for positive, *negatives in ((0.6, 0.2, 0.1), (0.3, 0.4, 0.05)):
        loss = -math.log(positive / (positive + noise))
        loss -= sum(math.log(noise / (negative + noise)) for negative in negatives)
        expected.append(loss)
    found = noise_contrast(scores, torch.tensor(math.log(normaliser), dtype=torch.float64), num_train)
    assert found.tolist() == pytest.approx(expected)


def test_scores_are_products_with_the_other_networks_memory():
    memory = Memory(torch.arange(9), width=3, num_negatives=4, momentum=0.5)
    student, teacher = torch.randn(2, 3), torch.randn(2, 3)
    positions = memory.draw(torch.tensor([4, 7]))
    student_scores, teacher_scores = memory.scores(student, teacher, positions)
    for row in range(2):
        for column, position in enumerate(positions[row].tolist()):
            own = student[row] @ memory.teacher[position]
            other = teacher[row] @ memory.student[position]
            assert student_scores[row, column].item() == pytest.approx(own.item(), abs=1e-6)
            assert teacher_scores[row, column].item() == pytest.approx(other.item(), abs=1e-6)


def test_crd_is_the_two_sided_contrast_with_a_normaliser_from_its_first_batch(pair):
    distiller = pair.distiller("crd", ce_weight=0.0, contrast_weight=0.5, contrast_temperature=0.2)
    tables = distiller.memory.teacher.clone(), distiller.memory.student.clone()
    positions = distiller.memory.draw(pair.batch.index)
    student, teacher = pair.taps()
    features = distiller.embed_student(student.pooled), distiller.embed_teacher(teacher.pooled)
    losses = 0.0
    for feature, table in zip(features, tables, strict=True):
        unit = feature / feature.norm(dim=1, keepdim=True)
        likelihood = torch.exp((table[positions] * unit.unsqueeze(1)).sum(-1) / 0.2)
        likelihood = likelihood / (likelihood.mean() * 40).detach()
        noise = 8 / 40
        positive = -torch.log(likelihood[:, 0] / (likelihood[:, 0] + noise))
        losses += (positive - torch.log(noise / (likelihood[:, 1:] + noise)).sum(1)).mean()
    found = distiller(student, teacher, pair.batch)["contrast"]
    torch.testing.assert_close(found, 0.5 * losses, rtol=1e-6, atol=1e-6)


def test_the_normaliser_stays_what_the_first_batch_made_it(pair):
    distiller = pair.distiller("crd")
    distiller(*pair.taps(), pair.batch)
    first = distiller.log_normalisers.clone()
    assert first.abs().min() > 0
    with torch.no_grad():
        pair.student.head.weight.zero_()
        pair.student.stages[2].weight.mul_(-1)
    distiller(*pair.taps(), pair.batch)
    assert torch.equal(distiller.log_normalisers, first)


def test_the_gradient_is_that_of_the_memory_before_the_batch_was_remembered(pair):
    distiller = pair.distiller("crd", ce_weight=0.0)
    student, teacher = pair.taps()
    pooled = student.pooled.detach().requires_grad_()

    def loss(features):
        return distiller(student._replace(pooled=features), teacher, pair.batch)["contrast"]

    loss(pooled.detach())  # fixes the normaliser
    state = {name: value.clone() for name, value in distiller.state_dict().items()}
    loss(pooled).backward()
    direction = torch.randn_like(pooled)
    values = []
    for step in (1e-6, -1e-6):
        distiller.load_state_dict(state)
        values.append(loss(pooled.detach() + step * direction).item())
    slope = (pooled.grad * direction).sum().item()
    assert slope == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-6)


def test_a_batch_moves_its_rows_alone():
    memory = Memory(torch.arange(6), width=4, num_negatives=2, momentum=0.75)
    before = memory.teacher.clone()
    student, teacher = torch.randn(2, 4), torch.randn(2, 4)
    memory.remember(student, teacher, torch.tensor([5, 1]))
    assert torch.equal(memory.teacher[[0, 2, 3, 4]], before[[0, 2, 3, 4]])
    for row, position in enumerate((5, 1)):
        moved = 0.75 * before[position] + 0.25 * teacher[row]
        torch.testing.assert_close(memory.teacher[position], moved / moved.norm())
    torch.testing.assert_close(memory.student[[5, 1]].norm(dim=1), torch.ones(2))
    assert memory.step.item() == 1


def remember_a_half(rank: int, folder: str) -> None:
    """One of two workers: its half of the batch goes into its memory."""
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    torch.manual_seed(0)
    memory = Memory(torch.arange(6), width=4, num_negatives=2, momentum=0.5)
    student, teacher, index = torch.randn(4, 4), torch.randn(4, 4), torch.tensor([5, 1, 0, 3])
    half = slice(2 * rank, 2 * rank + 2)
    memory.remember(student[half], teacher[half], index[half])
    torch.save(memory.state_dict(), f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_workers_remember_the_whole_batch(tmp_path):
    torch.multiprocessing.spawn(remember_a_half, (str(tmp_path),), nprocs=2)
    torch.manual_seed(0)
    memory = Memory(torch.arange(6), width=4, num_negatives=2, momentum=0.5)
    memory.remember(torch.randn(4, 4), torch.randn(4, 4), torch.tensor([5, 1, 0, 3]))
    for rank in range(2):
        torch.testing.assert_close(torch.load(tmp_path / f"{rank}.pt"), dict(memory.state_dict()))


def test_negatives_are_uniform_over_the_images_of_other_classes_and_new_at_each_step():
    labels = torch.tensor([2, 0, 1, 2, 0, 2, 1, 0, 2, 2])
    memory = Memory(labels, width=2, num_negatives=5000, momentum=0.5)
    index = torch.tensor([3, 6, 1])  # of the last, a middle and the first class
    first = memory.draw(index)
    assert first[:, 0].tolist() == [3, 6, 1]
    assert torch.equal(memory.draw(index), first)
    for row, own in enumerate(labels[index]):
        others = (labels != own).nonzero().flatten()
        counts = first[row, 1:].bincount(minlength=10)
        assert counts.sum() == counts[others].sum() == 5000
        expected = 5000 / len(others)
        chi_square = ((counts[others] - expected) ** 2 / expected).sum().item()
        assert 0.1 < chi_square < 30  # four to seven degrees of freedom
    memory.step.add_(1)
    assert (first[0, 1:] == memory.draw(index)[0, 1:]).float().mean().item() == pytest.approx(0.2, abs=0.03)


def test_images_of_one_class_have_no_negatives():
    with pytest.raises(ValueError, match="the training images are all of one"):
        Memory(torch.tensor([3, 3, 3]), width=2, num_negatives=2, momentum=0.5)


def test_scrambling_loses_no_number_and_flips_half_of_the_bits():
    numbers = torch.arange(100_000)
    mixed = scrambled(numbers)
    assert mixed.unique().numel() == 100_000
    assert mixed.min() >= 0
    assert mixed.max() < 2**32
    changed = mixed ^ scrambled(numbers ^ 1)
    flips = sum(((changed >> bit) & 1).float().mean().item() for bit in range(32))
    assert flips == pytest.approx(16, abs=0.2)


def test_critic_gap_by_hand():
    assert critic_gap(torch.tensor([[0.9, 0.2, -0.4]])).item() == pytest.approx(-1.0)


def test_the_plan_serves_both_sides_equally_and_prefers_what_is_cheap():
    cost = torch.rand(5, 5, dtype=torch.float64)
    plan = transport_plan(cost, 0.1, 200)
    torch.testing.assert_close(plan.sum(0), torch.full((5,), 0.2, dtype=torch.float64))
    torch.testing.assert_close(plan.sum(1), torch.full((5,), 0.2, dtype=torch.float64))
    cost = 1 - torch.eye(4, dtype=torch.float64)
    torch.testing.assert_close(transport_plan(cost, 0.01, 50), torch.eye(4, dtype=torch.float64) / 4)


def test_equal_features_cost_nothing_to_move():
    features = torch.nn.functional.normalize(torch.randn(6, 8, dtype=torch.float64), dim=1)
    assert transport_loss(features, features, 0.01, 100).item() == pytest.approx(0, abs=1e-3)
    assert transport_loss(features, -features, 0.01, 100).item() > 0.1


def test_wcord_critic_is_bounded(pair):
    terms = pair.terms("wcord", ce_weight=0.0, global_weight=1.0)
    assert abs(terms["global"].item()) < 4
    assert 0 <= terms["local"].item() / 0.05 < 2


def test_gradients():
    scores = torch.randn(3, 5, dtype=torch.float64).requires_grad_()
    assert gradcheck(lambda values: noise_contrast(values, values.new_tensor(0.3), 7), scores)
    assert gradcheck(critic_gap, scores)
    own, other = torch.randn(4, 3, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    plan = transport_plan(1 - own @ other.t(), 0.1, 20)
    own.requires_grad_()
    transport_loss(own, other, 0.1, 20).backward()
    torch.testing.assert_close(own.grad, -plan @ other)  # the plan is held constant
