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
from msd_sweeps.records.trial_record import EpochResult, TrialRecord
from msd_sweeps.space.designs import Sweep
from msd_sweeps.space.load import load_base
from msd_sweeps.space.schema import Search, Space
from msd_sweeps.sweep.study import Study, distribution_of, sampler, start_up, studies

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
    confirm = {"seeds": [1000]}
    tree = {"base": "digits", "design": "search", "parameters": parameters, "search": search, "confirm": confirm}
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


SAMPLERS = ["tpe", "random", "qmc", "gp", "nsga2"]
FEW = {name: PARAMETERS[name] for name in ("method.scales", "size", "method.sample_weight", "recipe.batch_size")}


def searched(study: Study, count: int, score=lambda values: 1.0) -> list[TrialRecord]:
    """A search that is asked again and again."""
    records: list[TrialRecord] = []
    for number in range(count):
        values = study.ask(records)
        records.append(record(number, values, "finished", [score(values)]))
    return records


@pytest.mark.parametrize("kind", SAMPLERS)
def test_every_sampler_stays_within_the_space_and_no_warning_reaches_the_user(kind, journal, recwarn, capfd):
    study = Study(make_space(FEW, sampler=kind), "s", journal)
    for one in searched(study, 6):
        assert one.values["method.scales"] in ([1], [1, 2], None)
        assert one.values["size"] in ("small", "large")
        assert 0.1 <= one.values["method.sample_weight"] <= 4.0
        assert one.values["recipe.batch_size"] in (16, 32, 48, 64)
        study.show(one)
    assert len(opened(journal).trials) == 6
    assert not list(recwarn)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", SAMPLERS)
def test_a_question_depends_on_the_records_alone(kind, journal, tmp_path):
    first = searched(
        Study(make_space(FEW, sampler=kind), "s", journal), 7, lambda values: values["method.sample_weight"]
    )
    again = Study(make_space(FEW, sampler=kind), "s", tmp_path / "again.journal")
    for number, one in reversed(list(enumerate(first))):
        assert again.ask(first[:number]) == one.values
    others = searched(Study(make_space(FEW, sampler=kind, seed=5), "others", journal), 7)
    assert [one.values for one in others] != [one.values for one in first]
    if kind != "gp":
        assert again.ask(first, attempt=1) != again.ask(first)


@pytest.mark.parametrize("step", [0.1, 1e-13])
def test_steps_leave_no_dust(step, journal):
    wanted = {"low": step, "high": 7 * step, "step": step}
    study = Study(make_space({"method.temperature": wanted}, sampler="random"), "s", journal)
    found = {study.ask([], attempt)["method.temperature"] for attempt in range(60)}
    assert found == {float(f"{index}e{-1 if step == 0.1 else -13}") for index in range(1, 8)}


@pytest.mark.parametrize("kind", ["tpe", "random", "gp"])
def test_a_step_that_does_not_divide_its_range_warns_nobody(kind, journal, recwarn):
    space = make_space({"method.kd_weight": {"low": 0.1, "high": 1.0, "step": 0.25}}, sampler=kind)
    assert distribution_of(space.parameters["method.kd_weight"]) == FloatDistribution(0.1, 0.85, step=0.25)
    values = {one.values["method.kd_weight"] for one in searched(Study(space, "s", journal), 12)}
    assert values <= {0.1, 0.35, 0.6, 0.85}
    assert not list(recwarn)


@pytest.mark.parametrize("mode", ["max", "min"])
def test_the_journal_is_opened_by_others(mode, journal):
    study = Study(make_space(mode=mode), "my-sweep", journal)
    study.show(record(0, study.ask([]), "finished", [50.0, 60.0]))
    other = opened(journal)
    assert other.study_name == "my-sweep"
    assert other.direction.name == {"max": "MAXIMIZE", "min": "MINIMIZE"}[mode]
    (trial,) = other.trials
    assert (trial.state, trial.value, trial.intermediate_values) == (TrialState.COMPLETE, 60.0, {1: 50.0, 2: 60.0})


@pytest.mark.parametrize("mode", ["max", "min"])
def test_what_a_sampler_learns_of_each_end(mode, journal):
    """Failed and diverged trials count as the worst; those that run as stopped where they are, or as running."""
    ends = [
        ("finished", [10.0, 20.0]),
        ("stopped", [5.0]),
        ("failed", []),
        ("diverged", [7.0, None]),
        ("finished", [math.nan]),
        ("running", [6.0]),
        ("interrupted", [9.0, 8.0]),
        ("running", []),
    ]
    study = Study(make_space(mode=mode), "s", journal)
    records = [record(number, study.ask([], number), *end) for number, end in enumerate(ends)]
    worst = 5.0 if mode == "max" else 20.0
    assert [(trial.state.name, trial.value) for trial in study._told(records)] == [
        ("COMPLETE", 20.0),
        ("PRUNED", 5.0),
        *[("COMPLETE", worst)] * 3,
        ("PRUNED", 6.0),
        ("PRUNED", 8.0),
        ("RUNNING", None),
    ]
    for one in records[:5]:
        study.show(one)
    names = [trial.state.name for trial in opened(journal).trials]
    assert names == ["COMPLETE", "PRUNED", "FAIL", "FAIL", "FAIL"]  # as it was


