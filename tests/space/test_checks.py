"""Checks of a whole sweep that the bad spaces of `test_bad_input` do not show."""

import pytest

from msd_sweeps.space.checks import check_reachable
from msd_sweeps.space.designs import Sweep
from msd_sweeps.space.errors import InputError
from msd_sweeps.space.settings import dotted
from tests.space.spaces import grid_of, make


def check(sweep: Sweep) -> None:
    check_reachable(sweep, dotted(), dotted("base "), {})


@pytest.mark.parametrize(
    "baseline", ["base", "scales=[1, 2, 4]", "base = scales=[1, 2, 4]", "scales=[1]", "KD", "kd", None]
)
def test_a_baseline_is_any_label_of_a_row(baseline):
    sections = {"also": {"KD": {"method": {"name": "kd"}}}, "report": {"baseline": baseline}}
    check(make("one_at_a_time", parameters=grid_of(scales=[[1], [1, 2, 4]]), **sections))


def test_a_baseline_of_a_search_is_a_winner_or_a_baseline():
    for baseline in ("winner 2", "none"):
        check(make("search", parameters=grid_of(scales=[[1], [2]]), report={"baseline": baseline}))
    with pytest.raises(InputError, match="no cell has the label 'winner 3'; did you mean 'winner 1' or 'winner 2'"):
        check(make("search", parameters=grid_of(scales=[[1], [2]]), report={"baseline": "winner 3"}))


def test_a_cell_beside_the_design_differs_from_every_cell_of_it():
    sections = {"parameters": grid_of(scales=[[1], [2]]), "also": {"mine": {"method.scales": [2]}}}
    with pytest.raises(InputError, match=r"also\.mine: this is the same configuration as 'scales=\[2\]'"):
        check(make("grid", **sections))


def test_every_pair_of_levels_is_checked_however_many_combinations_there_are():
    parameters = {
        f"method.{name}": {"low": 0.1, "high": 2.0}
        for name in (
            "sample_weight",
            "feature_weight",
            "ce_weight",
            "kd_weight",
            "temperature",
            "sample_temperature",
            "feature_temperature",
            "disagree_weight",
        )
    }
    parameters |= grid_of(
        regions=["all", "agree", "weighted"],
        projector=["linear", "heads"],
        tap=["last", "stages"],
        stride=["window", "half"],
    )
    sweep = make("search", parameters=parameters)
    with pytest.raises(InputError, match="'heads' reads the last feature map only"):
        list(sweep.search_corners())
    del parameters["method.tap"]
    corners = [planned.trial for planned in make("search", parameters=parameters).search_corners()]
    assert 400 < len({trial.id for trial in corners}) == len(corners) <= 2000
    pairs = {(trial.method.regions, trial.method.projector) for trial in corners}
    assert len(pairs) == 6
    weights = {(trial.method.sample_weight, trial.method.disagree_weight) for trial in corners}
    assert weights == {(0.1, 0.1), (0.1, 2.0), (2.0, 0.1), (2.0, 2.0)}
