"""Races: seeds go to undecided rows alone, and the decisions hold however often one looks."""

import json

import numpy as np
import pytest

from msd_sweeps.records.trial_record import TrialRecord
from msd_sweeps.space.designs import Sweep
from msd_sweeps.sweep.resume import raced_trials
from tests.synthetic_ledger import make_sweep

METHODS = ("none", "kd", "crd", "at", "pkt", "sp", "dkd", "dist")


def race(**changes):
    choices = {name: {"method": {"name": name}} for name in METHODS}
    seeds = {"at_least": 4, "at_most": 20, "until": {"settled": 0.5}} | changes
    more = {"parameters": {"method": {"choices": choices}}, "also": {}, "report": {"baseline": "method=kd"}}
    return make_sweep("grid", seeds=seeds, **more)


def finished(planned, value):
    record = TrialRecord(
        trial=planned.trial.id,
        cell=planned.trial.cell,
        label=planned.label,
        phase=planned.phase,
        number=0,
        seed=planned.trial.seed,
        config=planned.trial.model_dump(mode="json"),
        levels=list(planned.levels),
        search_trial="",
    )
    epoch = {"epoch": 1, "round": 1, "more": 0, "slot": 0, "seconds": 1.0, "metrics": {"test_top1": value}}
    record.apply({"event": "start", "trial": record.trial, "attempt": 1, "time": 0.0})
    record.apply({"event": "epoch", "trial": record.trial, "attempt": 1, "time": 0.0, **epoch})
    record.apply({"event": "end", "trial": record.trial, "attempt": 1, "state": "finished", "reason": "", "time": 0.0})
    return record


def run(sweep: Sweep, score, seed=0):
    """Trials of each row when the race has ended."""
    draw, trials = np.random.default_rng(seed), {}
    while missing := [one for one in raced_trials(sweep, trials) if one.trial.id not in trials]:
        for one in missing:
            trials[one.trial.id] = finished(one, score(one.trial.method.name, draw))
    counts = {}
    for one in trials.values():
        counts[one.label] = counts.get(one.label, 0) + 1
    return counts


def test_clear_rows_stop_early_and_undecided_ones_go_on():
    worth = {"none": 60.0, "crd": 80.25}
    counts = run(race(), lambda name, draw: worth.get(name, 80.0) + 0.25 * draw.normal())
    assert counts["method=none"] == 4
    assert counts["method=kd"] == max(counts.values()) > 4
    assert sum(counts.values()) < 0.75 * 20 * len(counts)


def test_rows_without_noise_of_their_own_are_judged_by_the_noise_of_all():
    counts = run(race(at_most=8), lambda name, draw: 80.0 + 5 * draw.normal())
    assert set(counts.values()) == {8}  # nothing can be told from anything, nor shown to be equal


def test_a_race_of_a_grid_needs_one_parameter_and_a_baseline():
    space = {"seeds": {"at_least": 4, "at_most": 8, "until": {"settled": 0.5}}}
    with pytest.raises(ValueError, match="along one parameter"):
        make_sweep("grid", **space)
    with pytest.raises(ValueError, match="at_most: 4 must be above at_least"):
        race(at_most=4)
    assert json.loads(race().space.model_dump_json())["seeds"]["step"] == 2
