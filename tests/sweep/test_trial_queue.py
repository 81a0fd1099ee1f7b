"""What runs next: a whole sweep without Ray, broken off and resumed wherever it may be."""

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from msd_sweeps.catalog.networks import NETWORKS
from msd_sweeps.records.trial_record import FINAL_STATES, TrialRecord, trials_of
from msd_sweeps.space.designs import Sweep
from msd_sweeps.space.load import load_base
from msd_sweeps.space.schema import Space
from msd_sweeps.sweep.study import Study
from msd_sweeps.sweep.trial_queue import Agenda, Pause, end_whole

EPOCHS = 2
BASE = load_base("digits", [f"recipe.epochs={EPOCHS}"])
SCALES = {"choices": [[1], [2], [1, 2], [1, 2, 4]]}
WEIGHT = {"low": 0.1, "high": 4.0, "log": True}
GRID = {"design": "grid", "parameters": {"method.scales": SCALES}, "seeds": [0, 1]}
SEARCH = {
    "design": "search",
    "search": {"num_samples": 5, "sampler": "random"},
    "parameters": {"method.scales": SCALES, "method.sample_weight": WEIGHT},
    "confirm": {"top_k": 2, "seeds": [1, 2]},
}
SMALL = SEARCH | {"parameters": {"method.scales": SCALES}, "search": {"num_samples": 16, "sampler": "random"}}
CONDITIONAL = SEARCH | {
    "parameters": {
        "method.sample_weight": WEIGHT | {"when": "method.scales in [[2], [1, 2]]"},
        "method.scales": SCALES,
    },
    "search": {"num_samples": 12, "sampler": "random"},
}


def make(tree: dict) -> Sweep:
    return Sweep("test", Space.model_validate_json(json.dumps({"base": "digits"} | tree)), BASE)


class Life:
    """A sweep over the lives of several drivers: the ledger is all that outlasts one."""

    def __init__(self, sweep: Sweep, journal: Path):
        self.sweep, self.journal = sweep, journal
        self.records: list[dict] = []
        self.resume()

    def resume(self) -> None:
        """A new driver, that knows the ledger alone."""
        trials = trials_of(json.loads(json.dumps(self.records)))
        end_whole(trials, self.record)
        study = None
        if self.sweep.space.design == "search":
            searched = [trial for trial in trials.values() if trial.phase == "search"]
            study = Study(self.sweep.space, "test", self.journal, searched, self.sweep.base)
        self.agenda = Agenda(self.sweep, trials, study, self.record)
        self.running: list[TrialRecord] = []

    def record(self, event: str, **fields) -> dict:
        self.records.append({"event": event, **fields})
        return self.records[-1]

    def next(self) -> TrialRecord | Pause:
        trial = self.agenda.next()
        if not isinstance(trial, Pause):
            assert not trial.has_every_epoch, "its workers have nothing to tell"
            self.running.append(trial)
        return trial

    def epoch(self, trial: TrialRecord, score: float | None = None, attempt: int | None = None) -> None:
        epoch = len(trial.epochs) + 1
        score = score_of(trial) if score is None else score
        metrics = {"val_top1" if trial.phase == "search" else "test_top1": score}
        self.agenda.epoch(
            trial,
            {
                "epoch": epoch,
                "position": epoch - 1,
                "slot": 0,
                "seconds": 1.0,
                "metrics": metrics,
                "attempt": attempt or trial.attempts,
            },
        )

    def end(self, trial: TrialRecord, state: str = "finished") -> None:
        self.running.remove(trial)
        self.agenda.end(trial, state)

    def finish(self, trial: TrialRecord) -> None:
        while len(trial.epochs) < EPOCHS:
            self.epoch(trial)
        self.end(trial)

    def run(self) -> list[TrialRecord]:
        """All that is left, one trial after the other."""
        ran = []
        while not isinstance(trial := self.next(), Pause):
            self.finish(trial)
            ran.append(trial)
        assert trial is Pause.DONE
        return ran

    def starts(self) -> Counter:
        return Counter(record["trial"] for record in self.records if record["event"] == "start")

    def check_done(self) -> None:
        """Everything that was asked for has one final end, and nothing was started again after it."""
        assert self.agenda.next() is Pause.DONE
        assert self.agenda.is_complete
        assert all(trial.is_final for trial in self.agenda.trials.values())
        ended: set[str] = set()
        for record in self.records:
            if record["event"] == "start":
                assert record["trial"] not in ended
            if record["event"] == "end" and record["state"] in FINAL_STATES:
                assert record["trial"] not in ended
                ended.add(record["trial"])
        assert ended == set(self.agenda.trials)
        numbers = [trial.number for trial in self.agenda.trials.values()]
        assert numbers == list(range(len(numbers)))


