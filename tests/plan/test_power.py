"""What a plan can see: the family that the page has, and differences that its rule finds four times in five."""

import re

import numpy as np
import pytest

from msd_sweeps.plan.plan import Plan
from msd_sweeps.plan.power import detectable, what_is_seen
from msd_sweeps.records.step_times import record_spread, recorded_spread
from msd_sweeps.records.trial_record import trials_of
from msd_sweeps.report import stats
from msd_sweeps.report.frames import read
from msd_sweeps.report.results import results_of
from msd_sweeps.space.compared import comparisons_planned
from msd_sweeps.space.load import load
from tests.synthetic_ledger import Recipe, make_sweep, records, write


@pytest.mark.parametrize(
    "sweep",
    [
        *(make_sweep(design) for design in ("grid", "one_at_a_time", "leave_one_out", "search")),
        *(load(name) for name in ("methods", "ablation", "scales", "scales_grid", "scales_temperature", "screening")),
    ],
    ids=lambda sweep: sweep.name,
)
def test_the_plan_counts_the_comparisons_that_the_page_makes(sweep, tmp_path):
    results = results_of(read(write(tmp_path, records(sweep, Recipe(score=lambda config: 90.0)))))
    assert comparisons_planned(sweep) == results.family.size


@pytest.mark.parametrize("n", [3, 5, 10])
@pytest.mark.parametrize("m", [1, 4, 16])
def test_what_the_plan_sees_is_found_four_times_in_five(n, m):
    draw, found, tables = np.random.default_rng(n), 0, 600
    for _ in range(tables):
        values = draw.normal(size=(m + 1, n)) + 0.6 * draw.normal(size=n)
        values[-1] += detectable(n, m)
        cells = [dict(enumerate(row)) for row in values.tolist()]
        pairs = [(cell, cells[0]) for cell in cells[1:]]
        found += stats.Family(m, (n,)).differences(stats.estimates(pairs))[-1].interval.excludes_zero
    # 80 % where rows share their variances wholly, which three seeds hardly show.
    assert (0.7 if n == 3 else 0.76) <= found / tables <= 0.86


def test_the_plan_says_it_with_the_spread_that_it_assumes():
    sweep = load("methods", settings=["seeds=[0, 1, 2, 3, 4]"])
    (line,) = re.findall("^sees +(.*)$", Plan(sweep).text(None), re.MULTILINE)
    m = comparisons_planned(sweep)
    seen = f"{0.3 * detectable(5, m):.2g}"
    given = "given a spread of 0.3, which is assumed"
    assert line == f"at n = 5 differences of {seen} points and more (80 %; {m} comparisons, {given})"
    assert "a spread of 0.6, as an earlier sweep had it" in what_is_seen(sweep, 0.6)
    assert what_is_seen(load("methods", settings=["seeds=[0]"]), None).startswith("no difference: one seed")


def test_the_spread_of_a_sweep_serves_the_next_plan(tmp_path):
    sweep = make_sweep("grid", seeds=list(range(40)))
    recipe = Recipe(score=lambda config: 70.0, seed_spread=2.0, spread=0.5, luck={})
    trials = trials_of(list(records(sweep, recipe)))
    assert recorded_spread(tmp_path, sweep.base, "test_top1") is None
    record_spread(tmp_path, sweep.base, "test_top1", trials.values())
    assert recorded_spread(tmp_path, sweep.base, "test_top1") == pytest.approx(0.5, rel=0.15)
