"""The reconstruction of multi-scale decoupling, against plain loops and by its identities."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Size, Tensor
from torch.autograd import gradcheck

from msd_sweeps.distill.losses.distiller import directions
from msd_sweeps.distill.losses.msd import (
    Decoupling,
    across_regions,
    common_grid,
    feature_wise,
    info_nce,
    other_class_bias,
    region_shares,
    region_wise,
    sample_wise,
)
from msd_sweeps.space.methods import METHODS

ONLY_SAMPLE = {"ce_weight": 0.0, "feature_weight": 0.0, "sample_weight": 1.0}
ONLY_FEATURE = {"ce_weight": 0.0, "feature_weight": 1.0, "sample_weight": 0.0}


def rows(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def plain_info_nce(student: Tensor, teacher: Tensor, temperature: float, negatives=None) -> Tensor:
    """The loss of each row of [N, D], one value at a time."""
    losses = []
    for anchor in range(len(student)):
        similarity = [F.cosine_similarity(student[anchor], other, dim=0).item() for other in teacher]
        others = [
            math.exp(value / temperature)
            for index, value in enumerate(similarity)
            if index != anchor and (negatives is None or negatives(anchor, index))
        ]
        positive = math.exp(similarity[anchor] / temperature)
        losses.append(-math.log(positive / (positive + sum(others))))
    return torch.tensor(losses, dtype=torch.float64)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(3)


def test_info_nce_of_two_rows_by_hand():
    student = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    teacher = torch.tensor([[[1.0, 0.0], [0.6, 0.8]]])
    first, second = info_nce(student, teacher, 0.5)[0].tolist()
    assert first == pytest.approx(-math.log(math.exp(2) / (math.exp(2) + math.exp(1.2))))
    assert second == pytest.approx(-math.log(math.exp(1.6) / (math.exp(1.6) + 1)))


def test_at_scale_one_it_is_info_nce_on_pooled_features(make_pair):
    pair = make_pair(student=(4, 6, 8))
    found = pair.terms("msd", scales=(1,), projector="none", sample_temperature=0.2, **ONLY_SAMPLE)
    student, teacher = (taps.pooled.detach() for taps in pair.taps())
    torch.testing.assert_close(found["sample"], plain_info_nce(student, teacher, 0.2).mean())


def test_the_feature_wise_loss_contrasts_columns_of_pooled_features(make_pair):
    pair = make_pair(student=(4, 6, 8))
    found = pair.terms("msd", scales=(1,), projector="none", feature_temperature=0.3, **ONLY_FEATURE)
    student, teacher = (taps.pooled.detach().t() for taps in pair.taps())
    torch.testing.assert_close(found["feature"], plain_info_nce(student, teacher, 0.3).mean())


def windows(stride: str, scale: int):
    """Top, left and side of the windows on a 4 × 4 map."""
    side = 4 // scale
    step = side if stride == "window" else side // 2
    starts = range(0, 4 - side + 1, step)
    return [(top, left, side) for top in starts for left in starts]


@pytest.mark.parametrize("stride", ["window", "half"])
@pytest.mark.parametrize("negatives", ["other_samples", "other_classes"])
@pytest.mark.parametrize("regions", ["all", "agree", "weighted"])
def test_samples_then_regions_then_scales_are_averaged(make_pair, stride, negatives, regions):
    pair = make_pair(student=(4, 6, 8))
    choices = {"stride": stride, "negatives": negatives, "regions": regions, "disagree_weight": 3.0}
    found = pair.terms("msd", scales=(1, 2), scale_weights=(1.0, 3.0), projector="none", **choices, **ONLY_SAMPLE)
    student_taps, teacher_taps = pair.taps()
    labels = pair.batch.labels.tolist()
    per_scale = []
    for scale in (1, 2):
        total = weight_sum = 0.0
        for top, left, side in windows(stride, scale):
            window = (slice(None), slice(None), slice(top, top + side), slice(left, left + side))
            student = student_taps.last[window].mean((2, 3)).detach()
            teacher = teacher_taps.last[window].mean((2, 3)).detach()
            counts = (lambda i, j: labels[i] != labels[j]) if negatives == "other_classes" else None
            losses = plain_info_nce(student, teacher, 0.1, counts).tolist()
            says = pair.teacher.head(teacher).argmax(1).tolist()
            for loss, said, label in zip(losses, says, labels, strict=True):
                otherwise = {"all": 1.0, "agree": 0.0, "weighted": 3.0}[regions]
                weight = 1.0 if said == label else otherwise
                total, weight_sum = total + weight * loss, weight_sum + weight
        per_scale.append(total / weight_sum if weight_sum else 0.0)
    assert found["sample"].item() == pytest.approx((per_scale[0] + 3 * per_scale[1]) / 4)


def test_the_feature_wise_loss_is_the_sample_wise_loss_of_the_transposed_problem():
    student, teacher = rows(5, 3, 4), rows(5, 3, 4)
    transposed = student.transpose(0, 2), teacher.transpose(0, 2)
    torch.testing.assert_close(feature_wise(student, teacher, 0.5), sample_wise(*transposed, 0.5))


def test_a_sample_of_no_weight_is_not_in_the_columns():
    student, teacher, weights = rows(5, 3, 4), rows(5, 3, 4), torch.ones(5, 3, dtype=torch.float64)
    weights[2] = 0
    kept = [0, 1, 3, 4]
    torch.testing.assert_close(
        feature_wise(student, teacher, 0.5, weights), feature_wise(student[kept], teacher[kept], 0.5)
    )


def test_a_sample_of_double_weight_counts_twice_in_the_columns():
    student, teacher, weights = rows(4, 3, 5), rows(4, 3, 5), torch.ones(4, 3, dtype=torch.float64)
    weights[3] = 2
    twice = [0, 1, 2, 3, 3]
    torch.testing.assert_close(
        feature_wise(student, teacher, 0.5, weights), feature_wise(student[twice], teacher[twice], 0.5)
    )


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_the_mean_over_a_tiling_is_the_global_feature(scale):
    maps = rows(2, 3, 8, 8)
    regions = Decoupling(maps.shape, (8, 8), [scale])(maps)
    assert regions.shape == (2, scale**2, 3)
    torch.testing.assert_close(regions.mean(1), maps.mean((2, 3)))


@pytest.mark.parametrize("side", [7, 8, 14])
def test_windows_cover_the_map_and_no_two_settings_share_them(side):
    maps, seen = rows(1, 1, side, side), set()
    for stride, scale in itertools.product(("window", "half"), range(1, side + 1)):
        matrix = Decoupling(maps.shape, (side, side), [scale], stride).matrix
        assert matrix.sum(1).allclose(torch.ones(len(matrix)))
        assert (matrix > 0).any(0).all(), f"{stride}, scale {scale}: a pixel is in no window"
        assert len(matrix) == (scale if stride == "window" else 2 * scale - 1) ** 2
        windows_here = tuple(map(tuple, (matrix > 0).tolist()))
        is_refused = stride == "half" and 2 * scale == side  # beside window at scale side - 1: see tests/space
        assert windows_here not in seen or scale == 1 or is_refused
        seen.add(windows_here)


@pytest.mark.parametrize(("side", "scale"), [(8, 1), (8, 2), (8, 4), (14, 7)])
def test_where_half_a_window_is_whole_lines_it_is_the_stride_of_a_pooling_layer(side, scale):
    maps = rows(2, 3, side, side)
    window = side // scale
    expected = F.avg_pool2d(maps, window, stride=max(1, window // 2))
    found = Decoupling(maps.shape, (side, side), [scale], "half")(maps)
    torch.testing.assert_close(found, expected.flatten(2).transpose(1, 2), rtol=1e-6, atol=1e-6)


def test_a_tiling_is_that_of_the_pooling_layer():
    maps = rows(2, 3, 7, 7)
    found = Decoupling(maps.shape, (7, 7), [3])(maps)
    torch.testing.assert_close(found, F.adaptive_avg_pool2d(maps, 3).flatten(2).transpose(1, 2), rtol=1e-6, atol=1e-6)


def test_the_larger_map_is_pooled_down_first():
    large, small = rows(2, 3, 8, 8), rows(2, 3, 4, 4)
    assert common_grid(large.shape, small.shape) == (4, 4)
    decoupling = Decoupling(large.shape, (4, 4), (1, 2), "half")
    expected = Decoupling(small.shape, (4, 4), (1, 2), "half")(F.adaptive_avg_pool2d(large, 4))
    torch.testing.assert_close(decoupling(large), expected)
    assert decoupling.counts == [1, 9]


def test_memory_formats_do_not_matter():
    maps = rows(2, 3, 4, 4)
    decoupling = Decoupling(maps.shape, (4, 4), (1, 2))
    torch.testing.assert_close(decoupling(maps.contiguous(memory_format=torch.channels_last)), decoupling(maps))


def test_a_scale_finer_than_the_map_is_an_error():
    with pytest.raises(ValueError, match=r"scale 3 is finer than the 2 × 4 feature map; its finest is 2"):
        Decoupling(Size((1, 5, 4, 4)), (2, 4), [3])


def test_no_projector_needs_equal_widths(pair):
    with pytest.raises(ValueError, match="the student taps 6 channels and the teacher 8"):
        pair.distiller("msd", projector="none")


def test_heads_compare_the_logits_of_regions(pair):
    found = pair.terms("msd", scales=(1,), projector="heads", **ONLY_SAMPLE)
    student, teacher = (taps.logits.detach() for taps in pair.taps())
    torch.testing.assert_close(found["sample"], plain_info_nce(student, teacher, 0.1).mean())
    assert not list(pair.distiller("msd", projector="heads").parameters())


def test_a_linear_projector_takes_the_student_to_the_teacher(pair):
    distiller = pair.distiller("msd", scales=(1,), **ONLY_SAMPLE)
    student, teacher = pair.taps()
    projected = distiller.projectors[0](student.pooled).detach()
    expected = plain_info_nce(projected, teacher.pooled.detach(), 0.1).mean()
    torch.testing.assert_close(distiller(student, teacher, pair.batch)["sample"].detach(), expected)


def test_stages_are_averaged(make_pair):
    pair = make_pair(student=(4, 6, 8))
    found = pair.terms("msd", scales=(1,), projector="none", tap="stages", **ONLY_SAMPLE)
    expected = [
        plain_info_nce(own.mean((2, 3)).detach(), target.mean((2, 3)).detach(), 0.1).mean()
        for own, target in zip(*(taps.stages for taps in pair.taps()), strict=True)
    ]
    torch.testing.assert_close(found["sample"], torch.stack(expected).mean())


def test_no_agreeing_region_gives_zero(pair):
    absent = pair._replace(batch=pair.batch._replace(labels=torch.full((6,), -1)))
    distiller = pair.distiller("msd", ce_weight=0.0, regions="agree")
    terms = distiller(*absent.taps(), absent.batch)
    assert {name: term.item() for name, term in terms.items()} == {"sample": 0.0, "feature": 0.0}
    sum(terms.values()).backward()
    assert all(parameter.grad.isfinite().all() for parameter in distiller.parameters())


def test_no_negative_gives_zero(pair):
    labels = torch.zeros(6, dtype=torch.int64)
    alike = pair._replace(batch=pair.batch._replace(labels=labels))
    terms = alike.terms("msd", negatives="other_classes", **ONLY_SAMPLE)
    assert terms["sample"].item() == 0.0
    assert other_class_bias(torch.tensor([1, 1, 2]), torch.float64).isinf().tolist() == [
        [False, True, False],
        [True, False, False],
        [False, False, False],
    ]


def test_shares_of_a_scale_without_weight_are_zero_and_the_others_sum_to_theirs():
    weights = torch.tensor([[1.0, 0.0, 0.0], [3.0, 0.0, 0.0]])
    shares = region_shares(weights, [1, 2], [1.0, 1.0])
    assert shares.tolist() == [[0.125, 0, 0], [0.375, 0, 0]]
    assert region_shares(torch.ones(2, 3), [1, 2], [1.0, 3.0]).sum(0).tolist() == pytest.approx([0.25, 0.375, 0.375])


def test_the_right_pairs_are_best(equal_pair):
    """A student equal to its teacher does better than one whose samples are exchanged."""
    distiller = equal_pair.distiller("msd", projector="none", ce_weight=0.0)
    student, teacher = equal_pair.taps()
    right = distiller(student, teacher, equal_pair.batch)
    swapped = student._replace(last=student.last.roll(1, 0))
    wrong = distiller(swapped, teacher, equal_pair.batch)
    assert all(right[name] < wrong[name] for name in ("sample", "feature"))


def test_lengths_do_not_matter():
    student, teacher = rows(4, 2, 3), rows(4, 2, 3)
    torch.testing.assert_close(sample_wise(7 * student, teacher, 0.1), sample_wise(student, teacher / 9, 0.1))


def test_a_zero_row_has_no_direction_and_no_gradient():
    zero = torch.zeros(2, 3, requires_grad=True)
    directions(zero).sum().backward()
    assert directions(zero).tolist() == zero.tolist()
    assert zero.grad.tolist() == zero.tolist()


def test_gradients():
    student, teacher = rows(4, 2, 3).requires_grad_(), rows(4, 2, 3)
    bias = other_class_bias(torch.tensor([0, 1, 0, 2]), torch.float64)
    assert gradcheck(lambda own: sample_wise(own, teacher, 0.4), student)
    assert gradcheck(lambda own: sample_wise(own, teacher, 0.4, bias), student)
    assert gradcheck(lambda own: feature_wise(own, teacher, 0.4), student)
    weights = torch.tensor([[1.0, 0.0], [2.0, 1.0], [0.5, 1.0], [1.0, 3.0]], dtype=torch.float64)
    assert gradcheck(lambda own: feature_wise(own, teacher, 0.4, weights), student)
    assert gradcheck(directions, student)
    maps = rows(2, 3, 4, 4).requires_grad_()
    assert gradcheck(Decoupling(maps.shape, (4, 4), (1, 2), "half"), maps)


def test_the_regions_of_a_sample_are_told_apart():
    """The second reading of the feature-wise loss, one value at a time."""
    student, teacher = rows(3, 4, 5), rows(3, 4, 5)
    found = region_wise(student, teacher, 0.4)
    assert found.shape == (4, 3)
    for sample in range(3):
        torch.testing.assert_close(found[:, sample], plain_info_nce(student[sample], teacher[sample], 0.4))


def test_two_regions_by_hand():
    student = torch.tensor([[[2.0, 0.0], [0.0, 3.0]]])
    teacher = torch.tensor([[[1.0, 0.0], [3.0, 4.0]]])
    first, second = region_wise(student, teacher, 0.5)[:, 0].tolist()
    assert first == pytest.approx(-math.log(math.exp(2) / (math.exp(2) + math.exp(1.2))))
    assert second == pytest.approx(-math.log(math.exp(1.6) / (math.exp(1.6) + 1)))


def test_all_regions_of_a_scale_are_told_apart_in_one_set():
    student, teacher = rows(3, 4, 5), rows(3, 4, 5)
    expected = plain_info_nce(student.flatten(0, 1), teacher.flatten(0, 1), 0.3)
    torch.testing.assert_close(across_regions(student, teacher, 0.3), expected.view(3, 4).t())
    one_region = rows(3, 1, 5), rows(3, 1, 5)
    torch.testing.assert_close(across_regions(*one_region, 0.3), sample_wise(*one_region, 0.3))


@pytest.mark.parametrize("regions", ["all", "agree", "weighted"])
def test_scale_one_takes_no_part_where_regions_are_paired(make_pair, regions):
    pair = make_pair(student=(4, 6, 8))
    settings = {"projector": "none", "feature_pairs": "regions", "regions": regions, **ONLY_FEATURE}
    both, alone = (pair.terms("msd", scales=scales, **settings)["feature"] for scales in ((1, 2), (2,)))
    torch.testing.assert_close(both, alone)
    assert both > 0


def test_scale_weights_count_among_the_scales_that_take_part(make_pair):
    pair = make_pair(student=(4, 6, 8))
    settings = {"projector": "none", "feature_pairs": "regions", **ONLY_FEATURE}
    two, four = (pair.terms("msd", scales=(scale,), **settings)["feature"] for scale in (2, 4))
    found = pair.terms("msd", scales=(1, 2, 4), scale_weights=(5.0, 3.0, 1.0), **settings)["feature"]
    torch.testing.assert_close(found, 0.75 * two + 0.25 * four)


@pytest.mark.parametrize("choices", [{"scales": (1,)}, {"scales": (1, 2), "scale_weights": (1.0, 0.0)}])
def test_regions_cannot_be_paired_at_scale_one_alone(choices):
    with pytest.raises(ValueError, match="'regions' needs a scale above 1"):
        METHODS["msd"](name="msd", feature_pairs="regions", **choices)
    METHODS["msd"](name="msd", feature_pairs="regions", feature_weight=0.0, **choices)
