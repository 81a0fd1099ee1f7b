"""A search depends on its ledger alone: wherever it is broken off, the same trials follow, with the same numbers."""

import pytest

from msd_sweeps.records.trial_record import trials_of
from tests.sweep.life import BASE, make
from tests.sweep.one_slot import OneSlot, invented

PARAMETERS = {
    "method.sample_weight": {"low": 0.1, "high": 4.0, "log": True},
    "recipe.lr": {"low": 0.001, "high": 0.1, "log": True},
    "recipe.epochs": {"choices": [3, 5]},
}
ASHA = {"type": "asha", "grace_period": 1, "reduction_factor": 2}


def search(samples: int = 12, scheduler=ASHA, **settings):
    confirm = {"top_k": 1, "seeds": [1], "baselines": {"kd": {"method": {"name": "kd"}}}}
    tree = {"design": "search", "parameters": PARAMETERS, "scheduler": scheduler, "confirm": confirm}
    return make(tree | {"search": {"num_samples": samples} | settings})


def told(records: list[dict]) -> list[tuple]:
    """All that a search decided and measured, in order."""
    return [
        (trial.number, trial.trial, trial.state, [(epoch.epoch, epoch.metrics) for epoch in trial.epochs])
        for trial in trials_of(records).values()
    ]


@pytest.mark.parametrize("scheduler", [ASHA, {"type": "none"}], ids=["asha", "none"])
@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc", "nsga2"])
def test_wherever_a_search_is_killed_the_same_trials_follow(scheduler, sampler, tmp_path, monkeypatch):
    """The ledger cut off after each of its records, as `kill -9` would leave it, and gone on with."""
    sweep = search(16, scheduler=scheduler, sampler=sampler)

    def go_on(records: list[dict], rounds: int = 10_000) -> list[dict]:
        slot = OneSlot(sweep, tmp_path, records, 8, monkeypatch)
        slot.diverges = {5}
        return slot.run(rounds)

    whole = go_on([])
    assert len(told(whole)) == 16 + 2
    assert {"stopped" in state for _, _, state, _ in told(whole)} == {scheduler is ASHA, False}
    step = 1 if sampler == "tpe" else 5
    for length in range(0, len(whole), step):
        assert told(go_on(whole[:length])) == told(whole), f"broken off after {length} of {len(whole)} records"
    for length in range(7, len(whole), 23):
        again = go_on(whole[:length], rounds=3)
        assert told(go_on(again[:-1])) == told(whole), f"broken off after {length} records, and 3 rounds later"


def test_students_reach_a_rung_together_and_the_order_of_their_results_decides_nothing(tmp_path, monkeypatch):
    def shuffled(self, results):
        return take(self, reversed(list(results)))

    from msd_sweeps.sweep.trial_queue import TrialQueue

    take = TrialQueue.take
    straight = OneSlot(search(), tmp_path, [], 4, monkeypatch).run()
    monkeypatch.setattr(TrialQueue, "take", shuffled)
    assert OneSlot(search(), tmp_path, [], 4, monkeypatch).run() == straight


def test_no_trial_is_stopped_after_its_own_last_epoch_or_between_rungs(tmp_path, monkeypatch):
    """`recipe.epochs: {choices: [3, 5]}` with rungs at 1, 2 and 4: every stop is at a rung of the trial's own."""
    trials = trials_of(OneSlot(search(24), tmp_path, [], 4, monkeypatch).run()).values()
    stops = {(t.config["recipe"]["epochs"], len(t.epochs)) for t in trials if t.state == "stopped"}
    assert stops <= {(3, 1), (3, 2), (5, 1), (5, 2), (5, 4)}
    longest = {t.config["recipe"]["epochs"] for t in trials if t.state == "finished" and t.phase == "search"}
    assert longest == {2, 3, 5}  # the base has 2


def test_the_base_is_tried_first_then_the_points_that_are_known(tmp_path, monkeypatch):
    known = [{"recipe.lr": 0.05, "recipe.epochs": 3}, {"method.sample_weight": 2.0}]
    sweep = search(6, scheduler={"type": "none"}, first=known)
    trials = [t for t in trials_of(OneSlot(sweep, tmp_path, [], 4, monkeypatch).run()).values() if t.phase == "search"]
    configs = [t.config for t in trials]
    own = (BASE.method.sample_weight, BASE.recipe.lr, BASE.recipe.epochs)
    seen = [(c["method"]["sample_weight"], c["recipe"]["lr"], c["recipe"]["epochs"]) for c in configs[:3]]
    assert seen == [own, (own[0], 0.05, 3), (2.0, own[1], own[2])]
    assert "recipe.epochs" not in trials[0].values  # 2 is none of the choices: the base keeps it
    assert len(configs) == 6


def test_a_search_whose_time_is_up_ends_in_order_and_is_confirmed(tmp_path, monkeypatch):
    sweep = search(12, time_budget=1.0)
    slot = OneSlot(sweep, tmp_path, [], 4, monkeypatch)
    slot.life.queue.run.seconds_before = 3599.0
    slot.life.queue._began += 3600
    records = slot.run(2)
    assert [t.phase for t in trials_of(records).values()].count("search") > 4
    begun = {t.trial for t in trials_of(records).values()}
    slot = OneSlot(sweep, tmp_path, records, 4, monkeypatch)
    slot.life.queue.run.seconds_before = 3601.0
    trials = trials_of(slot.run())
    assert {t.trial for t in trials.values() if t.phase == "search"} == begun
    assert {t.label for t in trials.values() if t.phase == "confirm"} == {"kd", "winner 1"}
    assert slot.life.is_complete
    again = OneSlot(sweep, tmp_path, slot.life.records, 4, monkeypatch)
    assert told(again.run()) == told(slot.life.records)
    longer = OneSlot(search(12, time_budget=2.0), tmp_path, slot.life.records, 4, monkeypatch)
    assert [t.phase for t in trials_of(longer.run()).values()].count("search") == 12


def test_new_trials_begin_together(tmp_path, monkeypatch):
    """Of eight seats no fewer than two are filled at a time, as trials from the beginning take a teacher's pass."""
    slot = OneSlot(search(24, scheduler={"type": "none"}), tmp_path, [], 8, monkeypatch)
    slot.diverges = {3}
    records = slot.run()
    starts, batches = 0, []
    for record in records:
        is_start = record["event"] == "start" and record["phase"] == "search"
        if starts and not is_start:
            batches.append(starts)
        starts = starts + 1 if is_start else 0
    assert sum(batches) == 24
    assert min(batches[:-1]) >= 2


def test_invented_scores_have_an_optimum():
    config = {"method": {"sample_weight": 1.3}, "recipe": {"lr": 0.02}}
    assert invented(config, 0)["val_top1"] == 90
