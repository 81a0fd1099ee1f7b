"""How many trials a cluster can train while its nodes come and go."""

import pytest

from msd_sweeps.plan.slots import Packing, plan_slots
from msd_sweeps.space.sections import Resources
from msd_sweeps.sweep.ray_session import Capacity

LACK = "resources: 1 workers x 2 CPUs need 2 CPUs, have 0"


class Cluster:
    """Nodes of a cluster, a clock, and what was said."""

    def __init__(self, *cpus: int):
        self.nodes = [{"CPU": count} for count in cpus]
        self.now = 0.0
        self.said: list[str] = []

    def capacity(self, **resources) -> Capacity:
        wanted = Resources(cpus_per_worker=2, pack=3, **resources)
        plan = plan_slots(wanted, self.nodes, 100, Packing(3, 2**20))
        self.seen = Capacity(plan, wanted.wait_seconds, self.said.append, lambda: self.nodes, lambda: self.now)
        return self.seen

    def later(self, seconds: float, *cpus: int) -> None:
        self.now += seconds
        self.nodes = [{"CPU": count} for count in cpus]
        self.seen.look()


def test_seats_follow_the_nodes():
    cluster = Cluster(4)
    capacity = cluster.capacity()
    assert capacity.seats() == 6
    cluster.later(10, 4, 2)
    assert capacity.seats() == 9
    cluster.later(10, 2)
    assert capacity.seats() == 3
    assert (capacity.trouble, cluster.said) == (None, [])


def test_without_room_for_long_the_sweep_is_told_what_is_needed_and_what_is_there():
    cluster = Cluster(4)
    capacity = cluster.capacity(wait_seconds=60)
    cluster.later(10)
    assert capacity.trouble is None
    assert capacity.seats() == 3, "a trial may wait"
    cluster.later(56)
    assert capacity.trouble is None
    cluster.later(4)
    assert capacity.trouble == f"{LACK}; waited 60 s for nodes to join"
    assert cluster.said == [f"no room left: {LACK}; waiting 60 s for nodes to join"]


def test_a_node_that_comes_back_in_time_ends_the_wait():
    cluster = Cluster(4)
    capacity = cluster.capacity(wait_seconds=60)
    for _ in range(3):
        cluster.later(10)
        assert capacity.trouble is None
        cluster.later(50, 4)
        assert capacity.trouble is None
    assert cluster.said == [f"no room left: {LACK}; waiting 60 s for nodes to join", "there is room again"] * 3


def test_nodes_are_not_asked_for_at_every_step():
    cluster = Cluster(4)
    capacity = cluster.capacity()
    cluster.later(1)
    assert (capacity.seats(), capacity.trouble) == (6, None)
    assert cluster.said == []


@pytest.mark.parametrize("seconds", [-1, float("inf")])
def test_a_wait_is_a_time(seconds):
    with pytest.raises(ValueError, match="wait_seconds"):
        Resources(wait_seconds=seconds)
