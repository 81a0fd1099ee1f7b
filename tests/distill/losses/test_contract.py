"""What every method must keep, whatever it computes."""

import copy

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from msd_sweeps.distill.losses import build
from msd_sweeps.distill.models.network import Taps
from msd_sweeps.space.methods import METHODS, KdSettings, NoneSettings
from tests.distill.losses.conftest import has_memory, settings_of

VARIANTS = [
    *((name, {}) for name in METHODS),
    ("msd", {"stride": "half"}),
    ("msd", {"projector": "heads"}),
    ("msd", {"feature_pairs": "regions", "negatives": "all_regions"}),
    ("msd", {"feature_pairs": "regions", "regions": "weighted", "tap": "stages"}),
    ("msd", {"regions": "agree", "negatives": "other_classes"}),
    ("msd", {"regions": "weighted", "tap": "stages", "kd_weight": 0.9}),
    ("crd", {"kd_weight": 1.0}),
    ("sdd", {"form": "dkd"}),
    ("fitnet", {"stage": 3}),
]
TERMS = [(name, field.removesuffix("_weight")) for name in METHODS for field in settings_of(name).term_weights]


def change(taps: Taps, function) -> Taps:
    return Taps(tuple(map(function, taps.stages)), *map(function, taps[1:]))


def leaves(taps: Taps, dtype: torch.dtype | None = None) -> Taps:
    """The same values as leaves that want gradients."""
    return change(taps, lambda tap: tap.detach().to(dtype or tap.dtype).requires_grad_())


def all_of(taps: Taps) -> list[Tensor]:
    return [*taps.stages, *taps[1:]]


def total(terms: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(terms.values())).sum()


@pytest.mark.parametrize(("name", "changes"), VARIANTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_terms_are_finite_float32_scalars_and_teach_the_student(make_pair, name, changes, dtype):
    pair = make_pair(torch.float32)
    distiller = pair.distiller(name, **changes)
    student_taps, teacher_taps = pair.taps()
    student, teacher = leaves(student_taps, dtype), leaves(teacher_taps, dtype)
    terms = distiller(student, teacher, pair.batch)
    assert all(term.shape == () and term.dtype == torch.float32 for term in terms.values())
    total(terms).backward()
    gradients = [tap.grad for tap in all_of(student) if tap.grad is not None]
    gradients += [parameter.grad for parameter in distiller.parameters()]
    assert gradients
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)
    assert any(gradient.abs().max() > 0 for gradient in gradients)
    assert terms.keys() == {
        field.removesuffix("_weight") for field, weight in distiller.settings.term_weights.items() if weight > 0
    }


@pytest.mark.parametrize(("name", "changes"), VARIANTS)
def test_no_gradient_reaches_the_teacher(pair, name, changes):
    student, teacher = pair.taps()
    total(pair.distiller(name, **changes)(student, teacher, pair.batch)).backward()
    assert all(parameter.grad is None for parameter in pair.teacher.parameters())
    assert any(parameter.grad is not None for parameter in pair.student.parameters())


@pytest.mark.parametrize(("name", "term"), TERMS)
def test_a_weight_of_zero_removes_its_term_and_a_weight_scales_it(pair, name, term):
    everything = dict.fromkeys((f"{other}_weight" for owner, other in TERMS if owner == name), 1.0)
    field = f"{term}_weight"
    once = pair.terms(name, **everything)
    thrice = pair.terms(name, **everything | {field: 3.0})
    torch.testing.assert_close(thrice, once | {term: 3 * once[term]})
    if len(everything) == 1:
        return
    without = pair.terms(name, **everything | {field: 0.0})
    assert without.keys() == once.keys() - {term}


@pytest.mark.parametrize(("name", "changes"), VARIANTS)
def test_dead_features_give_finite_gradients(make_pair, name, changes):
    pair = make_pair(torch.float32)
    distiller = pair.distiller(name, **changes)
    student_taps, teacher_taps = (change(taps, torch.zeros_like) for taps in pair.taps())
    student, teacher = leaves(student_taps), leaves(teacher_taps)
    terms = distiller(student, teacher, pair.batch)
    total(terms).backward()
    assert total(terms).isfinite()
    for tap in all_of(student):
        assert tap.grad is None or tap.grad.isfinite().all()
    for parameter in distiller.parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all()


@pytest.mark.parametrize(("name", "changes"), [variant for variant in VARIANTS if not has_memory(variant[0])])
def test_the_order_of_the_batch_does_not_matter(pair, name, changes):
    distiller = pair.distiller(name, **changes)
    student, teacher = pair.taps()
    order = torch.tensor([4, 0, 5, 3, 1, 2])
    shuffled_batch = pair.batch._replace(labels=pair.batch.labels[order], index=pair.batch.index[order])
    shuffled = [change(taps, lambda tap: tap[order]) for taps in (student, teacher)]
    expected = distiller(student, teacher, pair.batch)
    torch.testing.assert_close(distiller(*shuffled, shuffled_batch), expected)


@pytest.mark.parametrize(("name", "changes"), VARIANTS)
def test_resuming_from_the_state_continues_bit_for_bit(pair, name, changes):
    distiller = pair.distiller(name, **changes)
    taps = pair.taps()
    distiller(*taps, pair.batch)
    resumed = pair.distiller(name, **changes)
    resumed.load_state_dict(copy.deepcopy(distiller.state_dict()))
    for _ in range(2):
        expected, found = distiller(*taps, pair.batch), resumed(*taps, pair.batch)
        assert {key: value.item() for key, value in found.items()} == {
            key: value.item() for key, value in expected.items()
        }


@pytest.mark.parametrize(("name", "changes"), VARIANTS)
def test_the_state_holds_neither_network(pair, name, changes):
    distiller = pair.distiller(name, **changes)
    networks = {id(value) for network in pair[:2] for value in network.parameters()}
    assert not networks & {id(value) for value in distiller.parameters()}


@pytest.mark.parametrize(("name", "changes"), VARIANTS)
def test_nothing_waits_for_the_device_or_has_a_shape_that_depends_on_data(make_pair, name, changes):
    """Fake tensors have shapes but no values: a step that runs on them can be captured in a CUDA graph."""
    pair = make_pair(torch.float32)
    distiller = pair.distiller(name, **changes)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        student, teacher = (change(leaves(taps), mode.from_tensor) for taps in pair.taps())
        labels, index = mode.from_tensor(pair.batch.labels), mode.from_tensor(pair.batch.index)
        terms = distiller(student, teacher, pair.batch._replace(labels=labels, index=index))
        total(terms).backward()
        with pytest.raises(DataDependentOutputException):
            total(terms).item()


def test_only_the_method_without_a_teacher_does_without_one():
    with pytest.raises(ValueError, match="method 'kd' needs a teacher"):
        build(KdSettings(name="kd"), None, None, torch.arange(10))
    build(NoneSettings(name="none"), None, None, torch.arange(10))


@pytest.mark.parametrize("name", ["msd", "fitnet", "vid", "crd", "wcord", "reviewkd"])
def test_parts_whose_terms_have_no_weight_do_not_train(pair, name):
    own = {f"{term}_weight": 0.0 for owner, term in TERMS if owner == name and term not in ("ce", "kd")}
    distiller = pair.distiller(name, **own)
    assert not any(parameter.requires_grad for parameter in distiller.parameters())
    assert all(parameter.requires_grad for parameter in pair.distiller(name).parameters())
