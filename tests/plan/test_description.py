"""The plan: counts that are true, words that are plain, times that were measured."""


import pytest

from msd_sweeps.plan import description as plan
from msd_sweeps.plan.packing import packing_of
from msd_sweeps.plan.slots import plan_slots
from msd_sweeps.space.load import load


def told(sweep, slots=None, step_seconds=None) -> dict[str, list[str]]:
    """The lines of a plan by their first word."""
    lines: dict[str, list[str]] = {}
    for line in plan.describe(sweep, slots, step_seconds).splitlines():
        word, _, rest = line.partition(" ")
        lines.setdefault(word, []).append(rest.strip())
    return lines


def test_a_search_tells_its_parts_and_their_sum():
    sweep = load("scales", num_samples=5)
    assert plan.trial_count(sweep) == 5 + 2 * 3 + 2 * 3
    lines = told(sweep)
    assert lines["trials"] == [
        "17 = 5 search samples (tpe, stopped early by asha) + 4 cells (2 winners, none, kd) x 3 seeds"
    ]
    assert "method.scales: one of [1], [2], [1, 2], [1, 2, 4]" in lines["parameter"]
    assert "method.sample_weight: 0.1 to 4, logarithmic" in lines["parameter"]
    assert lines["pair"][0].startswith("resnet20 -> resnet8 on digits, method msd, 12 epochs of 8 steps")


def test_several_metrics_are_told_with_their_modes():
    several = [
        "metric=[{name: val_top1}, {name: student_multiply_adds}]",
        "scheduler.type=none",
        "parameters={student.model: {choices: [resnet8, resnet14]}}",
    ]
    (line,) = told(load("scales", settings=several))["sweep"]
    assert line.startswith("scales: search by the Pareto front of val_top1 (max) and student_multiply_adds (min), base")


def test_a_design_tells_cells_and_seeds():
    sweep = load("ablation", settings=["seeds=[0, 1]"])
    lines = told(sweep)
    assert lines["trials"] == ["14 = 7 cells x 2 seeds"]
    assert "without categorisation" in lines["cell"]
    assert plan.trial_count(sweep) == len(sweep.fixed_trials) == 14


def test_whole_numbers_and_steps_are_told():
    parameters = "{recipe.epochs: {low: 2, high: 9}, method.temperature: {low: 1.0, high: 8.0, step: 0.5}}"
    lines = told(load("scales", settings=[f"parameters={parameters}"]))
    assert lines["parameter"] == ["recipe.epochs: whole numbers 2 to 9", "method.temperature: 1 to 8, step 0.5"]


def test_time_is_trials_by_epochs_by_steps_over_slots():
    sweep = load("ablation", settings=["seeds=[0]", "recipe.epochs=10"])
    slots = plan_slots(sweep.space.resources, [{"CPU": 4}], 7, packing_of(sweep))
    seconds = 7 * 10 * sweep.base.steps_per_epoch * 2.0 / slots.slots
    assert told(sweep, slots, 2.0)["time"] == [f"at most about {plan.duration(seconds)}, from 2000 ms a step"]
    assert told(sweep, slots)["time"][0].startswith("unknown: no step of this pair has been timed here yet")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (89, "89 s"),
        (90, "2 min"),
        (5399, "90 min"),
        (5400, "1 h 30 min"),
        (7199, "2 h 0 min"),
        (360_000, "100 h 0 min"),
    ],
)
def test_durations_in_words(seconds, words):
    assert plan.duration(seconds) == words


def test_gpus_are_those_that_the_process_may_use(monkeypatch):
    for visible, count in (("", 0), ("-1", 0), ("0", 1), ("0,2", 2), ("GPU-1234", 1)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert plan.local_gpus() == count
