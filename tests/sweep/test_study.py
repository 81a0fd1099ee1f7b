"""Optuna as the sweep uses it: the space's distributions, and a study that the ledger can rebuild."""

import json
import math

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from msd_sweeps.catalog.networks import NETWORKS
from msd_sweeps.records.ranking import values_of
from msd_sweeps.records.trial_record import EpochResult, TrialRecord
from msd_sweeps.space.schema import Search, Space
from msd_sweeps.sweep.study import Study, distribution_of, sampler

PARAMETERS = {
    "method.scales": {"choices": [[1], [1, 2], None]},
    "size": {"choices": {"small": {"recipe.lr": 0.1}, "large": {"recipe.lr": 0.2}}},
    "method.sample_weight": {"low": 0.1, "high": 4.0, "log": True},
    "method.kd_weight": {"low": 0.0, "high": 1.0},
    "method.temperature": {"low": 0.1, "high": 0.7, "step": 0.1},
    "recipe.epochs": {"low": 2, "high": 9},
    "recipe.batch_size": {"low": 16, "high": 64, "step": 16},
    "data.train_samples": {"low": 10, "high": 1000, "log": True},
}
EXPECTED = {
    "method.scales": CategoricalDistribution(["[1]", "[1, 2]", "null"]),
    "size": CategoricalDistribution(["small", "large"]),
    "method.sample_weight": FloatDistribution(0.1, 4.0, log=True),
    "method.kd_weight": FloatDistribution(0.0, 1.0),
    "method.temperature": FloatDistribution(0.1, 0.7, step=0.1),
    "recipe.epochs": IntDistribution(2, 9),
    "recipe.batch_size": IntDistribution(16, 64, step=16),
    "data.train_samples": IntDistribution(10, 1000, log=True),
}


def make_space(parameters=PARAMETERS, mode="max", **search) -> Space:
    tree = {"base": "digits", "design": "search", "parameters": parameters, "search": search}
    return Space.model_validate_json(json.dumps(tree | {"metric": {"name": "val_top1", "mode": mode}}))


def record(number: int, values: dict, state: str, scores: list[float | None]) -> TrialRecord:
    epochs = [
        EpochResult(f"t{number}", "running", index, 1.0, {"val_top1": score}) for index, score in enumerate(scores, 1)
    ]
    return TrialRecord(f"t{number}", "c", "", "search", number, 0, {}, [values], state=state, epochs=epochs)


@pytest.fixture
def journal(tmp_path):
    return tmp_path / "optuna.journal"


def opened(journal) -> optuna.Study:
    """The study as another program sees it."""
    return optuna.load_study(study_name=None, storage=JournalStorage(JournalFileBackend(str(journal))))


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_parameter_becomes_a_distribution(name):
    assert distribution_of(make_space().parameters[name]) == EXPECTED[name]


@pytest.mark.parametrize("kind", ["tpe", "random", "qmc", "gp", "nsga2"])
def test_every_sampler_stays_within_the_space(kind, journal):
    few = {name: PARAMETERS[name] for name in ("method.scales", "size", "method.sample_weight", "recipe.batch_size")}
    study = Study(make_space(few, sampler=kind), "s", journal)
    for turn in range(3):
        asked, values = study.ask()
        assert values["method.scales"] in ([1], [1, 2], None)
        assert values["size"] in ("small", "large")
        assert 0.1 <= values["method.sample_weight"] <= 4.0
        assert values["recipe.batch_size"] in (16, 32, 48, 64)
        study.report(asked, 1, turn / 10)
        study.tell(asked, "finished", turn / 10)
    assert len(opened(journal).trials) == 3


def test_steps_leave_no_dust(journal):
    study = Study(make_space({"method.temperature": {"low": 0.1, "high": 0.7, "step": 0.1}}), "s", journal)
    found = {study.ask()[1]["method.temperature"] for _ in range(40)}
    assert found <= {0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7}


@pytest.mark.parametrize("mode", ["max", "min"])
def test_the_study_is_opened_by_others(mode, journal):
    study = Study(make_space(mode=mode), "my-sweep", journal)
    asked, _ = study.ask()
    study.report(asked, 1, 50.0)
    study.report(asked, 2, 60.0)
    study.tell(asked, "finished", 60.0)
    other = opened(journal)
    assert other.study_name == "my-sweep"
    assert other.direction.name == {"max": "MAXIMIZE", "min": "MINIMIZE"}[mode]
    (trial,) = other.trials
    assert (trial.state, trial.value, trial.intermediate_values) == (TrialState.COMPLETE, 60.0, {1: 50.0, 2: 60.0})


@pytest.mark.parametrize(
    ("state", "value", "told"),
    [
        ("finished", 60.0, TrialState.COMPLETE),
        ("stopped", 60.0, TrialState.PRUNED),
        ("failed", 60.0, TrialState.FAIL),
        ("diverged", None, TrialState.FAIL),
        ("out_of_memory", None, TrialState.FAIL),
        ("finished", None, TrialState.FAIL),
        ("stopped", None, TrialState.FAIL),
        ("finished", math.nan, TrialState.FAIL),
        ("finished", math.inf, TrialState.FAIL),
    ],
)
def test_how_an_end_is_told(state, value, told, journal):
    study = Study(make_space(), "s", journal)
    asked, _ = study.ask()
    study.report(asked, 1, value)
    study.tell(asked, state, value)
    (trial,) = opened(journal).trials
    assert trial.state == told
    assert trial.value == (value if told in (TrialState.COMPLETE, TrialState.PRUNED) else None)


