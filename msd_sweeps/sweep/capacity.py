"""The capacity of a cluster: how many trials it can train while its nodes come and go."""

import time
from collections.abc import Callable, Sequence

from msd_sweeps.plan.slots import Node, SlotPlan

_LOOK_SECONDS = 3.0


class Capacity:
    """How many slots the nodes have room for; the nodes are looked at every few seconds."""

    def __init__(
        self,
        plan: SlotPlan,
        wait_seconds: float,
        say: Callable[[str], None],
        nodes: Callable[[], Sequence[Node]],
        clock: Callable[[], float] = time.monotonic,
    ):
        """wait_seconds: how long a sweep waits for nodes when there is room for none of its slots.

        say: shows the user a line. nodes: the nodes of now. clock: seconds.
        """
        self._plan, self._wait_seconds, self._say = plan, wait_seconds, say
        self._nodes, self._clock = nodes, clock
        self._slots, self._looked = plan.slots, clock()
        self._none_since: float | None = None
        self._lack = ""

    @property
    def seats(self) -> int:
        """How many trials may run at once."""
        self._look()
        return max(1, self._slots) * self._plan.pack

    @property
    def ahead(self) -> int:
        """Trials to ask for beyond the seats: Tune keeps an idle actor only while a trial waits for it."""
        return max(self._plan.pack, self._plan.slots)

    @property
    def trouble(self) -> str | None:
        """What a slot needs and the cluster has, once it had room for none of them for `wait_seconds`."""
        self._look()
        if self._none_since is None or self._clock() - self._none_since < self._wait_seconds:
            return None
        return f"{self._lack}; waited {self._wait_seconds:g} s for nodes to join"

    def _look(self) -> None:
        now = self._clock()
        if now - self._looked < _LOOK_SECONDS:
            return
        self._looked, there = now, self._nodes()
        self._slots = self._plan.slots_on(there)
        if self._slots:
            if self._none_since is not None:
                self._say("there is room again")
            self._none_since = None
        elif self._none_since is None:
            self._none_since, self._lack = now, self._plan.need_and_have(there)
            self._say(f"no room left: {self._lack}; waiting {self._wait_seconds:g} s for nodes to join")
