"""A space becomes trials as its design describes."""

from tests.space.spaces import BASE, grid_of, make


def test_a_grid_has_every_combination_on_every_seed():
    sweep = make("grid", parameters=grid_of(scales=[[1, 4], [2]], stride=["window", "half"]), seeds=[3, 5])
    planned = sweep.fixed_trials
    assert len(planned) == 8
    assert [trial.trial.seed for trial in planned] == [3] * 4 + [5] * 4  # what shares a stream stands together
    assert {trial.label for trial in planned} == {
        f"scales={scales}, stride={stride}" for scales in ("[1, 4]", "[2]") for stride in ("window", "half")
    }
    assert {trial.phase for trial in planned} == {"design"}


def test_one_at_a_time_varies_one_and_counts_the_base_once():
    sweep = make("one_at_a_time", parameters=grid_of(scales=[[1], [1, 2, 4]], stride=["window", "half"]))
    planned = sweep.fixed_trials
    joined = "base = scales=[1, 2, 4] = stride=window"
    assert [trial.label for trial in planned] == [joined, "scales=[1]", "stride=half"]
    assert planned[0].levels == ({}, {"method.scales": [1, 2, 4]}, {"method.stride": "window"})
    assert planned[1].levels == ({"method.scales": [1]},)


def test_settings_that_give_the_same_windows_are_one_cell_that_names_both():
    planned = make("grid", parameters=grid_of(scales=[[1], [2]], stride=["window", "half"])).fixed_trials
    joined = "scales=[1], stride=window = scales=[1], stride=half"
    assert [trial.label for trial in planned] == [joined, "scales=[2], stride=window", "scales=[2], stride=half"]
    alike = grid_of(scales=[[1, 2]], scale_weights=[None, [1.0, 1.0], [3.0, 3.0], [1.0, 2.0]])
    assert len(make("grid", parameters=alike).fixed_trials) == 2


def test_levels_of_a_grid_that_give_the_same_trial_are_one_row():
    small, alike = {"method.scales": [1]}, {"method.scales": [1], "method.stride": "window"}
    parameters = {"size": {"choices": {"small": small, "alike": alike}}} | grid_of(tap=["last", "stages"])
    planned = make("grid", parameters=parameters, seeds=[0, 1]).fixed_trials
    assert [trial.label for trial in planned] == 2 * [
        f"size=small, tap={tap} = size=alike, tap={tap}" for tap in ("last", "stages")
    ]
    assert planned[0].levels == tuple({"size": size, "method.tap": "last"} for size in ("small", "alike"))
    assert [trial.trial.seed for trial in planned] == [0, 0, 1, 1]


def test_leave_one_out_leaves_each_part_out_of_the_full_configuration():
    sweep = make(
        "leave_one_out",
        full={"method.regions": "weighted"},
        without={"regions": {"method.regions": "all"}, "scales": {"method.scales": [1]}},
        also={"KD": {"method": {"name": "kd"}}},
    )
    cells = {planned.label: planned.trial.method for planned in sweep.fixed_trials}
    assert list(cells) == ["full", "without regions", "without scales", "KD"]
    assert cells["without scales"].regions == "weighted"
    assert cells["without regions"].scales == (1, 2, 4)
    assert cells["KD"].name == "kd"


def test_a_search_holds_out_and_its_confirmation_does_not():
    sweep = make("search", parameters=grid_of(scales=[[1], [2]]), search={"val_fraction": 0.2, "seed": 9})
    winners = [sweep.search_trial({"method.scales": [scale]}) for scale in (2, 1)]
    found = winners[0].trial
    assert (found.data.val_fraction, found.seed, found.method.scales) == (0.2, 9, (2,))
    assert winners[0].levels == ({"method.scales": [2]},)
    confirmed = sweep.confirm_trials({"": winners})
    assert [(planned.levels, planned.search_trial) for planned in confirmed[:2]] == [
        (winner.levels, winner.trial.id) for winner in winners
    ]
    assert [planned.trial.seed for planned in confirmed] == [1, 1, 2, 2, 3, 3]
    assert {planned.trial.data.val_fraction for planned in confirmed} == {0.0}
    assert {planned.label for planned in confirmed} == {"winner 1", "winner 2"}
    assert {planned.label for planned in sweep.fixed_trials} == {"none", "kd"}


def test_labelled_choices_change_several_settings():
    choices = {"small": {"method.scales": [1], "recipe.lr": 0.2}, "large": {"method.scales": [1, 2]}}
    sweep = make("grid", parameters={"size": {"choices": choices}})
    small, large = (planned.trial for planned in sweep.fixed_trials)
    assert (small.method.scales, small.recipe.lr) == ((1,), 0.2)
    assert large.recipe.lr == BASE.recipe.lr


def test_settings_are_bound_to_choices_of_several_parameters():
    parameters = {
        "method": {"choices": {"kd": {"method": {"name": "kd"}}, "dkd": {"method": {"name": "dkd"}}}},
        "recipe.lr": {"choices": [0.1, 0.2, 0.3]},
    }
    bound = [{"when": {"method": ["dkd"], "recipe.lr": [0.1, 0.3]}, "set": {"method.non_target_weight": 2.0}}]
    cells = [planned.trial for planned in make("grid", parameters=parameters, bound=bound).fixed_trials]
    weights = {trial.recipe.lr: trial.method.non_target_weight for trial in cells if trial.method.name == "dkd"}
    assert weights == {0.1: 2.0, 0.2: 8.0, 0.3: 2.0}
    assert sum(trial.method.name == "kd" for trial in cells) == 3
