"""Effects of factors recover what was put in, whatever part of a design is missing."""

import numpy as np
import pandas as pd
import pytest

from msd_sweeps.report.beside import over_tasks
from msd_sweeps.report.figures.cells import ranks
from msd_sweeps.report.frames import read
from msd_sweeps.report.results import results_of
from msd_sweeps.report.verdict import verdict
from msd_sweeps.space.load import load
from tests.synthetic_ledger import Recipe, make_sweep, records, write

STUDENTS = ("resnet8", "resnet14", "resnet20", "resnet32", "resnet44")


def measured(folder, sweep, recipe=None):
    return results_of(read(write(folder, records(sweep, recipe or Recipe()))))


def additive(config):
    """2 points a scale, 3 points a decade of temperature: nothing else, and no interaction."""
    method = config["method"]
    if method["name"] == "kd":
        return 60.0
    return 80.0 + 2.0 * len(method["scales"]) + 4.0 * np.log10(method["sample_temperature"])


EXACT = Recipe(score=additive, spread=0.0, seed_spread=0.0)


@pytest.mark.parametrize("design", ["grid", "one_at_a_time"])
def test_effects_are_what_was_put_in(tmp_path, design):
    results = measured(tmp_path, make_sweep(design), EXACT)
    frame = results.effects.set_index(["factor", "level"])["difference"]
    assert frame["scales", "[1]"] == pytest.approx(-4, abs=0.26)  # scores stand on a raster of 0.25 points
    assert frame["scales", "[1, 2]"] == pytest.approx(-2, abs=0.26)
    warmer = ("temperature", "hot") if design == "grid" else ("sample_temperature", "0.5")
    assert frame[warmer] == pytest.approx(4 * np.log10(5), abs=0.26)


def test_a_grid_with_holes_compares_only_what_both_levels_have(tmp_path):
    """Losing the worst cells of one level must not make that level look better."""

    def fail(planned):
        method = planned.trial.method
        lost = method.name == "msd" and method.scales == (1,) and method.sample_temperature < 0.3
        return ("failed", "lost") if lost and planned.trial.seed > 1 else None

    recipe = Recipe(score=additive, spread=0.0, seed_spread=0.0, fail=fail)
    results = measured(tmp_path, make_sweep("grid"), recipe)
    row = results.effects.set_index(["factor", "level"]).loc[("scales", "[1]")]
    assert row["difference"] == pytest.approx(-4, abs=0.26)
    assert row["pairs"] == 5


def test_a_level_that_always_fails_hides_no_other(tmp_path):
    def fail(planned):
        hot = planned.trial.method.name == "msd" and planned.trial.method.sample_temperature == 0.5
        return ("diverged", "too hot") if hot else None

    results = measured(tmp_path, make_sweep("grid"), Recipe(fail=fail))
    frame = results.effects.set_index(["factor", "level"])
    assert frame.loc[("temperature", "hot"), "pairs"] == 0
    assert np.isnan(frame.loc[("temperature", "hot"), "difference"])
    assert frame.loc[("temperature", "cold"), "pairs"] == 5
    assert frame.loc[("scales", "[1]"), "pairs"] == 5
    assert len(results.factors[0].values["[1]"]) == 5


def test_parts_left_out_are_compared_with_the_full_method(tmp_path):
    results = measured(tmp_path, make_sweep("leave_one_out"))
    frame = results.effects
    of_label = {cell.label: cell for cell in results.cells}
    full = of_label["full"].values
    for row in frame.to_dict("records"):
        part = of_label[f"without {row['level']}"].values
        assert row["difference"] == pytest.approx(np.mean([part[key] - full[key] for key in full]))
    assert list(frame["level"]) == list(results.frames.sweep.space.without)


