"""The plan: counts that are true, words that are plain, times that were measured."""

import pytest

from msd_sweeps.plan.plan import Plan
from msd_sweeps.space.console import duration
from msd_sweeps.space.load import load


def lines_of(sweep, slots=None, step_seconds=None) -> dict[str, list[str]]:
    """The lines of a plan by their first word."""
    lines: dict[str, list[str]] = {}
    for line in Plan(sweep, step_seconds).text(slots).splitlines():
        word, _, rest = line.partition(" ")
        lines.setdefault(word, []).append(rest.strip())
    return lines


def test_a_search_tells_its_parts_and_their_sum():
    sweep = load("scales", num_samples=5)
    assert Plan(sweep).trials == 2 * 5 + 2 * 10 + 2 * 10
    lines = lines_of(sweep)
    assert lines["trials"] == [
        "50 = 2 searches x 5 search samples (tpe, stopped early by asha) + "
        "4 cells (1 winner of msd and of kd, none, kd) x 10 seeds"
    ]
    assert "method.scales: one of [1], [2], [1, 2], [1, 2, 4], when method == msd" in lines["parameter"]
    assert "method.sample_weight: 0.1 to 4, logarithmic, when method == msd" in lines["parameter"]
    assert lines["pair"][0].startswith("resnet20 -> resnet8 on digits, method msd, 12 epochs of 8 steps")


def test_several_metrics_are_shown_with_their_modes():
    several = [
        "metric=[{name: val_top1}, {name: student_multiply_adds}]",
        "scheduler.type=none",
        "search.each=null",
        "report.baseline=kd",
        "parameters={student.model: {choices: [resnet8, resnet14]}}",
    ]
    (line,) = lines_of(load("scales", settings=several))["sweep"]
    assert line.startswith("scales: search by the Pareto front of val_top1 (max) and student_multiply_adds (min), base")


def test_a_design_tells_cells_and_seeds():
    sweep = load("ablation", settings=["seeds=[0, 1]"])
    lines = lines_of(sweep)
    assert lines["trials"] == ["16 = 8 cells x 2 seeds"]
    assert "regions for channels" in lines["cell"]
    assert Plan(sweep).trials == len(sweep.fixed_trials) == 16


def test_whole_numbers_and_steps_are_shown():
    parameters = "{recipe.epochs: {low: 2, high: 9}, method.temperature: {low: 1.0, high: 8.0, step: 0.5}}"
    whole = [f"parameters={parameters}", "search.each=null", "report.baseline=kd"]
    lines = lines_of(load("scales", settings=whole))
    assert lines["parameter"] == ["recipe.epochs: whole numbers 2 to 9", "method.temperature: 1 to 8 in steps of 0.5"]


def test_time_is_trials_by_epochs_by_steps_over_slots():
    sweep = load("ablation", settings=["seeds=[0]", "recipe.epochs=10"])
    slots = Plan(sweep).slots_on([{"CPU": 4}])
    seconds = 8 * 10 * sweep.base.steps_per_epoch * 2.0 / slots.slots
    assert lines_of(sweep, slots, 2.0)["time"] == [
        f"about {duration(seconds)} of training at 2000 ms a step, "
        "and Ray's start-up, which has not been timed here yet"
    ]
    text = Plan(sweep, 2.0, start_seconds=50.0).text(slots)
    assert f"about {duration(seconds + 50)}: 50 s of start-up, as last time here, and {duration(seconds)} of tr" in text
    assert Plan(sweep, 2.0).training_seconds(slots, done=8 * 10 - 1) == pytest.approx(seconds / 80)
    assert lines_of(sweep, slots)["time"][0].startswith("unknown: no step of this pair has been timed here yet")


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
    assert duration(seconds) == words


def test_slots_here_are_those_of_this_machine_which_does_not_grow():
    plan = Plan(load("ablation", settings=["resources.use_gpu=false"]))
    slots = plan.slots_here(cpus=2)
    assert slots.most == slots.slots
    assert slots.slots * slots.threads <= 2
    assert plan.slots_on([{"CPU": 64}]).most > 0


def test_a_pack_that_was_measured_takes_the_place_of_the_estimated_one():
    sweep = load("ablation")
    assert Plan(sweep, measured_pack=3).slots_on([{"CPU": 1, "GPU": 1}]).pack == 3


HEAVY = ["student.model=resnet32x4", "method.projector=linear", "recipe.batch_size=256"]


@pytest.mark.parametrize(
    ("settings", "workers", "says"),
    [
        ([], 1, "a slot for each GPU, because a step of resnet8 is"),
        ([], 2, "num_workers: 1 would train a student on each GPU instead"),
        (HEAVY, 1, "num_workers divides its batch among several"),
        (HEAVY, 2, "is divided among the workers of a slot"),
    ],
)
def test_a_plan_on_gpus_says_why_they_have_slots_of_their_own_or_share_one(settings, workers, says):
    sweep = load("ablation", settings=["seeds=[0]", f"resources.num_workers={workers}", *settings])
    plan = Plan(sweep)
    slots = plan.slots_on([{"CPU": 8, "GPU": 2}])
    assert (slots.slots, slots.num_workers) == (2 // workers, workers)
    lines = plan.text(slots).splitlines()
    assert says in lines[next(place for place, line in enumerate(lines) if line.startswith("slots ")) + 1]
