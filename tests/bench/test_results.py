"""What a benchmark says of its numbers, and what it writes."""

import json

import pytest

from msd_sweeps.bench.results import Ratio, markdown, publish


@pytest.mark.parametrize(
    ("over", "under", "kept"),
    [
        ([1.0] * 4, [1.0] * 4, "yes"),
        ([1.2] * 4, [1.0] * 4, "no"),
        ([1.0, 1.0, 1.0, 1.2], [1.0] * 4, "yes"),  # three rounds of four agree
        ([1.2, 1.2, 1.2, 1.0], [1.0] * 4, "no"),
        ([1.0, 1.0, 1.2, 1.2], [1.0] * 4, "too noisy to judge"),
        ([0.5, 2.0, 0.5, 2.0, 0.9], [1.0] * 5, "too noisy to judge"),
        ([0.1] * 4, [-1.0] * 4, "no"),  # a negative difference proves nothing
        ([1.0], [1.0], "yes"),
    ],
)
def test_a_target_is_kept_where_the_rounds_agree(over, under, kept):
    assert Ratio("a ÷ b", over, under, 1.1).kept == kept


def test_rounds_of_a_busy_machine_are_not_judged():
    busy = [1932.0, 61.0, 900.0, 3100.0, 62.0]
    ours = [62.0, 70.0, 61.0, 63.0, 62.0]
    assert Ratio("a ÷ floor", ours, [61.0, 62.0, 61.0, 60.0, 61.0], 1.2).kept == "yes"
    assert Ratio("a ÷ floor", ours, busy, 1.2).kept == "too noisy to judge", "although every ratio is below it"
    differences = [0.1, 0.4, 0.2, 0.3, 0.1]
    assert Ratio("a ÷ b", differences, [20.0] * 5, 0.1).kept == "too noisy to judge"
    assert Ratio("a ÷ b", differences, [20.0] * 5, 0.1, measured=([60.0] * 5, ours)).kept == "yes"


def test_a_lower_bound_is_judged_from_the_other_side():
    assert Ratio("a ÷ b", [3.0] * 3, [2.0] * 3, 1.4, at_least=True).cells == [
        *("a ÷ b", "1.500", "1.500 to 1.500", "≥ 1.4", "yes")
    ]
    assert Ratio("a ÷ b", [2.0] * 3, [2.0] * 3, 1.4, at_least=True).kept == "no"
    assert Ratio("a ÷ b", [2.0, 3.0], [2.0, 2.0], 1.4, at_least=True).kept == "too noisy to judge"


def test_a_ratio_is_taken_within_each_round():
    assert Ratio("a ÷ b", [2.0, 1.0, 4.0], [4.0, 2.0, 2.0], 1).rounds == [0.5, 0.5, 2.0]


def test_tables_and_numbers_are_printed_and_written(tmp_path, capsys):
    table = markdown(["name", "ms"], [["a", "1"], ["b", "2"]])
    assert table == "| name | ms |\n|---|---|\n| a | 1 |\n| b | 2 |"
    ratio = Ratio("a ÷ b", [1.0], [2.0], 1)
    path = tmp_path / "new" / "numbers"
    publish(path, "Cost", "a on b", "`command`: 1 round", table, [ratio], {"rows": [1, 2]})
    text = path.with_suffix(".md").read_text(encoding="utf-8")
    assert text.startswith("# Cost\n\na on b.\nMade by `command`: 1 round.\n\n| name | ms |")
    assert "| a ÷ b | 0.500 |  | ≤ 1 | yes |" in text
    assert table in capsys.readouterr().out
    numbers = json.loads(path.with_suffix(".json").read_text())
    assert numbers["rows"] == [1, 2]
    assert numbers["ratios"] == [{"ratio": "a ÷ b", "rounds": [0.5], "target": 1, "kept": "yes"}]
    publish(None, "Cost", "a on b", "`command`", table, [], {})
    assert "ratio" not in capsys.readouterr().out