def test_several_pairs_are_ranked_over_all_of_them(tmp_path):
    pairs = {"to resnet8": {"student.model": "resnet8"}, "to resnet14": {"student.model": "resnet14"}}
    methods = {name: {"method": {"name": name}} for name in ("none", "kd")} | {"msd": {"method.name": "msd"}}
    sweep = make_sweep(
        "grid", parameters={"pair": {"choices": pairs}, "with": {"choices": methods}}, also={}, seeds=[0, 1, 2]
    )
    frame = over_tasks(measured(tmp_path, sweep)).frame
    assert frame["method"].tolist()[0] == "with=msd"
    assert frame["rank"].tolist() == [1.0, 2.0, 3.0]
    assert (frame["tasks"] == 2).all()
    assert (frame["score_low"] <= frame["score"]).all()
    assert (frame["score"] <= frame["score_high"]).all()
    assert over_tasks(measured(tmp_path / "one", make_sweep("leave_one_out"))).frame.empty
    assert not list(ranks(measured(tmp_path / "two", sweep)))  # two pairs are too few
    five = {f"pair {place}": {"student.model": name} for place, name in enumerate(STUDENTS)}
    changes = {"pair": {"choices": five}, "with": {"choices": methods}}
    (plot,) = ranks(measured(tmp_path / "five", make_sweep("grid", parameters=changes, also={}, seeds=[0, 1, 2])))
    # Demšar (2006), table 5: three classifiers have q = 2.343.
    assert (plot.frame["high"] - plot.frame["low"]).tolist() == pytest.approx([2.343 * np.sqrt(12 / 30)] * 3, abs=0.003)
    assert "Mean ranks over 5 pairs" in plot.caption
    assert isinstance(frame, pd.DataFrame)


def test_a_grid_of_two_factors_shows_their_interaction(tmp_path):
    """Three scales gain 2 points at 0.3 and nowhere else; all references are the baseline's levels."""

    def score(config):
        method = config["method"]
        return 80.0 + len(method["scales"]) + 2.0 * (len(method["scales"]) == 3 and method["sample_temperature"] == 0.3)

    results = measured(tmp_path, load("scales_temperature"), Recipe(score=score, spread=0.1, epochs=1))
    rows = results.effects.set_index(["factor", "level", "reference"])
    name = "scales × sample_temperature"
    found = rows.loc[(name, "effect of {1, 2, 4} at 0.3", "its effect at 0.1")]
    assert found["difference"] == pytest.approx(2, abs=0.3)
    assert found["decision"] == "better"
    assert rows.loc[(name, "effect of {1, 2} at 0.3", "its effect at 0.1"), "difference"] == pytest.approx(0, abs=0.3)
    assert ("scales", "{1, 2}", "{1}") in rows.index
    assert results.family.size == 16  # 8 rows beside the baseline, 4 main effects and 4 interactions
    assert "No row is shown to beat" not in verdict(results)


def test_the_scales_are_answered_in_the_first_sentence(tmp_path):
    def score(config):
        return 94.0 - 3.0 * (config["method"].get("scales") == [4])

    results = measured(tmp_path, load("scales_grid"), Recipe(score=score, spread=0.1, epochs=1))
    assert verdict(results).startswith("No row is shown to beat scales=[1]; [4] (−")
    assert (results.effects["reference"] == "[1]").all()


@pytest.mark.parametrize(
    ("gains", "answer"),
    [
        ({"[4]": 3.0, "[2]": 2.0, "[1, 2]": 1.5, "[1, 2, 4]": 1.0}, "Best of 6 rows: [4]. [4] (+"),
        ({"[4]": 3.0, "[2]": 3.0, "[1, 2]": 1.5, "[1, 2, 4]": 1.0}, "Best of 6 rows: one of [2] and [4]. "),
        ({"[4]": -3.0, "[2]": -2.0, "[1, 2]": -1.5, "[1, 2, 4]": -1.0}, "Best of 6 rows: [1]. No row is shown to beat"),
        ({}, "No row is shown to beat"),  # five of six rows may be the best: that says nothing
    ],
)
def test_the_best_rows_come_first_where_few_may_be_it(tmp_path, gains, answer):
    def score(config):
        method = config["method"]
        return 50.0 + (gains.get(str(method["scales"]), 0.0) if method["name"] == "msd" else -3.0)

    results = measured(tmp_path, load("cifar100_scales"), Recipe(score=score, spread=0.1, epochs=1))
    assert verdict(results).startswith(answer)