def test_a_journal_of_before_is_written_anew(journal):
    sweep = Sweep("s", make_space(), load_base("digits"))
    first = studies(sweep, journal)[""]
    first.show(record(0, first.ask([]), "finished", [1.0]))
    journal.with_name(journal.name + ".lock").touch()
    studies(sweep, journal)
    assert opened(journal).trials == []


@pytest.mark.parametrize(("samples", "expected"), [(4, 4), (16, 4), (24, 6), (40, 10), (1000, 10)])
def test_a_search_soon_learns_from_what_it_has_seen(samples, expected):
    assert start_up(Search.model_validate_json(json.dumps({"num_samples": samples}))) == expected


def test_tpe_in_packs_beats_random_search(tmp_path):
    """40 trials in packs of 8 on a function with two ranges and a choice: the best of TPE is better in most seeds."""
    parameters = {
        "method.sample_weight": {"low": 0.01, "high": 10.0, "log": True},
        "recipe.lr": {"low": 0.001, "high": 1.0, "log": True},
        "method.scales": {"choices": [[1], [2], [1, 2], [1, 2, 4]]},
    }

    def score(values: dict) -> float:
        away = math.log10(values["method.sample_weight"] / 0.7) ** 2 + math.log10(values["recipe.lr"] / 0.03) ** 2
        return -away - 0.3 * abs(len(values["method.scales"]) - 2)

    def best(kind: str, seed: int) -> float:
        study = Study(make_space(parameters, sampler=kind, seed=seed, num_samples=40), f"{kind} {seed}", tmp_path / "j")
        records: list[TrialRecord] = []
        for _ in range(5):
            begun = []
            for _ in range(8):  # those of a pack know nothing of each other's scores
                values = study.ask([*records, *begun])
                begun.append(record(len(records) + len(begun), values, "running", []))
            for one in begun:
                ended = record(one.number, one.values, "finished", [score(one.values)])
                records.append(ended)
        return max(score(one.values) for one in records)

    wins = sum(best("tpe", seed) > best("random", seed) for seed in range(12))
    assert wins >= 9


@pytest.mark.parametrize("kind", SAMPLERS)
def test_seeds_stay_within_what_numpy_takes(kind):
    search = Search.model_validate_json(json.dumps({"sampler": kind, "seed": 2**31 - 1, "num_samples": 1000}))
    largest = sampler(search, 10_000, 49, kind, {"x": FloatDistribution(0, 1)})
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


@pytest.mark.parametrize("kind", SAMPLERS)
def test_every_sampler_takes_several_metrics(kind, journal):
    study = Study(several(sampler=kind), "s", journal)
    states = ["finished", "failed", *["finished"] * 4, "running"]
    records: list[TrialRecord] = []
    for number, state in enumerate(states):
        values = study.ask(records)
        one = record(number, values, state, [float(number)] if state == "finished" else [])
        one.config = {"student": {"model": values["student.model"]}}
        records.append(one)
        if one.is_final:
            study.show(one)
    other = opened(journal)
    assert [direction.name for direction in other.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert [trial.state.name for trial in other.trials].count("COMPLETE") == 5
    told = study._told(records)
    dearest = max(told[number].values[1] for number in (0, 2, 3, 4, 5))
    assert (told[1].values, told[6].state) == ([0.0, dearest], TrialState.RUNNING)
    assert told[0].values == [0.0, NETWORKS[records[0].values["student.model"]].parameters]


def test_the_dashboard_sees_the_metrics_names_and_the_trials(tmp_path):
    space = make_space({"recipe.lr": {"low": 0.1, "high": 1.0}})
    study = Study(space, "s", tmp_path / "journal")
    record = TrialRecord("abc", "c", "", "search", 4, 0, {}, [{"recipe.lr": 0.2}], state="failed")
    study.show(record)
    shown = optuna.load_study(study_name="s", storage=JournalStorage(JournalFileBackend(str(tmp_path / "journal"))))
    assert shown.metric_names == ["val_top1"]
    assert [trial.user_attrs for trial in shown.trials] == [{"trial": "abc", "number": 4, "state": "failed"}]
