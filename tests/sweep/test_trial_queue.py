"""What runs next: a whole sweep without Ray, broken off and resumed wherever it may be."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from msd_sweeps.catalog.networks import NETWORKS
from msd_sweeps.distill import checkpoint
from msd_sweeps.records.trial_record import EpochResult
from msd_sweeps.space.trial import Trial
from msd_sweeps.sweep.resume import check_fingerprints
from msd_sweeps.sweep.store_sync import StoreSync
from msd_sweeps.sweep.trial_queue import Pause
from tests.stores import flaky_store
from tests.sweep.life import (
    BASE,
    CONDITIONAL,
    EACH,
    EPOCHS,
    GRID,
    NO_INPUTS,
    SAME_AS_BASELINE,
    SEARCH,
    SMALL,
    WEIGHT,
    Life,
    finish_with_kd_first,
    make,
    score_of,
)


def test_a_search_runs_then_confirms_its_winners_seed_by_seed(tmp_path):
    life = Life(make(SEARCH), tmp_path)
    ran = life.run()
    assert [trial.phase for trial in ran] == ["search"] * 5 + ["confirm"] * 8
    assert [(trial.seed, trial.label) for trial in ran[5:]] == [
        (seed, label) for seed in (1, 2) for label in ("none", "kd", "winner 1", "winner 2")
    ]
    best = sorted(ran[:5], key=score_of, reverse=True)[:2]
    assert [trial.config["method"] for trial in ran[7:9]] == [trial.config["method"] for trial in best]
    assert {trial.config["data"]["val_fraction"] for trial in ran[5:]} == {0.0}
    life.check_done()


def test_each_method_is_searched_with_the_same_budget_and_has_a_winner(tmp_path):
    life = Life(make(EACH), tmp_path)
    ran = life.run()
    names = [trial.config["method"]["name"] for trial in ran]
    assert names[:8] == ["msd", "kd"] * 4  # in turn, so that both learn alike
    first = [trial.values for trial in ran[:2]]
    assert first == [{"method": "msd", "method.scales": [1, 2, 4]}, {"method": "kd", "method.kd_weight": 0.9}]
    assert all(set(trial.values) == {"method", "method.scales"} for trial in ran[0:8:2])
    assert all(set(trial.values) == {"method", "method.kd_weight"} for trial in ran[1:8:2])
    of_method = {name: [trial for trial in ran[:8] if trial.config["method"]["name"] == name] for name in ("msd", "kd")}
    confirmed = {(trial.label, trial.search_trial) for trial in ran[8:]}
    assert confirmed == {(f"winner 1 of {name}", max(of, key=score_of).trial) for name, of in of_method.items()}
    life.check_done()
    assert sum(record["event"] == "start" for record in life.records) == make(EACH).samples + 4


def test_a_choice_of_few_configurations_does_not_hold_up_the_search_of_another(tmp_path):
    few = {"choices": [0.5, 0.9], "when": "method == kd"}
    life = Life(make(EACH | {"parameters": EACH["parameters"] | {"method.kd_weight": few}}), tmp_path)
    names = [trial.config["method"]["name"] for trial in life.run() if trial.phase == "search"]
    assert sorted(names) == ["kd"] * 2 + ["msd"] * 4
    life.check_done()


def test_null_is_a_choice_that_is_searched_like_others(tmp_path):
    weights = {"choices": [None, [1.0, 2.0, 4.0]]}
    parameters = {"method.scale_weights": weights, "method.sample_weight": WEIGHT}
    search = EACH["search"] | {"each": "method.scale_weights"}
    life = Life(make(EACH | {"parameters": parameters, "search": search}), tmp_path)
    assert {trial.label for trial in life.run()} == {"", "winner 1 of null", "winner 1 of [1.0, 2.0, 4.0]"}
    life.check_done()


def test_asha_compares_the_trials_of_one_search_alone(tmp_path):
    """kd's four are better than all of msd: half of each go on all the same."""
    life = Life(make(EACH | {"scheduler": {"type": "asha", "reduction_factor": 2}}), tmp_path)
    trials = [life.next() for _ in range(8)]
    scores = {
        trial.trial: 10.0 * (trial.config["method"]["name"] == "kd") + place for place, trial in enumerate(trials)
    }
    life.queue.take([life.gives(trial, score=scores[trial.trial]) for trial in trials])
    stopped = [trial.config["method"]["name"] for trial in trials if trial.state == "stopped"]
    assert sorted(stopped) == ["kd", "kd", "msd", "msd"]


