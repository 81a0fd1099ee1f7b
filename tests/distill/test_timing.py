"""How steps are timed and packs are tried. How fast anything is, no test says."""

import pytest
import torch

from msd_sweeps.distill import timing
from msd_sweeps.distill.timing import measure, time_in_turns, worthwhile_pack
from tests.distill.conftest import make_trial


def test_candidates_take_turns():
    order: list[str] = []
    steps = {name: (lambda name=name: order.append(name)) for name in "ab"}
    ticks = iter(range(100))
    timings = time_in_turns(steps, rounds=2, steps=2, clock=lambda: next(ticks))
    assert "".join(order) == "aaaaabbbbb" + "aabb" * 2
    assert timings == {"a": [0.5, 0.5], "b": [0.5, 0.5]}  # one tick for two steps


def test_a_step_of_a_trial_takes_time():
    assert measure(make_trial(), steps=1) > 0


@pytest.mark.parametrize(
    ("seconds", "bytes_each", "pack"),
    [
        ({1: 1.0, 2: 0.6, 4: 0.4, 8: 0.38, 16: 0.37}, 1, 8),  # 8 is still 5 % cheaper, 16 is not
        ({1: 1.0, 2: 0.99}, 1, 1),
        ({1: 1.0, 2: 0.5, 4: 0.25, 8: 0.12, 16: 0.06}, 1, 16),  # the most
        ({1: 1.0, 2: 0.5, 4: 0.25, 8: 0.12, 16: 0.06}, 15, 4),  # 8 would take 120 of 100 bytes
        ({1: 1.0, 2: 0.5}, 1, 2),  # 4 does not fit, as is seen when it is tried
    ],
)
def test_a_pack_grows_while_it_is_worth_it_and_fits(seconds, bytes_each, pack):
    def cost(students: int) -> tuple[float, float]:
        if students not in seconds:
            raise torch.OutOfMemoryError
        return seconds[students], bytes_each * students

    assert worthwhile_pack(cost, 16, 100) == pack


@pytest.mark.parametrize(("share", "pack"), [(1.0, 8), (0.5, 4), (0.25, 2)])
def test_workers_that_share_a_gpu_count_its_memory_together(monkeypatch, share, pack):
    held = 0

    def cohort_step(trials):
        nonlocal held
        held = len(trials)
        return lambda: None

    monkeypatch.setattr(timing, "cohort_step", cohort_step)
    # Larger packs are always worth it.
    monkeypatch.setattr(timing, "time_in_turns", lambda step, **_: {"step": [1.0]})
    for name in ("empty_cache", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, name, lambda: None)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda: 10 * held)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (0, 100))
    assert timing.measure_pack(make_trial(), 16, share) == pack
