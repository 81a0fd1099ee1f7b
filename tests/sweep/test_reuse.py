"""What another sweep of the store has finished is taken over once, whole, and said to be."""

import itertools
import json

import pytest

from msd_sweeps.records.ledger import FILE_NAME, Ledger
from msd_sweeps.records.trial_record import trials_of
from msd_sweeps.sweep.reuse import Elsewhere
from msd_sweeps.sweep.trial_queue import Pause
from tests.sweep.test_trial_queue import GRID, SEARCH, SMALL, Life, make


@pytest.fixture
def journal(tmp_path):
    return tmp_path / "optuna.journal"


def write(storage, name: str, records: list[dict]) -> None:
    book = Ledger(storage / name / FILE_NAME)
    for record in records:
        book.append(**record)
    book.close()


def finished_grid(journal, seeds=(0, 1)) -> Life:
    tree = GRID | {"seeds": list(seeds)}
    tree["parameters"] = {"method.scales": {"choices": [[1], [2]]}}
    life = Life(with_epochs(make(tree)), journal)
    life.run()
    return life


def with_epochs(sweep):
    """The invented trials of these tests have two epochs, and say so."""
    recipe = sweep.base.recipe.model_copy(update={"epochs": 2})
    return sweep.__class__(sweep.name, sweep.space, sweep.base.model_copy(update={"recipe": recipe}))


class Second(Life):
    """A sweep that knows the ledgers of a store."""

    def __init__(self, sweep, journal, storage, name="second"):
        self.storage, self.name = storage, name
        super().__init__(with_epochs(sweep), journal)

    def resume(self) -> None:
        super().resume()
        self.agenda._elsewhere = Elsewhere(self.storage, self.name).find


def test_finished_trials_are_found_by_their_id_with_every_epoch(tmp_path, journal):
    life = finished_grid(journal)
    write(tmp_path, "first", life.records)
    elsewhere = Elsewhere(tmp_path, "second")
    for name, trial in life.agenda.trials.items():
        found = elsewhere.find(name)
        assert (found.source, found.epochs, found.state) == ("first", trial.epochs, "finished")
    assert elsewhere.find("0" * 12) is None
    assert Elsewhere(tmp_path, "first").find(name) is None  # its own ledger is no other sweep's


@pytest.mark.parametrize("state", ["stopped", "diverged", "failed", "out_of_memory", "interrupted"])
def test_only_what_finished_is_taken_over(tmp_path, journal, state):
    life = Life(with_epochs(make(GRID)), journal)
    trial = life.next()
    life.epoch(trial)
    life.epoch(trial)
    life.end(trial, state)
    write(tmp_path, "first", life.records)
    assert Elsewhere(tmp_path, "second").find(trial.trial) is None


def test_a_trial_with_a_lost_epoch_or_a_damaged_line_is_trained(tmp_path, journal):
    life = finished_grid(journal)
    first, second, *_ = life.agenda.trials
    lost = next(r for r in life.records if r["event"] == "epoch" and r["trial"] == first)
    write(tmp_path, "first", [record for record in life.records if record is not lost])
    path = tmp_path / "first" / FILE_NAME
    lines = path.read_bytes().splitlines(keepends=True)
    place = next(i for i, line in enumerate(lines) if b'"event":"epoch"' in line and second.encode() in line)
    lines[place] = lines[place].replace(b'"seconds":1.0', b'"seconds":2.0')
    path.write_bytes(b"".join(lines))
    elsewhere = Elsewhere(tmp_path, "second")
    assert elsewhere.find(first) is None
    assert elsewhere.find(second) is None


def test_a_design_trains_only_what_no_other_sweep_has_finished(tmp_path, journal):
    first = finished_grid(journal)
    write(tmp_path, "first", first.records)
    life = Second(make(GRID | {"seeds": [0, 1, 2]}), journal, tmp_path)
    ran = life.run()
    taken = {name: trial for name, trial in life.agenda.trials.items() if trial.source}
    assert set(taken) == set(first.agenda.trials)
    assert {trial.trial for trial in ran} == set(life.agenda.trials) - set(taken)
    assert all(trial.epochs == first.agenda.trials[name].epochs for name, trial in taken.items())
    life.check_done()
    # A third sweep learns who trained them, not who copied them.
    write(tmp_path, "a-copy", life.records)
    third = Second(make(GRID), journal, tmp_path, "third")
    third.agenda.take_over()
    assert {trial.source for trial in third.agenda.trials.values()} <= {"first", "a-copy"}
    assert all(third.agenda.trials[name].source == "first" for name in taken)


def test_a_sweep_that_is_known_whole_needs_nobody_to_train(tmp_path, journal):
    write(tmp_path, "first", finished_grid(journal).records)
    tree = GRID | {"parameters": {"method.scales": {"choices": [[2], [1]]}}}
    life = Second(make(tree), journal, tmp_path)
    life.agenda.take_over()
    assert life.agenda.is_complete
    life.check_done()


def test_a_search_tells_optuna_what_it_took_over(tmp_path, journal):
    first = Life(with_epochs(make(SEARCH)), journal)
    first.run()
    write(tmp_path, "first", first.records)
    life = Second(make(SEARCH), journal, tmp_path)
    assert life.run() == []  # the same seed asks for the same trials
    assert {trial.source for trial in life.agenda.trials.values()} == {"first"}
    for one, other in zip(life.agenda.study.study.trials, first.agenda.study.study.trials, strict=True):
        assert (one.state, one.value, one.params, one.intermediate_values) == (
            other.state,
            other.value,
            other.params,
            other.intermediate_values,
        )
    life.check_done()


@pytest.mark.parametrize("tree", [GRID, SMALL], ids=["grid", "search"])
def test_a_crash_after_any_record_of_a_take_over_is_gone_on_with(tmp_path, journal, tree):
    first = Life(with_epochs(make(tree)), journal)
    first.run()
    write(tmp_path, "first", first.records)
    whole = Second(make(tree), journal, tmp_path)
    whole.run()
    for length in range(0, len(whole.records), 3):
        life = Second(make(tree), journal, tmp_path)
        life.records = list(whole.records[:length])
        life.resume()
        assert life.run() == []
        life.check_done()
        again = trials_of(json.loads(json.dumps(life.records)))
        assert {name: trial.epochs for name, trial in again.items()} == {
            name: trial.epochs for name, trial in first.agenda.trials.items()
        }


def test_a_broken_off_take_over_whose_source_is_gone_is_trained_from_the_start(tmp_path, journal):
    write(tmp_path, "first", finished_grid(journal).records)
    life = Second(make(GRID), journal, tmp_path)
    life.agenda.take_over()
    life.records = list(itertools.islice(life.records, 2))  # the start, and the first of two epochs
    (tmp_path / "first" / FILE_NAME).unlink()
    life.resume()
    trial = life.next()
    assert (trial.source, trial.epochs, trial.attempts) == ("", [], 2)
    life.finish(trial)
    assert life.next() is not Pause.DONE
    again = trials_of(json.loads(json.dumps(life.records)))
    assert not again[trial.trial].source