def test_a_design_runs_seed_by_seed(tmp_path):
    life = Life(make(GRID), tmp_path)
    ran = life.run()
    assert [trial.seed for trial in ran] == [0] * 4 + [1] * 4
    life.check_done()


def test_confirmations_wait_until_every_search_trial_has_ended(tmp_path):
    life = Life(make(SEARCH), tmp_path)
    trials = [life.next() for _ in range(5)]
    for trial in trials:
        assert life.queue.next() is Pause.WAIT
        assert not life.is_complete
        life.finish(trial)
    assert life.next().phase == "confirm"


def test_only_finished_trials_win(tmp_path):
    life = Life(make(SEARCH), tmp_path)
    trials = [life.next() for _ in range(5)]
    for trial, state in zip(trials, ["stopped", "failed", "diverged", "finished", "out_of_memory"], strict=True):
        life.epoch(trial, score=99.0 if state != "finished" else 1.0)
        life.end(trial, state)
    assert [winner.id for winner in life.winners] == [trials[3].trial]
    ran = life.run()
    assert {trial.label for trial in ran} == {"none", "kd", "winner 1"}
    life.check_done()


def test_without_a_finished_trial_the_baselines_are_run_all_the_same(tmp_path):
    life = Life(make(SEARCH), tmp_path)
    for trial in [life.next() for _ in range(5)]:
        life.end(trial, "failed")
    assert {trial.label for trial in life.run()} == {"none", "kd"}
    life.check_done()


@pytest.mark.parametrize("mode", ["max", "min"])
def test_winners_are_the_best_by_the_last_value(mode, tmp_path):
    sweep = make(SEARCH | {"metric": {"name": "val_top1", "mode": mode}})
    life = Life(sweep, tmp_path)
    trials = [life.next() for _ in range(5)]
    for trial, score in zip(trials, [3.0, 1.0, 5.0, 2.0, 4.0], strict=True):
        life.epoch(trial, score=9.0 - score)  # the first epoch says the contrary
        life.epoch(trial, score=score)
        life.end(trial)
    best = [trials[2], trials[4]] if mode == "max" else [trials[1], trials[3]]
    assert [winner.id for winner in life.winners] == [trial.trial for trial in best]


def test_the_winners_by_several_metrics_are_the_pareto_front(tmp_path):
    sizes = ["resnet8", "resnet14", "resnet20", "resnet32"]
    several = {
        "metric": [{"name": "val_top1"}, {"name": "student_multiply_adds"}],
        "confirm": {"top_k": 2, "seeds": [1, 2]},
        "parameters": {"student.model": {"choices": sizes}},
        "search": {"num_samples": 8, "sampler": "nsga2"},
    }
    life = Life(make(SEARCH | several), tmp_path)
    scores = {"resnet8": 50.0, "resnet14": 70.0, "resnet20": 60.0, "resnet32": 80.0}
    for _ in sizes:
        trial = life.next()
        for _ in range(EPOCHS):
            life.epoch(trial, score=scores[trial.config["student"]["model"]])
        life.end(trial)
    # resnet20 is beaten by resnet14 in both; resnet8 is on the front as well, beyond top_k.
    assert [winner.student.model for winner in life.winners] == ["resnet32", "resnet14"]
    assert {trial.values[1] for trial in life.queue.searches.studies[""].shown.best_trials} == {
        NETWORKS[model].multiply_adds_at(BASE.data.facts.image_size) for model in ("resnet8", "resnet14", "resnet32")
    }
    life.resume()
    assert [winner.student.model for winner in life.winners] == ["resnet32", "resnet14"]
    ran = life.run()
    assert {trial.config["student"]["model"] for trial in ran if trial.label == "winner 2"} == {"resnet14"}
    life.check_done()


