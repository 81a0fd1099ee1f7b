"""A sweep on two hosts with addresses of their own, one of which is cut off."""

import pytest

from tests.cluster.losing import lose_a_host


@pytest.mark.cluster
@pytest.mark.parametrize("turn", range(10))
def test_a_sweep_loses_a_host_and_nothing_else(cluster, place, turn):
    lose_a_host(cluster, place, f"lost-{turn}")
