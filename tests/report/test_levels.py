"""A row's label, factor and level are what the plan recorded, also where one choice contains another."""

import pytest

from msd_sweeps.report.comparisons import cell_named
from msd_sweeps.report.frames import read
from msd_sweeps.report.results import parameter_slices, results_of
from tests.synthetic_ledger import Recipe, make_sweep, records, write

NESTED = {
    "plain": {},
    "light": {"method.sample_weight": 0.5},
    "light+kd": {"method.sample_weight": 0.5, "method.kd_weight": 0.9},
}
"""Each contains the one before, so each fits every trial of those after it."""
WORTH = {"plain": 80.0, "light": 83.0, "light+kd": 90.0}
SCALES = {"choices": [[1], [1, 2]]}


def worth(config):
    """What a variant is worth, and a quarter of a point for each scale."""
    method = config["method"]
    name = "plain" if method["sample_weight"] == 1.0 else "light+kd" if method["kd_weight"] else "light"
    return WORTH[name] + 0.25 * len(method["scales"])


EXACT = Recipe(score=worth, spread=0.0, seed_spread=0.0)


def measured(folder, design, baseline=None, **changes):
    changes = {"also": {}, "seeds": [0, 1, 2], "report": {"baseline": baseline}} | changes
    if design == "search":
        del changes["also"], changes["seeds"]
        changes["confirm"] = {"top_k": 2, "seeds": [1, 2, 3], "baselines": {}}
    return results_of(read(write(folder, records(make_sweep(design, **changes), EXACT))))


def effects_of(results):
    columns = ["factor", "level", "reference", "difference", "pairs"]
    return [tuple(row) for row in results.effects[columns].itertuples(index=False)]


def means_of(results):
    return results.table.set_index("label")["mean"].drop("teacher resnet20").to_dict()


def test_choices_that_contain_one_another_have_rows_and_effects_of_their_own_in_a_grid(tmp_path):
    parameters = {"variant": {"choices": NESTED}, "method.scales": SCALES}
    results = measured(tmp_path, "grid", parameters=parameters)
    assert means_of(results) == {
        f"variant={name}, scales={scales}": WORTH[name] + 0.25 * len(scales)
        for name in NESTED
        for scales in SCALES["choices"]
    }
    assert effects_of(results) == [
        ("variant", "light", "plain", 3.0, 3),
        ("variant", "light+kd", "plain", 10.0, 3),
        ("scales", "[1, 2]", "[1]", 0.25, 3),
        ("variant × scales", "effect of light at [1, 2]", "its effect at [1]", 0.0, 3),
        ("variant × scales", "effect of light+kd at [1, 2]", "its effect at [1]", 0.0, 3),
    ]


def test_choices_that_contain_one_another_have_rows_and_effects_of_their_own_one_at_a_time(tmp_path):
    parameters = {"variant": {"choices": NESTED}, "method.scales": SCALES}
    results = measured(tmp_path, "one_at_a_time", "variant=plain", parameters=parameters)
    assert means_of(results) == {
        "base = variant=plain": 80.75,
        "variant=light": 83.75,
        "variant=light+kd": 90.75,
        "scales=[1]": 80.25,
        "scales=[1, 2]": 80.5,
    }
    assert effects_of(results) == [
        ("variant", "light", "plain", 3.0, 3),
        ("variant", "light+kd", "plain", 10.0, 3),
        ("scales", "[1]", "base", -0.5, 3),
        ("scales", "[1, 2]", "base", -0.25, 3),
    ]
    assert results.baseline.label == "base = variant=plain"


def test_parts_that_contain_one_another_have_rows_and_effects_of_their_own(tmp_path):
    parts = {name: changes for name, changes in NESTED.items() if changes}
    results = measured(tmp_path, "leave_one_out", without=parts)
    assert means_of(results) == {"full": 80.75, "without light": 83.75, "without light+kd": 90.75}
    assert effects_of(results) == [("left out", "light", "full", 3.0, 3), ("left out", "light+kd", "full", 10.0, 3)]


def test_a_search_knows_what_was_chosen_and_which_trial_a_winner_comes_from(tmp_path):
    parameters = {"variant": {"choices": NESTED}, "method.sample_temperature": {"low": 0.03, "high": 1.0, "log": True}}
    changes = {"parameters": parameters, "search": {"num_samples": 120, "val_fraction": 0.25}}
    results = measured(tmp_path, "search", scheduler={"type": "none"}, **changes)
    trials = results.frames.trials[results.frames.trials["phase"] == "search"]
    of_choice = {(1.0, 0.0): "plain", (0.5, 0.0): "light", (0.5, 0.9): "light+kd"}
    weights = zip(trials["method.sample_weight"], trials["method.kd_weight"], strict=True)
    variants = parameter_slices(results.frames)["variant"].sort_values("number")["level"].tolist()
    assert variants == [of_choice[pair] for pair in weights]
    assert set(variants) == set(NESTED)
    assert results.importances["parameter"].iloc[0] == "variant"
    scores = trials.set_index("trial")["val_top1"]
    winners = [cell for cell in results.cells if cell.label.startswith("winner")]
    assert [cell.search_score for cell in winners] == scores.nlargest(2).tolist()
    for cell in winners:
        record = results.frames.records[cell.search_trial]
        assert cell.search_score == scores[cell.search_trial]
        assert cell.levels == record.levels
        assert cell.trial.method == record.configuration.method


