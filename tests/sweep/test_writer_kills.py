"""The process that writes ledger and checkpoints is killed at any instant; `make chaos` does it more often."""

import random

from tests.chaos import writer_kills


def test_kill_9_at_any_instant_loses_nothing(tmp_path):
    tried, problems, again = writer_kills.kill_often(tmp_path, random.Random(3), 8)
    assert tried == 8
    assert problems == []
    assert again <= tried
