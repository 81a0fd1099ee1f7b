"""Screening designs are orthogonal, and what they cannot tell apart is what they say."""

import itertools
from collections import Counter

import pytest

from msd_sweeps.plan.plan import Plan
from msd_sweeps.space.load import load
from msd_sweeps.space.screening import Layout, lay_out

DESIGNS = [
    ([2] * 8, 16, "IV"),
    ([2] * 5, 16, "V or more"),
    ([2] * 6, 16, "IV"),
    ([2] * 15, 16, "III"),
    ([2] * 7, 32, "IV"),
    ([2] * 16, 32, "IV"),
    ([2] * 8, 64, "V or more"),
    ([2] * 11, 12, "III"),
    ([2] * 19, 20, "III"),
    ([2] * 23, 24, "III"),
    ([3] * 4, 9, "III"),
    ([3] * 4, 27, "IV"),
    ([3] * 13, 27, "III"),
    ([3] * 40, 81, "III"),
    ([2] + [3] * 7, 18, "III"),
    ([3, 2, 3], 18, "V or more"),
    ([2] * 11 + [3] * 12, 36, "III"),
    ([2, 3, 2, 3, 3], 36, "III"),
    ([4, 2, 2, 2], 16, "IV"),
    ([4, 2, 4, 2, 2, 2], 16, "III"),
    ([4, 2, 2, 2, 2, 2], 32, "IV"),
]


@pytest.mark.parametrize(("levels", "cells", "resolution"), DESIGNS, ids=lambda value: str(value)[:20])
def test_every_pair_of_levels_is_there_equally_often(levels, cells, resolution):
    layout = lay_out(levels, cells)
    assert len(layout.cells) == len(set(layout.cells)) == cells
    for one, other in itertools.combinations(range(len(levels)), 2):
        counts = Counter((row[one], row[other]) for row in layout.cells)
        assert len(counts) == levels[one] * levels[other]
        assert len(set(counts.values())) == 1
    if len(levels) <= 16:
        assert layout.resolution == resolution


def test_eight_factors_in_sixteen_cells_have_seven_strings_of_four():
    """The fraction 2^(8-4) of resolution IV: Box, Hunter and Hunter (2005), table 6.22."""
    layout = lay_out([2] * 8, 16)
    assert not layout.shared
    assert sorted(map(len, layout.estimable)) == [4] * 7
    assert sum(map(len, layout.estimable)) == 28


def test_a_plackett_burman_design_mixes_each_effect_with_a_ninth_of_every_other_interaction():
    """Their correlation is 1/3 in twelve cells (Hamada and Wu, Journal of Quality Technology, 1992)."""
    layout = lay_out([2] * 11, 12)
    assert len(layout.shared) == 11 * 45
    assert all(share == pytest.approx(1 / 9) for share in layout.shared.values())
    assert layout.estimable == []
    assert "a is mixed with up to 11% of each of 45 interactions" in layout.aliases("abcdefghijk")


def test_a_half_fraction_is_worked_by_hand():
    """The third factor is the sum of the others: every main effect is one interaction, and the signs are plus."""
    layout = Layout((2, 2, 2), ((0, 0, 0), (1, 0, 1), (0, 1, 1), (1, 1, 0)))
    assert layout.resolution == "III"
    assert layout.aliases("abc") == [
        "a = b × c",
        "b = a × c",
        "c = a × b",
        "3 of 3 interactions of two cannot be estimated",
    ]


def test_without_a_number_of_cells_main_effects_are_clear_of_interactions_where_that_can_be():
    assert [len(lay_out([2] * count).cells) for count in (3, 4, 5, 8, 9, 16)] == [8, 8, 16, 16, 32, 32]
    assert len(lay_out([3] * 3).cells) == 27
    assert len(lay_out([2] + [3] * 4).cells) == 18


@pytest.mark.parametrize(
    ("levels", "cells", "said"),
    [
        ([2, 5], None, "2 to 4 levels, found 5"),
        ([2, 1], None, "2 to 4 levels, found 1"),
        ([2] * 8, 8, "8 factors do not fit 8 cells; these fit: 12, 16, 20, 24, 32, 64"),
        ([2, 3, 4], None, "a grid has no more than 24 cells here: use design: grid"),
    ],
)
def test_a_design_that_there_is_not_is_refused(levels, cells, said):
    with pytest.raises(ValueError, match=said):
        lay_out(levels, cells)


def test_the_plan_names_cells_resolution_and_aliases():
    text = Plan(load("screening")).text(None)
    assert "cell 16    scales=[1, 2, 4], stride=half, projector=linear" in text
    assert "resolution IV, 16 of 256 combinations" in text
    assert "aliased    scales × stride = projector × negatives = regions × feature_pairs = tap × logits" in text
    assert "144 = 16 cells x 9 seeds" in text
