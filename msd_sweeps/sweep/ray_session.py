"""Starting Ray quietly and joining a cluster."""

import contextlib
import gc
import logging
import signal
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

from msd_sweeps.plan.plan import Plan, local_cpus
from msd_sweeps.plan.slots import Node, SlotPlan
from msd_sweeps.space.errors import InputError
from msd_sweeps.sweep import ENVIRONMENT
from msd_sweeps.sweep.stopping import Interrupted, SweepStopped

_OBJECT_STORE_BYTES = 256 * 2**20
_STARTS = 4
_ROOM_POLL_SECONDS = 2.0
_SIGNAL_POLL_SECONDS = 0.01


@contextlib.contextmanager
def session(address: str | None, cpus: int | None, verbose: bool) -> Iterator[None]:
    """A local Ray, or a connection to a running cluster, for as long as the context lasts.

    The handler of SIGTERM stays the one from before, although Ray sets its own. Raises InputError where the address
    does not answer, SweepStopped where a local Ray does not come up, Interrupted by SIGTERM while Ray starts.
    """
    on_sigterm = signal.getsignal(signal.SIGTERM)
    if address not in (None, "auto"):
        check_address(str(address))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import ray
    level = logging.INFO if verbose else logging.ERROR
    for name in ("ray", "ray.tune", "ray.train", "ray.air"):
        logging.getLogger(name).setLevel(level)
    try:
        if address is None:
            _start_local(cpus or local_cpus(), verbose, level)
        else:
            ray.init(
                address=address,
                log_to_driver=verbose,
                logging_level=level,
                runtime_env={"env_vars": {k: v for k, v in ENVIRONMENT.items() if k != "RAY_AUTH_MODE"}},
            )
    except (ray.exceptions.AuthenticationError, ConnectionError, RuntimeError, ValueError) as error:
        raise InputError(
            f"--address {address}: no Ray cluster answers there ({str(error).splitlines()[0]}). Is it running, and "
            "does this machine have its token (RAY_AUTH_MODE=token, ~/.ray/auth_token)?"
        ) from error
    except SystemExit as error:  # what Ray answers to SIGTERM
        raise Interrupted(signal.SIGTERM) from error
    try:
        _answer_sigterm(on_sigterm)
        yield
    finally:
        # A thread that lets go of one of Ray's objects while Ray ends takes the process with it, and garbage is
        # collected in any thread, such as the mirror's.
        gc.collect()
        gc.disable()
        try:
            _shut_down()
        finally:
            gc.enable()


def _shut_down() -> None:
    """End Ray from another thread. It takes the answer to SIGTERM away in the midst of it; this thread puts it back."""
    import ray

    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        with futures.ThreadPoolExecutor(1) as thread:
            ending = thread.submit(ray.shutdown)
            while not ending.done():
                _answer_sigterm(on_sigterm)
                futures.wait([ending], _SIGNAL_POLL_SECONDS)
        ending.result()
    finally:
        _answer_sigterm(on_sigterm)


def _answer_sigterm(handler: Any) -> None:
    """Set the handler of SIGTERM, in the main thread alone; None, which stands for a foreign handler, is left alone."""
    if threading.current_thread() is threading.main_thread() and handler is not None:
        signal.signal(signal.SIGTERM, handler)


def _start_local(cpus: int, verbose: bool, level: int) -> None:
    """Start a Ray of this machine, again where a busy machine has kept it from coming up within Ray's half minute."""
    import ray

    for more_starts in reversed(range(_STARTS)):
        try:
            ray.init(
                address="local",
                num_cpus=cpus,
                include_dashboard=False,
                object_store_memory=_OBJECT_STORE_BYTES,
                log_to_driver=verbose,
                logging_level=level,
            )
        except Exception as error:
            if type(error) is not Exception:  # Ray raises a bare Exception for this alone
                raise
            ray.shutdown()
            if not more_starts:
                raise SweepStopped(f"Ray did not come up in {_STARTS} starts; is this machine overloaded?") from error
        else:
            return


def check_address(address: str) -> None:
    """Knock at HOST:PORT before Ray does, which would wait for long. Raises InputError."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise InputError(f"--address {address}: expected auto or HOST:PORT")
    knock(f"--address {address}", host, int(port))


def knock(option: str, host: str, port: int) -> None:
    """Raises InputError, which begins with the option, where nothing answers."""
    try:
        socket.create_connection((host, port), timeout=10).close()
    except OSError as error:
        raise InputError(f"{option}: nothing answers there ({error})") from error


def nodes() -> list[Node]:
    """What each living node of this session's Ray has."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def plan_for_cluster(plan: Plan, say: Callable[[str], None]) -> SlotPlan:
    """The slots on the cluster that this session has joined, which has `wait_seconds` to grow.

    Raises InputError with what a slot needs and what the cluster has.
    """
    import ray.autoscaler.sdk

    resources = plan.sweep.space.resources
    end, shown = time.monotonic() + resources.wait_seconds, ""
    while True:
        try:
            there = nodes()
            memory = sum(node.get("memory", 0) for node in there)
            return plan.slots_on(there, memory)
        except InputError as error:
            left = end - time.monotonic()
            if left <= 0:
                raise
            if str(error) != shown:
                shown = str(error)
                say(f"no room yet: {error}; waiting {left:.0f} s for nodes to join")
        asked = {"CPU": 1.0} | resources.resources_per_worker
        ray.autoscaler.sdk.request_resources(bundles=[asked] * resources.num_workers)
        time.sleep(_ROOM_POLL_SECONDS)


def driver_node() -> str:
    """The resource by which Ray names the node that this process is on."""
    import ray

    return f"node:{ray.util.get_node_ip_address()}"