def test_what_was_interrupted_comes_first_with_its_epochs_and_next_attempt(tmp_path):
    life = Life(make(SEARCH), tmp_path)
    first, second, third = (life.next() for _ in range(3))
    life.finish(first)
    life.epoch(second)
    life.end(second, "interrupted")  # by a signal; the third by a crash
    life.resume()
    again = [life.next(), life.next()]
    assert [trial.trial for trial in again] == [second.trial, third.trial]
    assert [(trial.attempts, len(trial.epochs), trial.state) for trial in again] == [
        (2, 1, "running"),
        (2, 0, "running"),
    ]
    for trial in again:
        life.finish(trial)
    life.run()
    life.check_done()
    assert len([trial for trial in life.queue.trials.values() if trial.phase == "search"]) == 5


def test_workers_that_died_in_between_make_a_new_attempt(tmp_path):
    life = Life(make(GRID), tmp_path)
    trial = life.next()
    said: list[str] = []
    life.queue.run.say = said.append
    life.epoch(trial)
    life.epoch(trial, attempt=3)
    assert trial.attempts == 3
    assert said == ["workers have died; 1 of their trials went on in slot 0"]
    assert [record["attempt"] for record in life.records if record["event"] == "start"] == [1, 3]
    assert len(trial.epochs) == 2


@pytest.mark.parametrize("kind", ["grid", "search"])
def test_a_trial_whose_end_was_not_recorded_any_more_is_finished(kind, tmp_path):
    """The driver is killed between the record of the last epoch and that of the end."""
    life = Life(make({"grid": GRID, "search": SEARCH}[kind]), tmp_path)
    trial = life.next()
    for _ in range(EPOCHS):
        life.epoch(trial)
    life.resume()
    assert life.queue.trials[trial.trial].state == "finished"
    if kind == "search":
        told = [known for known in life.queue.searches.studies[""].shown.trials if known.state.name == "COMPLETE"]
        assert [known.value for known in told] == [score_of(trial)]
    life.run()
    life.check_done()
    assert life.starts()[trial.trial] == 1


def test_a_start_without_checkpoints_is_recorded(tmp_path):
    life = Life(make(GRID), tmp_path)
    trial = life.next()
    life.epoch(trial)
    life.epoch(trial, attempt=2, afresh=True)
    told = [record for record in life.records if record["event"] == "restart"]
    assert told == [{"event": "restart", "trial": trial.trial, "attempt": 2, "epochs_lost": 1}]


@pytest.mark.parametrize("kind", ["grid", "search"])
def test_a_trial_that_is_retried_comes_before_anything_new(kind, tmp_path):
    life = Life(make({"grid": GRID, "search": SEARCH}[kind]), tmp_path)
    trial, other = life.next(), life.next()
    life.epoch(trial)
    assert life.queue.retry(trial.trial, "its Tune actor died") is not None
    assert (trial.state, trial.reason) == ("interrupted", "its Tune actor died")
    assert life.next() is trial
    assert (trial.attempts, trial.state, len(trial.epochs)) == (2, "running", 1)
    for one in (trial, other):
        life.finish(one)
    life.run()
    life.check_done()


@pytest.mark.parametrize("sampler", ["random", "tpe", "qmc"])
def test_a_small_space_is_tried_once_whole_and_the_sweep_ends(sampler, tmp_path):
    life = Life(make(SMALL | {"search": {"num_samples": 16, "sampler": sampler}}), tmp_path)
    ran = life.run()
    assert [trial.phase for trial in ran].count("search") == 4
    assert len({trial.trial for trial in ran}) == len(ran)
    life.check_done()
    life.resume()
    life.check_done()


