"""A sweep on two hosts with addresses of their own, one of which is cut off."""

import pytest

from tests.cluster.losing import lose_a_host, lose_the_only_host, stop_ray


@pytest.mark.cluster
@pytest.mark.parametrize("turn", range(10))
def test_a_sweep_loses_a_host_and_nothing_else(cluster, place, turn):
    lose_a_host(cluster, place, f"lost-{turn}")


@pytest.mark.cluster
def test_a_sweep_that_loses_its_only_host_stops_in_time_and_goes_on_later(hosts, place):
    try:
        lose_the_only_host(hosts, place, "alone")
    finally:
        stop_ray(hosts)