def test_a_winner_that_is_a_baseline_too_is_one_row_with_both_names(tmp_path):
    sweep = make_sweep("search", scheduler={"type": "none"})
    every = list(records(sweep))
    kept = [record for record in every if record["event"] != "start" or record["label"] != "winner 1"]
    trials = {record["trial"] for record in kept if record["event"] == "start"}
    for record in kept:
        if record["event"] == "start" and record["label"] == "kd":
            record["label"] = "kd = winner 1"
    results = results_of(read(write(tmp_path, [r for r in kept if r.get("trial", "") in {"", *trials}])))
    assert [cell.label for cell in results.cells] == ["none", "kd = winner 1", "winner 2"]
    assert [cell.planned for cell in results.cells] == [3, 3, 3]
    assert results.baseline is results.cells[1]


@pytest.mark.parametrize("design", ["grid", "one_at_a_time"])
def test_levels_that_give_the_same_trials_are_one_row_and_one_level_with_both_names(tmp_path, design):
    same = {"plain": {}, "written out": {"method.sample_weight": 1.0}, "light": NESTED["light"]}
    results = measured(tmp_path, design, "variant=written out", parameters={"variant": {"choices": same}})
    label = "base = " * (design == "one_at_a_time") + "variant=plain = variant=written out"
    assert means_of(results) == {label: 80.75, "variant=light": 83.75}
    assert effects_of(results) == [("variant", "light", "plain = written out", 3.0, 3)]
    assert results.baseline.label == label
    for name in (label, "variant=plain", "Variant=Written out"):
        assert cell_named(results.cells, name) is results.baseline
    assert cell_named(results.cells, "plain") is None


def test_a_part_that_leaves_nothing_out_is_the_full_method(tmp_path):
    parts = {"nothing": {"method.sample_weight": 1.0}, "light": NESTED["light"]}
    results = measured(tmp_path, "leave_one_out", "full", without=parts)
    assert means_of(results) == {"full = without nothing": 80.75, "without light": 83.75}
    assert effects_of(results) == [("left out", "light", "full = nothing", 3.0, 3)]


def test_levels_that_differ_in_the_fifth_digit_are_told_apart(tmp_path):
    parameters = {"method.sample_temperature": {"choices": [0.12341, 0.12342, 0.5]}}
    results = measured(tmp_path, "grid", parameters=parameters)
    assert list(results.factors[0].levels.items()) == [("0.12341", 0.12341), ("0.12342", 0.12342), ("0.5", 0.5)]
    assert len(means_of(results)) == len(results.factors[0].values) == 3


def test_a_choice_that_is_named_like_the_base_is_not_the_base(tmp_path):
    choices = {"base": NESTED["light"], "light+kd": NESTED["light+kd"]}
    results = measured(tmp_path, "one_at_a_time", parameters={"variant": {"choices": choices}})
    assert effects_of(results) == [
        ("variant", "base", "the base", 3.0, 3),
        ("variant", "light+kd", "the base", 10.0, 3),
    ]


def test_a_parameter_that_does_not_count_has_the_level_of_the_base(tmp_path):
    """At weight 0 there is one cell for all temperatures; it stands beside the base's temperature."""
    parameters = {
        "method.sample_weight": {"choices": [0.0, 1.0]},
        "method.sample_temperature": {"choices": [0.1, 0.2], "when": "method.sample_weight > 0"},
    }
    sweep = make_sweep("grid", parameters=parameters, also={}, seeds=[0, 1, 2])
    exact = Recipe(spread=0.0, seed_spread=0.0, score=lambda config: 80.0 + 5 * config["method"]["sample_weight"])
    results = results_of(read(write(tmp_path, records(sweep, exact))))
    assert effects_of(results)[0] == ("sample_weight", "0", "1", -5.0, 3)
    assert effects_of(results)[1][:3] == ("sample_temperature", "0.2", "0.1")


def test_a_cell_that_differs_in_the_data_seed_alone_has_its_own_row(tmp_path):
    """The hash of a cell leaves the data seed out."""
    results = measured(tmp_path, "leave_one_out", without={"light": NESTED["light"]}, also={"order": {"data_seed": 5}})
    assert list(means_of(results)) == ["full", "without light", "order"]
    assert all(len(cell.values) == 3 for cell in results.cells)