def test_a_small_space_that_runs_side_by_side_ends_too(tmp_path):
    life = Life(make(SMALL), tmp_path)
    trials = [life.next() for _ in range(4)]
    assert life.queue.next() is Pause.WAIT
    assert len({trial.trial for trial in trials}) == 4
    for trial in trials:
        life.finish(trial)
    life.run()
    life.check_done()


def test_whole_numbers_and_steps_are_a_small_space_too(tmp_path):
    parameters = {
        "recipe.warmup_epochs": {"low": 0.0, "high": 0.3, "step": 0.1},
        "recipe.epochs": {"low": 2, "high": 3},
    }
    life = Life(make(SMALL | {"parameters": parameters}), tmp_path)
    ran = [trial for trial in life.run() if trial.phase == "search"]
    assert len(ran) == 8
    assert {trial.values["recipe.warmup_epochs"] for trial in ran} == {0.0, 0.1, 0.2, 0.3}
    life.check_done()


def test_a_search_that_grows_trains_only_what_is_new(tmp_path):
    life = Life(make(SEARCH), tmp_path)
    before = {trial.trial for trial in life.run()}
    life.sweep = make(SEARCH | {"search": {"num_samples": 8, "sampler": "random"}})
    life.resume()
    assert not life.is_complete
    ran = life.run()
    assert not {trial.trial for trial in ran} & before
    assert [trial.phase for trial in ran].count("search") == 3
    assert {trial.label for trial in ran} <= {"", "winner 1", "winner 2"}
    life.check_done()


def test_seeds_that_are_added_confirm_the_same_winners(tmp_path):
    life = Life(make(SEARCH), tmp_path)
    life.run()
    winners = [winner.id for winner in life.winners]
    life.sweep = make(SEARCH | {"confirm": {"top_k": 2, "seeds": [1, 2, 3]}})
    life.resume()
    assert not life.is_complete
    ran = life.run()
    assert [(trial.label, trial.seed) for trial in ran] == [
        (label, 3) for label in ("none", "kd", "winner 1", "winner 2")
    ]
    assert [winner.id for winner in life.winners] == winners
    life.check_done()


def test_the_sampler_learns_how_trials_ended(tmp_path):
    life = Life(make(SEARCH), tmp_path)
    states = ["finished", "stopped", "failed", "finished", "finished"]
    for state in states:
        trial = life.next()
        life.epoch(trial)
        life.end(trial, state)
    shown = life.queue.searches.studies[""].shown.trials
    names = {"finished": "COMPLETE", "stopped": "PRUNED", "failed": "FAIL"}
    assert [trial.state.name for trial in shown] == [names[state] for state in states]
    assert shown[0].intermediate_values == {1: shown[0].value}


@pytest.mark.parametrize("sampler", ["random", "tpe", "qmc", "gp", "nsga2"])
def test_what_does_not_count_is_not_sampled_and_the_study_is_rebuilt_without_it(sampler, tmp_path):
    life = Life(make(CONDITIONAL | {"search": {"num_samples": 12, "sampler": sampler}}), tmp_path)
    for _ in range(6):
        life.finish(life.next())
    life.resume()
    life.run()
    searched = [trial for trial in life.queue.trials.values() if trial.phase == "search"]
    assert len(searched) == 12
    for trial in searched:
        counts = trial.values["method.scales"] in ([2], [1, 2])
        assert ("method.sample_weight" in trial.values) == counts
        wanted = trial.values["method.sample_weight"] if counts else BASE.method.sample_weight
        assert trial.config["method"]["sample_weight"] == wanted
    assert {"method.sample_weight" in trial.values for trial in searched} == {True, False}
    for trial in life.queue.searches.studies[""].shown.trials:
        assert ("method.sample_weight" in trial.params) == (trial.params["method.scales"] in ("[2]", "[1, 2]"))
    life.check_done()


def test_a_small_conditional_space_is_tried_once_whole(tmp_path):
    parameters = {
        "method.feature_weight": {"choices": [0.0, 1.0]},
        "method.feature_temperature": {"choices": [0.05, 0.1, 0.2], "when": "method.feature_weight > 0"},
    }
    life = Life(make(SMALL | {"parameters": parameters}), tmp_path)
    # The four of the space, and the base's own setting, whose temperature is none of the choices.
    assert [trial.phase for trial in life.run()].count("search") == 5
    life.check_done()


