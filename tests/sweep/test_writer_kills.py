"""The process that writes ledger and checkpoints is killed at any instant; `make chaos` does it more often."""

import random

import pytest

from tests.chaos import writer_kills


def test_kill_9_at_any_instant_loses_nothing(tmp_path):
    tried, problems, again = writer_kills.kill_often(tmp_path, random.Random(3), 8)
    assert tried == 8
    assert problems == []
    assert again <= tried


@pytest.mark.parametrize(("fails", "cuts_power"), [(True, False), (False, False), (False, True)])
def test_a_disk_that_refuses_a_process_that_dies_and_a_power_cut_lose_nothing(fails, cuts_power, tmp_path):
    """At every 17th operation on files; `make chaos` tries each."""
    tried, problems, _ = writer_kills.each_operation(tmp_path, fails, cuts_power, every=17)
    assert tried > 5
    assert problems == []