def score_of(trial: TrialRecord) -> float:
    """An invented score that only the configuration decides."""
    return int(trial.cell[:6], 16) / 1e4


@pytest.fixture
def journal(tmp_path) -> Path:
    return tmp_path / "optuna.journal"


def test_a_search_runs_then_confirms_its_winners_seed_by_seed(journal):
    life = Life(make(SEARCH), journal)
    ran = life.run()
    assert [trial.phase for trial in ran] == ["search"] * 5 + ["confirm"] * 8
    assert [(trial.seed, trial.label) for trial in ran[5:]] == [
        (seed, label) for seed in (1, 2) for label in ("none", "kd", "winner 1", "winner 2")
    ]
    best = sorted(ran[:5], key=score_of, reverse=True)[:2]
    assert [trial.config["method"] for trial in ran[7:9]] == [trial.config["method"] for trial in best]
    assert {trial.config["data"]["val_fraction"] for trial in ran[5:]} == {0.0}
    life.check_done()


def test_a_design_runs_seed_by_seed(journal):
    life = Life(make(GRID), journal)
    ran = life.run()
    assert [trial.seed for trial in ran] == [0] * 4 + [1] * 4
    life.check_done()


def test_confirmations_wait_until_every_search_trial_has_ended(journal):
    life = Life(make(SEARCH), journal)
    trials = [life.next() for _ in range(5)]
    for trial in trials:
        assert life.agenda.next() is Pause.WAIT
        assert not life.agenda.is_complete
        life.finish(trial)
    assert life.next().phase == "confirm"


def test_only_finished_trials_win(journal):
    life = Life(make(SEARCH), journal)
    trials = [life.next() for _ in range(5)]
    for trial, state in zip(trials, ["stopped", "failed", "diverged", "finished", "out_of_memory"], strict=True):
        life.epoch(trial, score=99.0 if state != "finished" else 1.0)
        life.end(trial, state)
    assert [winner.id for winner in life.agenda.winners()] == [trials[3].trial]
    ran = life.run()
    assert {trial.label for trial in ran} == {"none", "kd", "winner 1"}
    life.check_done()


def test_without_a_finished_trial_the_baselines_are_run_all_the_same(journal):
    life = Life(make(SEARCH), journal)
    for trial in [life.next() for _ in range(5)]:
        life.end(trial, "failed")
    assert {trial.label for trial in life.run()} == {"none", "kd"}
    life.check_done()


@pytest.mark.parametrize("mode", ["max", "min"])
def test_winners_are_the_best_by_the_last_value(mode, journal):
    sweep = make(SEARCH | {"metric": {"name": "val_top1", "mode": mode}})
    life = Life(sweep, journal)
    trials = [life.next() for _ in range(5)]
    for trial, score in zip(trials, [3.0, 1.0, 5.0, 2.0, 4.0], strict=True):
        life.epoch(trial, score=9.0 - score)  # the first epoch says the contrary
        life.epoch(trial, score=score)
        life.end(trial)
    best = [trials[2], trials[4]] if mode == "max" else [trials[1], trials[3]]
    assert [winner.id for winner in life.agenda.winners()] == [trial.trial for trial in best]


def test_the_winners_by_several_metrics_are_the_pareto_front(journal):
    sizes = ["resnet8", "resnet14", "resnet20", "resnet32"]
    several = {
        "metric": [{"name": "val_top1"}, {"name": "student_multiply_adds"}],
        "confirm": {"top_k": 2, "seeds": [1, 2]},
        "parameters": {"student.model": {"choices": sizes}},
        "search": {"num_samples": 8, "sampler": "nsga2"},
    }
    life = Life(make(SEARCH | several), journal)
    scores = {"resnet8": 50.0, "resnet14": 70.0, "resnet20": 60.0, "resnet32": 80.0}
    for _ in sizes:
        trial = life.next()
        for _ in range(EPOCHS):
            life.epoch(trial, score=scores[trial.config["student"]["model"]])
        life.end(trial)
    # resnet20 is beaten by resnet14 in both; resnet8 is on the front as well, beyond top_k.
    assert [winner.student.model for winner in life.agenda.winners()] == ["resnet32", "resnet14"]
    assert {trial.values[1] for trial in life.agenda.study.study.best_trials} == {
        NETWORKS[model].multiply_adds_at(BASE.data.facts.image_size) for model in ("resnet8", "resnet14", "resnet32")
    }
    life.resume()
    assert [winner.student.model for winner in life.agenda.winners()] == ["resnet32", "resnet14"]
    ran = life.run()
    assert {trial.config["student"]["model"] for trial in ran if trial.label == "winner 2"} == {"resnet14"}
    life.check_done()