def test_a_winner_that_is_a_baseline_is_one_row_that_names_both(tmp_path):
    life = Life(make(SAME_AS_BASELINE), tmp_path)
    finish_with_kd_first(life)
    ran = life.run()
    assert [(trial.label, trial.seed) for trial in ran] == [
        (label, seed) for seed in (1, 2) for label in ("winner 1 = kd", "winner 2")
    ]
    assert ran[0].search_trial == life.winners[0].id
    assert ran[0].values["method"]["name"] == "kd"
    life.check_done()


@pytest.fixture
def flaky(tmp_path, monkeypatch):
    return flaky_store(tmp_path / "store", monkeypatch)


def test_checkpoints_are_looked_for_and_written_in_the_store(flaky, tmp_path):
    life = Life(make(GRID), tmp_path)
    life.queue.run.store_sync = StoreSync(flaky[0] / "scales", tmp_path)
    job = life.queue.next()
    assert job.folder == f"flaky://store/runs/scales/checkpoints/{job.trial}"


def test_a_job_has_all_that_its_workers_need(tmp_path):
    life = Life(make(GRID), tmp_path)
    job = life.queue.next()
    trial = life.queue.trials[job.trial]
    assert (job.submission, job.attempt, job.reported, job.rungs) == (1, 1, 0, None)
    assert Trial.model_validate_json(job.config).id == trial.trial
    assert job.stream == trial.configuration.stream_key
    life.epoch(trial)
    life.resume()
    again = life.queue.next()
    assert (again.trial, again.submission, again.reported) == (job.trial, 2, 1)


@pytest.mark.parametrize("limit", [0, 2])
def test_a_trial_whose_actor_keeps_dying_fails(limit, tmp_path):
    life = Life(make(GRID | {"resources": {"max_failures": limit}}), tmp_path)
    trial = life.next()
    for attempt in range(1, limit + 1):
        assert trial.attempts == attempt
        life.queue.retry(trial.trial, "its Tune actor died")
        assert life.next() is trial
    life.queue.retry(trial.trial, "its Tune actor died")
    assert (trial.state, trial.reason) == ("failed", f"its Tune actor died {limit + 1} times without progress")


def test_resumed_sweeps_and_deaths_with_progress_in_between_are_no_failures(tmp_path):
    life = Life(make(GRID | {"resources": {"max_failures": 1}}), tmp_path)
    trial = life.next()
    for _ in range(5):  # drivers are killed
        life.resume()
        trial = life.next()
    assert trial.attempts == 6
    life.queue.retry(trial.trial, "its Tune actor died")
    assert life.next() is trial
    life.epoch(trial)
    life.queue.retry(trial.trial, "its Tune actor died")
    assert (life.next(), trial.state) == (trial, "running")


@pytest.mark.parametrize("is_changed", [False, True])
def test_a_failed_trial_keeps_its_checkpoints_and_goes_on_from_them_unless_code_has_changed(is_changed, tmp_path):
    now = {"training code": "a"}
    life = Life(make(GRID), tmp_path, inputs=lambda trial: NO_INPUTS._replace(fingerprint=dict(now)))
    failed, finished = life.next(), life.next()
    folders = {trial.trial: life.queue.run.checkpoints / trial.trial for trial in (failed, finished)}
    for folder in folders.values():
        checkpoint.write(folder, 1, b"state")
    life.epoch(failed)
    life.end(failed, "failed")
    life.finish(finished)
    assert [folder.exists() for folder in folders.values()] == [True, False]
    life.resume()
    life.queue.run.remove_left_over_checkpoints()
    assert checkpoint.newest(folders[failed.trial]) is not None
    life.queue.run.retry_failed()
    if is_changed:
        now["training code"] = "b"
    life.resume()  # a driver is killed in between
    check_fingerprints([life.queue.trials[failed.trial]], lambda trial: dict(now))
    again = life.next()
    assert (again.trial, again.attempts, len(again.epochs)) == (failed.trial, 2, 0 if is_changed else 1)
    assert again.fingerprints == [now]
    assert life.queue.running[again.trial].reported == (0 if is_changed else 1)


