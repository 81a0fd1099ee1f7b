"""The learning rate is what the recipe says."""

import pytest

from msd_sweeps.distill.student import learning_rate
from msd_sweeps.space.trial import Recipe


def rates(recipe: Recipe, steps_per_epoch: int = 10) -> list[float]:
    return [learning_rate(recipe, step, steps_per_epoch) for step in range(recipe.epochs * steps_per_epoch)]


def test_the_step_schedule_changes_after_its_milestones():
    found = rates(Recipe(epochs=6, lr=0.05, milestones=(2, 4), gamma=0.1))
    assert found[:20] == [0.05] * 20
    assert found[20:40] == pytest.approx([0.005] * 20)
    assert found[40:] == pytest.approx([0.0005] * 20)


def test_the_published_recipe():
    recipe = Recipe()
    at_epoch = {epoch: learning_rate(recipe, (epoch - 1) * 781, 781) for epoch in (1, 150, 151, 181, 211, 240)}
    assert at_epoch == pytest.approx({1: 0.05, 150: 0.05, 151: 0.005, 181: 5e-4, 211: 5e-5, 240: 5e-5})


@pytest.mark.parametrize("schedule", ["cosine", "one_cycle"])
def test_schedules_stay_between_zero_and_the_peak_and_end_low(schedule):
    found = rates(Recipe(epochs=5, lr=0.1, schedule=schedule))
    assert all(0 < rate <= 0.1 for rate in found)
    assert found[-1] < 0.01
    assert max(found) > 0.095


def test_warm_up_is_linear_and_ends():
    found = rates(Recipe(epochs=4, lr=0.1, milestones=(), warmup_epochs=2))
    assert found[:20] == pytest.approx([0.1 * (step + 1) / 20 for step in range(20)])
    assert found[20:] == [0.1] * 20
