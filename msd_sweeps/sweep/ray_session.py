"""Ray itself: started quietly or joined, ended without harm, and what its nodes have room for."""

import contextlib
import gc
import logging
import os
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import ray
import ray._private.services
import ray.autoscaler.sdk

from msd_sweeps.plan.plan import Plan, local_cpus, local_gpus
from msd_sweeps.plan.slots import Node, SlotPlan
from msd_sweeps.records.files import check_folder
from msd_sweeps.space.errors import InputError
from msd_sweeps.sweep import ENVIRONMENT
from msd_sweeps.sweep.run_state import Interrupted, SweepStopped

_STARTS = 4
_KNOCK_SECONDS = 10.0
_LOOK_SECONDS = 3.0
_REFUSALS = 2


@contextlib.contextmanager
def session(address: str | None, cpus: int | None, verbose: bool, again: str = "") -> Iterator[None]:
    """A local Ray, or a connection to a running cluster, for as long as the context lasts.

    address: auto or HOST:PORT; None for a local Ray, with so many CPUs, or all. again: the command to go on, which is
    shown when Ray's head ends. The handler of SIGTERM stays the one from before, although Ray sets its own. Raises
    InputError where the address does not answer, SweepStopped where a local Ray does not come up, Interrupted by
    SIGTERM while Ray starts.
    """
    on_sigterm = signal.getsignal(signal.SIGTERM)
    level = logging.INFO if verbose else logging.ERROR
    for name in ("ray", "ray.tune", "ray.train", "ray.air"):
        logging.getLogger(name).setLevel(level)
    try:
        if address is None:
            _start_local(cpus or local_cpus(), verbose, level)
        else:
            if address != "auto":  # Ray would wait for long where nothing answers
                host, _, port = address.rpartition(":")
                socket.create_connection((host, int(port)), _KNOCK_SECONDS).close()
            variables = {name: value for name, value in ENVIRONMENT.items() if name != "RAY_AUTH_MODE"}
            environment = {"env_vars": variables}
            ray.init(address=address, log_to_driver=verbose, logging_level=level, runtime_env=environment)
    except SystemExit as error:  # what Ray answers to SIGTERM
        raise Interrupted(signal.SIGTERM) from error
    except (ray.exceptions.AuthenticationError, OSError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        if address is None:
            shorter = "; set TMPDIR to a folder with a shorter path" * ("AF_UNIX" in reason)
            raise InputError(f"Ray does not start here: {reason}{shorter}") from error
        raise InputError(
            f"--address {address}: no Ray cluster answers there ({reason}). Is it running, and does this machine have "
            "its token (RAY_AUTH_MODE=token, ~/.ray/auth_token)?"
        ) from error
    over = threading.Event()
    watch = threading.Thread(target=_watch_head, args=(over, again), daemon=True)
    try:
        _answer_sigterm(on_sigterm)
        watch.start()
        yield
    finally:
        over.set()
        # A thread that lets go of one of Ray's objects while Ray ends takes the process with it, and garbage is
        # collected in any thread, such as the mirror's.
        gc.collect()
        gc.disable()
        try:
            _shut_down()
        finally:
            gc.enable()


def _start_local(cpus: int, verbose: bool, level: int) -> None:
    """Start a Ray of this machine, again where it does not come up in Ray's half minute or a process of its dies."""
    try:
        check_folder(Path.home() / ".ray", "HOME")
    except InputError:  # as in a container with another user: then the token is in no file
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    for more_starts in reversed(range(_STARTS)):
        try:
            # A signal to the driver's process group, as `timeout` sends it, must not end what the driver needs for its
            # own orderly end. Ray has no option for that; a driver that is killed still takes its daemons along.
            popen = partial(ray._private.services.ConsolePopen, start_new_session=True)
            with mock.patch.object(ray._private.services, "ConsolePopen", popen):
                ray.init(
                    address="local",
                    num_cpus=cpus,
                    num_gpus=local_gpus(),
                    include_dashboard=False,
                    object_store_memory=256 * 2**20,
                    log_to_driver=verbose,
                    logging_level=level,
                )
            return
        except Exception as error:
            # Ray raises a bare Exception for its raylet alone.
            if type(error) is not Exception and "Failed to start GCS" not in str(error):
                raise
            ray.shutdown()
            if not more_starts:
                raise SweepStopped(f"Ray did not come up in {_STARTS} starts; is this machine overloaded?") from error


def _watch_head(over: threading.Event, again: str) -> None:
    """End this process when Ray's head or raylet has ended: Ray would be silent, and then end it without a word.

    A head that does not answer may be behind a network that heals; one that is gone refuses the connection.
    """
    host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
    refused = 0
    while not over.wait(_LOOK_SECONDS):
        try:
            socket.create_connection((host.strip("[]"), int(port)), _KNOCK_SECONDS).close()
            refused = 0
        except ConnectionRefusedError:
            refused += 1
        except OSError:
            refused = 0
        gone = f"head ({host}:{port})" if refused >= _REFUSALS else "raylet" if _has_lost_raylet() else ""
        if gone and not over.is_set():
            told = f"error: Ray's {gone} has ended; nothing that was recorded is lost. To go on:"
            print(f"\n{told}\n  {again}", file=sys.stderr, flush=True)
            os._exit(1)


def _has_lost_raylet() -> bool:
    """Whether the raylet of a local Ray has ended; of a cluster's, only Ray knows."""
    node = ray._private.worker._global_node
    started: list[Any] = node.all_processes.get("raylet", []) if node is not None else []
    return any(one.process.poll() is not None for one in started)


def _shut_down() -> None:
    """End Ray from another thread. It takes the answer to SIGTERM away in the midst of it; this thread puts it back."""
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        with futures.ThreadPoolExecutor(1) as thread:
            ending = thread.submit(ray.shutdown)
            while not ending.done():
                _answer_sigterm(on_sigterm)
                futures.wait([ending], timeout=0.01)
        ending.result()
    finally:
        _answer_sigterm(on_sigterm)


def _answer_sigterm(handler: Any) -> None:
    """Set the handler of SIGTERM, in the main thread alone; None, which stands for a foreign handler, is left alone."""
    if threading.current_thread() is threading.main_thread() and handler is not None:
        signal.signal(signal.SIGTERM, handler)


def nodes() -> list[Node]:
    """What each living node of this session's Ray has."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def plan_for_cluster(plan: Plan, say: Callable[[str], None]) -> SlotPlan:
    """The slots on the cluster that this session has joined, which has `wait_seconds` to grow.

    Raises InputError with what a slot needs and what the cluster has.
    """
    resources = plan.sweep.space.resources
    end, shown = time.monotonic() + resources.wait_seconds, ""
    while True:
        try:
            there = nodes()
            return plan.slots_on(there, memory=sum(node.get("memory", 0) for node in there))
        except InputError as error:
            left = end - time.monotonic()
            if left <= 0:
                raise
            if str(error) != shown:
                shown = str(error)
                say(f"no room yet: {error}; waiting {left:.0f} s for nodes to join")
        asked = {"CPU": 1.0} | resources.resources_per_worker
        ray.autoscaler.sdk.request_resources(bundles=[asked] * resources.num_workers)
        time.sleep(2.0)


class Capacity:
    """How many trials a cluster can train, as of the last `look`, while its nodes come and go."""

    def __init__(
        self,
        plan: SlotPlan,
        wait_seconds: float,
        say: Callable[[str], None],
        nodes: Callable[[], Sequence[Node]],
        clock: Callable[[], float] = time.monotonic,
    ):
        """wait_seconds: how long to wait for nodes when there is room for no slot. nodes: what there is now."""
        self._plan, self._wait_seconds, self._say = plan, wait_seconds, say
        self._nodes, self._clock = nodes, clock
        self._looked, self._lack = clock(), ""
        self._none_since: float | None = None
        self.slots = plan.slots
        """Slots that there is room for, and trials."""
        self.trouble: str | None = None
        """What a slot needs and the cluster has, once it had room for none of them for `wait_seconds`."""

    @property
    def pack(self) -> int:
        """The most students of a slot."""
        return self._plan.pack

    def seats(self, and_ahead: bool = False) -> int:
        """How many trials may run at once; with those that wait for a seat, as Tune keeps no idle actors without."""
        return max(1, self.slots) * self._plan.pack + and_ahead * max(self._plan.pack, self._plan.slots)

    def look(self) -> None:
        """Look at the nodes, unless that was done a moment ago."""
        now = self._clock()
        if now - self._looked < _LOOK_SECONDS:
            return
        self._looked, there = now, self._nodes()
        self.slots = self._plan.slots_on(there)
        if self.slots:
            if self._none_since is not None:
                self._say("there is room again")
            self._none_since = None
        elif self._none_since is None:
            self._none_since, self._lack = now, self._plan.need_and_have(there)
            self._say(f"no room left: {self._lack}; waiting {self._wait_seconds:g} s for nodes to join")
        elif now - self._none_since >= self._wait_seconds:
            self.trouble = f"{self._lack}; waited {self._wait_seconds:g} s for nodes to join"
