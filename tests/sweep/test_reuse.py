"""What another sweep of the store has finished is taken over once, whole, and said to be."""

import itertools
import json
from dataclasses import replace

import pytest

from msd_sweeps.records.ledger import FILE_NAME, Ledger
from msd_sweeps.records.trial_record import trials_of
from msd_sweeps.sweep.reuse import FinishedTrials
from msd_sweeps.sweep.trial_queue import Pause
from tests.sweep.life import GRID, NO_INPUTS, SAME_AS_BASELINE, SEARCH, SMALL, Life, finish_with_kd_first, make


def write(storage, name: str, records: list[dict]) -> None:
    book = Ledger(storage / name / FILE_NAME)
    for record in records:
        book.append(**record)
    book.close()


def finished_grid(tmp_path, seeds=(0, 1)) -> Life:
    tree = GRID | {"seeds": list(seeds)}
    tree["parameters"] = {"method.scales": {"choices": [[1], [2]]}}
    life = Life(with_epochs(make(tree)), tmp_path)
    life.run()
    return life


def copied(epochs):
    """Epochs without the number of their round, which a copy lacks."""
    return [replace(epoch, round=0) for epoch in epochs]


def with_epochs(sweep):
    """The invented trials of these tests have two epochs, and say so."""
    recipe = sweep.base.recipe.model_copy(update={"epochs": 2})
    return sweep.__class__(sweep.name, sweep.space, sweep.base.model_copy(update={"recipe": recipe}))


def second(sweep, folder, storage, name="second") -> Life:
    """A sweep that knows the ledgers of a store."""
    return Life(with_epochs(sweep), folder, FinishedTrials(storage, name))


def test_finished_trials_are_found_by_their_id_with_every_epoch(tmp_path):
    life = finished_grid(tmp_path)
    write(tmp_path, "first", life.records)
    finished = FinishedTrials(tmp_path, "second")
    for name, trial in life.queue.trials.items():
        found = finished.find(name, {})
        assert (found.source, found.epochs, found.state) == ("first", trial.epochs, "finished")
    assert finished.find("0" * 12, {}) is None
    assert FinishedTrials(tmp_path, "first").find(name, {}) is None  # its own ledger is no other sweep's


def test_results_of_other_code_are_trained_again_and_what_differs_is_counted(tmp_path):
    tree = GRID | {"parameters": {"method.scales": {"choices": [[1], [2]]}}}

    def facts(**others):
        return lambda trial: NO_INPUTS._replace(fingerprint={"torch": "2.8", "training code": "a"} | others)

    before = Life(with_epochs(make(tree)), tmp_path, inputs=facts())
    before.run()
    write(tmp_path, "first", before.records)
    again = Life(with_epochs(make(tree)), tmp_path, FinishedTrials(tmp_path, "second"), facts())
    assert again.run() == [], "equal facts: everything is taken over"
    reuse = FinishedTrials(tmp_path, "second")
    other = Life(with_epochs(make(tree)), tmp_path, reuse, facts(**{"training code": "b"}))
    other.queue.reuse_fixed_trials()
    assert reuse.left_out == (
        "4 trials that other sweeps have are trained again: training code: a there, b here (4 trials)"
    )
    assert len(other.run()) == 4
    assert all(trial.fingerprints == [{"torch": "2.8", "training code": "b"}] for trial in other.queue.trials.values())
    write(tmp_path, "third", other.records)  # of two ledgers the one that fits
    assert (
        Life(with_epochs(make(tree)), tmp_path, FinishedTrials(tmp_path, "x"), facts(**{"training code": "b"})).run()
        == []
    )


@pytest.mark.parametrize("state", ["stopped", "diverged", "failed", "out_of_memory", "interrupted"])
def test_only_what_finished_is_taken_over(tmp_path, state):
    life = Life(with_epochs(make(GRID)), tmp_path)
    trial = life.next()
    life.epoch(trial)
    life.end(trial, state)
    write(tmp_path, "first", life.records)
    assert FinishedTrials(tmp_path, "second").find(trial.trial, {}) is None


def test_a_trial_with_a_lost_epoch_or_a_damaged_line_is_trained(tmp_path):
    life = finished_grid(tmp_path)
    first, second, *_ = life.queue.trials
    lost = next(r for r in life.records if r["event"] == "epoch" and r["trial"] == first)
    write(tmp_path, "first", [record for record in life.records if record is not lost])
    path = tmp_path / "first" / FILE_NAME
    lines = path.read_bytes().splitlines(keepends=True)
    place = next(i for i, line in enumerate(lines) if b'"event":"epoch"' in line and second.encode() in line)
    lines[place] = lines[place].replace(b'"seconds":1.0', b'"seconds":2.0')
    path.write_bytes(b"".join(lines))
    finished = FinishedTrials(tmp_path, "second")
    assert finished.find(first, {}) is None
    assert finished.find(second, {}) is None