def test_what_was_interrupted_comes_first_with_its_epochs_and_next_attempt(journal):
    life = Life(make(SEARCH), journal)
    first, second, third = (life.next() for _ in range(3))
    life.finish(first)
    life.epoch(second)
    life.end(second, "interrupted")  # by a signal; the third by a crash
    values = second.values
    life.resume()
    again = [life.next(), life.next()]
    assert [trial.trial for trial in again] == [second.trial, third.trial]
    assert [(trial.attempts, len(trial.epochs), trial.state) for trial in again] == [
        (2, 1, "running"),
        (2, 0, "running"),
    ]
    known = life.agenda.study.study.trials
    running = [trial.params["method.sample_weight"] for trial in known if trial.state.name == "RUNNING"]
    assert running == [values["method.sample_weight"], third.values["method.sample_weight"]]
    for trial in again:
        life.finish(trial)
    life.run()
    life.check_done()
    assert len([trial for trial in life.agenda.trials.values() if trial.phase == "search"]) == 5


def test_workers_that_died_in_between_make_a_new_attempt(journal):
    life = Life(make(GRID), journal)
    trial = life.next()
    life.epoch(trial)
    life.epoch(trial, attempt=3)
    assert trial.attempts == 3
    assert [record["attempt"] for record in life.records if record["event"] == "start"] == [1, 3]
    assert len(trial.epochs) == 2


@pytest.mark.parametrize("kind", ["grid", "search"])
def test_a_trial_whose_end_was_not_recorded_any_more_is_finished(kind, journal):
    """The driver is killed between the record of the last epoch and that of the end."""
    life = Life(make({"grid": GRID, "search": SEARCH}[kind]), journal)
    trial = life.next()
    for _ in range(EPOCHS):
        life.epoch(trial)
    life.resume()
    assert life.agenda.trials[trial.trial].state == "finished"
    if kind == "search":
        told = [known for known in life.agenda.study.study.trials if known.state.name == "COMPLETE"]
        assert [known.value for known in told] == [score_of(trial)]
    life.run()
    life.check_done()
    assert life.starts()[trial.trial] == 1


def test_a_start_without_checkpoints_is_recorded(journal):
    life = Life(make(GRID), journal)
    trial = life.next()
    life.epoch(trial)
    result = {"epoch": 2, "position": 1, "slot": 0, "seconds": 1.0, "metrics": {}, "attempt": 2, "afresh": True}
    life.agenda.epoch(trial, result)
    life.agenda.epoch(trial, result | {"epoch": 3})
    told = [record for record in life.records if record["event"] == "restart"]
    assert told == [{"event": "restart", "trial": trial.trial, "attempt": 2, "epochs_lost": 1}]


@pytest.mark.parametrize("kind", ["grid", "search"])
def test_a_trial_that_is_retried_comes_before_anything_new(kind, journal):
    life = Life(make({"grid": GRID, "search": SEARCH}[kind]), journal)
    trial, other = life.next(), life.next()
    life.epoch(trial)
    life.end(trial, "interrupted")
    life.agenda.retry(trial)
    assert life.next() is trial
    assert (trial.attempts, trial.state, len(trial.epochs)) == (2, "running", 1)
    for one in (trial, other):
        life.finish(one)
    life.run()
    life.check_done()


@pytest.mark.parametrize("sampler", ["random", "tpe", "qmc"])
def test_a_small_space_is_tried_once_whole_and_the_sweep_ends(sampler, journal):
    life = Life(make(SMALL | {"search": {"num_samples": 16, "sampler": sampler}}), journal)
    ran = life.run()
    assert [trial.phase for trial in ran].count("search") == 4
    assert len({trial.trial for trial in ran}) == len(ran)
    life.check_done()
    life.resume()
    life.check_done()


def test_a_small_space_that_runs_side_by_side_ends_too(journal):
    life = Life(make(SMALL), journal)
    trials = [life.next() for _ in range(4)]
    assert life.agenda.next() is Pause.WAIT
    assert len({trial.trial for trial in trials}) == 4
    for trial in trials:
        life.finish(trial)
    life.run()
    life.check_done()


def test_whole_numbers_and_steps_are_a_small_space_too(journal):
    parameters = {
        "recipe.warmup_epochs": {"low": 0.0, "high": 0.3, "step": 0.1},
        "recipe.epochs": {"low": 2, "high": 3},
    }
    life = Life(make(SMALL | {"parameters": parameters}), journal)
    ran = [trial for trial in life.run() if trial.phase == "search"]
    assert len(ran) == 8
    assert {trial.values["recipe.warmup_epochs"] for trial in ran} == {0.0, 0.1, 0.2, 0.3}
    life.check_done()


