"""Parameters with a condition: read safely, checked while planning, laid out and sampled only where they count."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msd_sweeps.space.conditions import parse_condition
from tests.space.spaces import BASE, make

WEIGHT = {"choices": [0.0, 1.0, 2.0]}
TEMPERATURE = {"choices": [0.05, 0.2], "when": "method.feature_weight > 0"}


@pytest.mark.parametrize(
    ("text", "holds", "fails"),
    [
        ("a.b > 0", [0.1, 2], [0, -1, "1", None, True, [1]]),
        ("a>=1", [1, 1.0], [0.99]),
        ("a < 1e-3", [0], [0.001]),
        ("a<=2", [2], [3]),
        ("a == 1", [1, 1.0], [2, "1", True, None]),
        ("a == word", ["word"], ["other", None]),
        ("a != word", ["other", None, 1], ["word"]),
        ("a == [1, 2]", [[1, 2], (1, 2)], [[1], [1, 2, 4], "12"]),
        ("a in [agree, weighted]", ["agree"], ["all", "agre"]),
        ("a in [[1], [1, 2]]", [[1], (1, 2)], [1, [2]]),
        ("a == null", [None], [0]),
        ("a == true", [True], [1, "true"]),
        ('a == "1"', ["1"], [1]),
        ("a.b == two words", ["two words"], ["two"]),
        ("a == b == c", ["b == c"], ["c"]),
    ],
)
def test_a_condition_is_read_and_compared(text, holds, fails):
    condition = parse_condition(text)
    assert [condition.holds(value) for value in holds] == [True] * len(holds)
    assert [condition.holds(value) for value in fails] == [False] * len(fails)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "a >",
        "> 0",
        "a = 0",
        "a => 0",
        "a in 3",
        "a in []",
        "a > word",
        "a > [1]",
        "a == {b: 1}",
        "a b > 0",
        "a == !!python/name:os.system x",
        "a > " + "1" * 400,
        "a in [1",
        "not a > 0",
        "__import__('os').system('x')",
    ],
)
def test_what_is_no_condition_is_refused(text):
    with pytest.raises(ValueError, match="expected"):
        parse_condition(text)


@given(st.text(max_size=60))
def test_any_text_is_a_condition_or_refused(text):
    with contextlib.suppress(ValueError):
        assert parse_condition(text).subject in text


def test_combinations_of_a_grid_that_differ_in_nothing_that_counts_are_one_cell():
    sweep = make("grid", parameters={"method.feature_temperature": TEMPERATURE, "method.feature_weight": WEIGHT})
    cells = {planned.label: planned.trial.method for planned in sweep.fixed_trials}
    assert list(cells) == [
        "feature_weight=0.0",
        *(f"feature_weight={w}, feature_temperature={t}" for w in ("1.0", "2.0") for t in (0.05, 0.2)),
    ]
    assert cells["feature_weight=0.0"].feature_temperature == BASE.method.feature_temperature


def test_a_condition_on_a_condition_counts_in_order():
    chain = {
        "method.kd_weight": {"choices": [0.0, 1.0], "when": "method.feature_temperature == 0.2"},
        "method.feature_temperature": TEMPERATURE,
        "method.feature_weight": WEIGHT,
    }
    sweep = make("grid", parameters=chain)
    assert sweep.conditions.order == ["method.feature_weight", "method.feature_temperature", "method.kd_weight"]
    labels = {planned.label for planned in sweep.fixed_trials}
    assert len(labels) == 1 + 2 * (1 + 2)
    assert "feature_weight=1.0, feature_temperature=0.05" in labels
    assert "feature_weight=1.0, feature_temperature=0.2, kd_weight=0.0" in labels


def test_a_setting_of_another_method_counts_only_beside_it():
    methods = {"msd": {"method.feature_weight": 1.0}, "kd": {"method": {"name": "kd"}}}
    parameters = {
        "method": {"choices": methods},
        "method.temperature": {"choices": [1.0, 4.0], "when": "method == kd"},
        "method.scales": {"choices": [[1], [1, 2]], "when": "method == msd"},
    }
    cells = {planned.label: planned.trial.method for planned in make("grid", parameters=parameters).fixed_trials}
    assert list(cells) == [
        "method=msd, scales=[1]",
        "method=msd, scales=[1, 2]",
        "method=kd, temperature=1.0",
        "method=kd, temperature=4.0",
    ]
    assert (cells["method=kd, temperature=1.0"].name, cells["method=kd, temperature=1.0"].temperature) == ("kd", 1.0)


def test_one_at_a_time_varies_what_counts_beside_the_base():
    sweep = make(
        "one_at_a_time", parameters={"method.feature_weight": WEIGHT, "method.feature_temperature": TEMPERATURE}
    )
    labels = [planned.label for planned in sweep.fixed_trials]
    assert "feature_temperature=0.05" in labels
    assert "feature_weight=0.0" in labels


def test_a_small_conditional_space_is_counted_by_what_counts():
    sweep = make("search", parameters={"method.feature_weight": WEIGHT, "method.feature_temperature": TEMPERATURE})
    every = sweep.conditions.every_choice(5)
    assert every is not None
    assert [len(values) for values in every] == [1, 2, 2, 2, 2]
    assert sweep.conditions.every_choice(4) is None
    assert len(list(sweep.search_corners())) == 5