def test_nothing_is_done_while_a_trial_runs_whose_actor_may_die(tmp_path):
    life = Life(make(GRID), tmp_path)
    trials = [life.next() for _ in life.sweep.fixed_trials]
    assert life.queue.next() is Pause.WAIT
    for trial in trials[1:]:
        life.finish(trial)
    assert life.queue.next() is Pause.WAIT
    life.queue.retry(trials[0].trial, "its Tune actor died")
    assert life.next() is trials[0]
    life.finish(trials[0])
    life.check_done()


def test_first_trials_that_fail_alike_are_a_trouble(tmp_path):
    life = Life(make(GRID), tmp_path)
    for count in range(3):
        assert life.queue.trouble is None, count
        life.queue.take([EpochResult(life.next().trial, "failed", 0, 0.0, {}, "out of luck")])
    assert "the first 3 trials failed in the same way" in life.queue.trouble


def test_a_result_of_a_trial_that_has_ended_is_left_out(tmp_path):
    life = Life(make(GRID), tmp_path)
    trial = life.next()
    life.end(trial, "stopped")
    before = list(life.records)
    life.epoch(trial)
    assert life.records == before


KINDS = {"grid": GRID, "search": SEARCH, "small": SMALL}
ACTION = st.sampled_from(["next", "next", "epoch", "epoch", "epoch", "stop", "fail", "kill", "signal"])


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=st.lists(st.tuples(ACTION, st.integers(0, 9)), max_size=60))
def test_wherever_it_is_killed_the_sweep_ends_with_all_that_was_asked_for(kind, actions, tmp_path):
    life = Life(make(KINDS[kind]), tmp_path)
    for action, pick in actions:
        trial = life.running[pick % len(life.running)] if life.running else None
        if action == "kill":
            life.resume()
        elif action == "next" and len(life.running) < 3:
            life.next()
        elif trial is None:
            continue
        elif action == "epoch" and len(trial.epochs) < EPOCHS:
            life.epoch(trial)
        elif action == "epoch":
            life.end(trial)
        elif action == "stop" and trial.phase == "search":
            life.end(trial, "stopped")
        elif action == "fail":
            life.end(trial, "failed")
        elif action == "signal":
            for one in list(life.running):
                life.end(one, "interrupted")
            life.resume()
    for trial in list(life.running):
        life.finish(trial)
    life.run()
    life.check_done()
    found = list(life.queue.trials.values())
    if kind == "grid":
        assert {trial.trial for trial in found} == {planned.trial.id for planned in life.sweep.fixed_trials}
        return
    searched = [trial for trial in found if trial.phase == "search"]
    assert len(searched) == (5 if kind == "search" else 4)
    confirmed = {(trial.label, trial.seed) for trial in found if trial.phase == "confirm"}
    winners = min(2, [trial.state for trial in searched].count("finished"))
    labels = ["none", "kd", *(f"winner {rank + 1}" for rank in range(winners))]
    assert confirmed == {(label, seed) for label in labels for seed in (1, 2)}


@pytest.mark.parametrize("kind", KINDS)
def test_a_crash_after_any_record_gives_the_same_trials(kind, tmp_path):
    """The ledger cut off after each of its lines, as a crash would leave it, and gone on with."""
    life = Life(make(KINDS[kind]), tmp_path)
    life.run()
    whole = life.records
    fixed = {name for name, trial in life.queue.trials.items() if trial.label in ("none", "kd") or kind == "grid"}
    for length in range(len(whole) if kind != "search" else 40):
        life.records = list(whole[:length])
        life.resume()
        life.run()
        life.check_done()
        assert fixed <= set(life.queue.trials)
        if kind == "small":
            assert set(life.queue.trials) == {record["trial"] for record in whole}