def test_a_search_that_grows_trains_only_what_is_new(journal):
    life = Life(make(SEARCH), journal)
    before = {trial.trial for trial in life.run()}
    life.sweep = make(SEARCH | {"search": {"num_samples": 8, "sampler": "random"}})
    life.resume()
    assert not life.agenda.is_complete
    ran = life.run()
    assert not {trial.trial for trial in ran} & before
    assert [trial.phase for trial in ran].count("search") == 3
    assert {trial.label for trial in ran} <= {"", "winner 1", "winner 2"}
    life.check_done()


def test_seeds_that_are_added_confirm_the_same_winners(journal):
    life = Life(make(SEARCH), journal)
    life.run()
    winners = [winner.id for winner in life.agenda.winners()]
    life.sweep = make(SEARCH | {"confirm": {"top_k": 2, "seeds": [1, 2, 3]}})
    life.resume()
    assert not life.agenda.is_complete
    ran = life.run()
    assert [(trial.label, trial.seed) for trial in ran] == [
        (label, 3) for label in ("none", "kd", "winner 1", "winner 2")
    ]
    assert [winner.id for winner in life.agenda.winners()] == winners
    life.check_done()


def test_the_sampler_learns_how_trials_ended(journal):
    life = Life(make(SEARCH), journal)
    states = ["finished", "stopped", "failed", "finished", "finished"]
    for state in states:
        trial = life.next()
        life.epoch(trial)
        life.end(trial, state)
    told = [trial.state.name for trial in life.agenda.study.study.trials]
    assert told == [{"finished": "COMPLETE", "stopped": "PRUNED", "failed": "FAIL"}[state] for state in states]
    assert life.agenda.study.study.trials[0].intermediate_values == {1: life.agenda.study.study.trials[0].value}


@pytest.mark.parametrize("sampler", ["random", "tpe", "qmc", "gp", "nsga2"])
def test_what_does_not_count_is_not_sampled_and_the_study_is_rebuilt_without_it(sampler, journal):
    life = Life(make(CONDITIONAL | {"search": {"num_samples": 12, "sampler": sampler}}), journal)
    for _ in range(6):
        life.finish(life.next())
    life.resume()
    life.run()
    searched = [trial for trial in life.agenda.trials.values() if trial.phase == "search"]
    assert len(searched) == 12
    for trial in searched:
        counts = trial.values["method.scales"] in ([2], [1, 2])
        assert ("method.sample_weight" in trial.values) == counts
        wanted = trial.values["method.sample_weight"] if counts else BASE.method.sample_weight
        assert trial.config["method"]["sample_weight"] == wanted
    assert {"method.sample_weight" in trial.values for trial in searched} == {True, False}
    for trial in life.agenda.study.study.trials:
        assert ("method.sample_weight" in trial.params) == (trial.params["method.scales"] in ("[2]", "[1, 2]"))
    life.check_done()


def test_a_small_conditional_space_is_tried_once_whole(journal):
    parameters = {
        "method.feature_weight": {"choices": [0.0, 1.0]},
        "method.feature_temperature": {"choices": [0.05, 0.1, 0.2], "when": "method.feature_weight > 0"},
    }
    life = Life(make(SMALL | {"parameters": parameters}), journal)
    assert [trial.phase for trial in life.run()].count("search") == 4
    life.check_done()


KINDS = {"grid": GRID, "search": SEARCH, "small": SMALL}
ACTION = st.sampled_from(["next", "next", "epoch", "epoch", "epoch", "stop", "fail", "kill", "signal"])


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=st.lists(st.tuples(ACTION, st.integers(0, 9)), max_size=60))
def test_wherever_it_is_killed_the_sweep_ends_with_all_that_was_asked_for(kind, actions, journal):
    life = Life(make(KINDS[kind]), journal)
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
    found = list(life.agenda.trials.values())
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
def test_a_crash_after_any_record_gives_the_same_trials(kind, journal):
    """The ledger cut off after each of its lines, as a crash would leave it, and gone on with."""
    life = Life(make(KINDS[kind]), journal)
    life.run()
    whole = life.records
    fixed = {name for name, trial in life.agenda.trials.items() if trial.label in ("none", "kd") or kind == "grid"}
    for length in range(len(whole) if kind != "search" else 40):
        life.records = list(whole[:length])
        life.resume()
        life.run()
        life.check_done()
        assert fixed <= set(life.agenda.trials)
        if kind == "small":
            assert set(life.agenda.trials) == {record["trial"] for record in whole}