def test_a_design_trains_only_what_no_other_sweep_has_finished(tmp_path):
    first = finished_grid(tmp_path)
    write(tmp_path, "first", first.records)
    life = second(make(GRID | {"seeds": [0, 1, 2]}), tmp_path, tmp_path)
    ran = life.run()
    taken = {name: trial for name, trial in life.queue.trials.items() if trial.source}
    assert set(taken) == set(first.queue.trials)
    assert {trial.trial for trial in ran} == set(life.queue.trials) - set(taken)
    assert all(copied(trial.epochs) == copied(first.queue.trials[name].epochs) for name, trial in taken.items())
    life.check_done()
    # A third sweep learns who trained them, not who copied them.
    write(tmp_path, "a-copy", life.records)
    third = second(make(GRID), tmp_path, tmp_path, "third")
    third.queue.reuse_fixed_trials()
    assert {trial.source for trial in third.queue.trials.values()} <= {"first", "a-copy"}
    assert all(third.queue.trials[name].source == "first" for name in taken)


def test_a_sweep_that_is_known_whole_needs_nobody_to_train(tmp_path):
    write(tmp_path, "first", finished_grid(tmp_path).records)
    tree = GRID | {"parameters": {"method.scales": {"choices": [[2], [1]]}}}
    life = second(make(tree), tmp_path, tmp_path)
    life.queue.reuse_fixed_trials()
    assert life.is_complete
    life.check_done()


def test_a_search_tells_optuna_what_it_took_over(tmp_path):
    first = Life(with_epochs(make(SEARCH)), tmp_path)
    first.run()
    write(tmp_path, "first", first.records)
    life = second(make(SEARCH), tmp_path, tmp_path)
    assert life.run() == []  # the same seed asks for the same trials
    assert {trial.source for trial in life.queue.trials.values()} == {"first"}
    for one, other in zip(
        life.queue.searches.studies[""].shown.trials, first.queue.searches.studies[""].shown.trials, strict=True
    ):
        assert (one.state, one.value, one.params, one.intermediate_values) == (
            other.state,
            other.value,
            other.params,
            other.intermediate_values,
        )
    life.check_done()


@pytest.mark.parametrize("tree", [GRID, SMALL], ids=["grid", "search"])
def test_a_crash_after_any_record_of_a_take_over_is_gone_on_with(tmp_path, tree):
    first = Life(with_epochs(make(tree)), tmp_path)
    first.run()
    write(tmp_path, "first", first.records)
    whole = second(make(tree), tmp_path, tmp_path)
    whole.run()
    for length in range(0, len(whole.records), 3):
        life = second(make(tree), tmp_path, tmp_path)
        life.records = list(whole.records[:length])
        life.resume()
        assert life.run() == []
        life.check_done()
        again = trials_of(json.loads(json.dumps(life.records)))
        assert {name: copied(trial.epochs) for name, trial in again.items()} == {
            name: copied(trial.epochs) for name, trial in first.queue.trials.items()
        }


def test_a_broken_off_take_over_whose_source_is_gone_is_trained_from_the_start(tmp_path):
    write(tmp_path, "first", finished_grid(tmp_path).records)
    life = second(make(GRID), tmp_path, tmp_path)
    life.queue.reuse_fixed_trials()
    life.records = list(itertools.islice(life.records, 2))  # the start, and the first of two epochs
    (tmp_path / "first" / FILE_NAME).unlink()
    life.resume()
    trial = life.next()
    assert (trial.source, trial.epochs, trial.attempts) == ("", [], 2)
    life.finish(trial)
    assert life.next() is not Pause.DONE
    again = trials_of(json.loads(json.dumps(life.records)))
    assert not again[trial.trial].source


def test_a_baseline_that_was_copied_before_it_won_is_named_a_winner_in_the_ledger(tmp_path):
    kd = GRID | {"parameters": {"method": {"choices": [{"name": "kd"}]}}, "seeds": [1, 2]}
    first = Life(with_epochs(make(kd)), tmp_path)
    first.run()
    write(tmp_path, "first", first.records)
    life = second(make(SAME_AS_BASELINE), tmp_path, tmp_path)
    life.queue.reuse_fixed_trials()
    assert [trial.label for trial in life.queue.trials.values()] == ["kd", "kd"]
    finish_with_kd_first(life)
    assert not life.is_complete
    assert [trial.label for trial in life.run()] == ["winner 2", "winner 2"]
    life.check_done()
    again = trials_of(json.loads(json.dumps(life.records)))
    for name in first.queue.trials:
        assert (again[name].label, again[name].source, again[name].state) == ("winner 1 = kd", "first", "finished")
        assert again[name].search_trial == life.winners[0].id
    life.resume()
    life.check_done()
    assert sum(record["event"] == "label" for record in life.records) == 2