def without_dust(params: dict) -> dict:
    """Steps added up leave 0.30000000000000004 in the study that asked; the ledger has 0.3."""
    return {name: round(value, 12) if isinstance(value, float) else value for name, value in params.items()}


def test_a_study_rebuilt_from_the_ledger_is_the_one_that_was_told(journal, tmp_path):
    ends = [
        ("finished", [10.0, 20.0]),
        ("stopped", [5.0]),
        ("failed", []),
        ("diverged", [7.0, None]),
        ("finished", [None]),
    ]
    study, records = Study(make_space(), "s", journal), []
    for index, (state, scores) in enumerate(ends):
        asked, values = study.ask()
        for epoch, score in enumerate(scores, 1):
            study.report(asked, epoch, score)
        study.tell(asked, state, scores[-1] if scores else None)
        records.append(record(index, values, state, scores))
    again = Study(
        make_space(), "s", tmp_path / "again.journal", [*records, record(9, records[0].values, "running", [])]
    )

    def seen(study: optuna.Study) -> list[tuple]:
        return [
            (trial.state, trial.value, without_dust(trial.params), trial.distributions, trial.intermediate_values)
            for trial in study.trials
        ]

    assert seen(again.study) == seen(study.study)
    assert [trial.state.name for trial in again.study.trials] == ["COMPLETE", "PRUNED", "FAIL", "FAIL", "FAIL"]


def test_a_choice_under_way_is_registered_again_as_it_was(journal):
    study = Study(make_space(), "s", journal)
    _, values = study.ask()
    again = Study(make_space(), "s", journal, [record(0, values, "running", [])])
    asked = again.ask_again(values)
    (trial,) = again.study.trials
    assert (trial.number, trial.state) == (asked.number, TrialState.RUNNING)
    assert {name: again._decoded(name, value) for name, value in trial.params.items()} == values
    again.report(asked, 3, 1.0)
    again.tell(asked, "finished", 1.0)
    assert again.study.best_value == 1.0
    assert again.ask()[0].number == asked.number + 1  # nothing is left in the queue


def test_a_journal_of_before_is_written_anew(journal):
    first = Study(make_space(), "s", journal)
    first.ask()
    journal.with_name(journal.name + ".lock").touch()
    Study(make_space(), "s", journal)
    assert opened(journal).trials == []


def test_the_same_seed_asks_the_same_and_a_resume_something_new(tmp_path):
    def asked(told: list[TrialRecord], name: str, seed: int = 0) -> list[dict]:
        study = Study(make_space(sampler="random", seed=seed), "s", tmp_path / name, told)
        return [study.ask()[1] for _ in range(3)]

    assert asked([], "a") == asked([], "b")
    assert asked([], "c", seed=7) != asked([], "d", seed=8)
    first = asked([], "e")
    assert not [values for values in asked([record(0, first[0], "finished", [1.0])], "f") if values in first]


@pytest.mark.parametrize("kind", ["tpe", "random", "qmc", "nsga2"])
def test_seeds_stay_within_what_numpy_takes(kind):
    largest = sampler(Search.model_validate_json(json.dumps({"sampler": kind, "seed": 2**31 - 1})), known=10_000)
    study = optuna.create_study(sampler=largest)
    assert 0 <= study.ask({"x": FloatDistribution(0, 1)}).params["x"] <= 1


SEVERAL = {
    "student.model": {"choices": ["resnet8", "resnet14", "resnet20"]},
    "method.sample_weight": {"low": 0.1, "high": 4.0, "log": True},
}


def several(**search) -> Space:
    metrics = [{"name": "val_top1"}, {"name": "student_parameters"}]
    tree = {"base": "digits", "design": "search", "parameters": SEVERAL, "metric": metrics, "search": search}
    return Space.model_validate_json(json.dumps(tree))


@pytest.mark.parametrize("kind", ["tpe", "random", "qmc", "gp", "nsga2"])
def test_every_sampler_takes_several_metrics(kind, journal):
    study = Study(several(sampler=kind), "s", journal)
    for turn in range(13):  # TPE and GP draw the first ten at random
        asked, values = study.ask()
        study.report(asked, 1, 1.0)
        study.tell(asked, "finished", float(turn), 1000.0 * len(values["student.model"]))
    other = opened(journal)
    assert [direction.name for direction in other.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert [trial.state for trial in other.trials] == [TrialState.COMPLETE] * 13
    assert other.best_trials


def test_a_study_by_several_metrics_is_rebuilt_from_the_ledger(journal, tmp_path):
    ends = [("finished", [10.0, 20.0]), ("stopped", [5.0]), ("failed", []), ("finished", [None]), ("finished", [30.0])]
    study, records = Study(several(), "s", journal), []
    for index, (state, scores) in enumerate(ends):
        asked, values = study.ask()
        ended = record(index, values, state, scores)
        ended.config = {"student": {"model": values["student.model"]}}
        for epoch, score in enumerate(scores, 1):
            study.report(asked, epoch, score)
        study.tell(asked, state, *values_of(study.space.metrics, ended))
        records.append(ended)
    again = Study(several(), "s", tmp_path / "again.journal", records)

    def seen(study: optuna.Study) -> list[tuple]:
        return [(trial.state, trial.values, trial.params, trial.intermediate_values) for trial in study.trials]

    assert seen(again.study) == seen(study.study)
    assert [trial.state.name for trial in again.study.trials] == ["COMPLETE", "FAIL", "FAIL", "FAIL", "COMPLETE"]
    model = records[0].values["student.model"]
    assert again.study.trials[0].values == [20.0, NETWORKS[model].parameters]
