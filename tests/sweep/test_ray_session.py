"""What Ray leaves of a process that has used it."""

import os
import subprocess
import sys
import time

import pytest

from msd_sweeps.space.errors import InputError
from msd_sweeps.sweep import ENVIRONMENT, ray_session

_GARBAGE = """
import threading, time
from msd_sweeps.sweep.ray_session import session
import ray

over = threading.Event()

def leave_garbage(left):
    while left and not over.is_set():
        circle = [left.pop()]
        circle.append(circle)
        [[] for _ in range(1000)]  # enough for the garbage collector to look
        time.sleep(0.001)

with session(None, 1, False):
    left = [ray.put(number) for number in range(4000)]
    thread = threading.Thread(target=leave_garbage, args=(left,))
    thread.start()
assert left
over.set()
thread.join()
print("the process goes on")
"""


_SIGTERM = """
import os, signal, threading, time
from msd_sweeps.sweep.ray_session import session

def is_answered():
    caught = next(line for line in open("/proc/self/status") if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) >> signal.SIGTERM - 1 & 1)

def terminate():
    os.kill(os.getpid(), signal.SIGTERM)

def terminate_when_ray_has_taken_the_answer_away():
    while not over.is_set():
        if not is_answered():
            time.sleep(0.1)
            terminate()
            return

got, over = [], threading.Event()
signal.signal(signal.SIGTERM, lambda number, frame: got.append(number))
with session(None, 1, False):
    terminate()
    thread = threading.Thread(target=terminate_when_ray_has_taken_the_answer_away)
    thread.start()
over.set()
thread.join()
terminate()
print(len(got))
"""


_SIGTERM_AT_THE_START = """
import os, signal, threading, time
from msd_sweeps.sweep.run_state import Interrupted
from msd_sweeps.sweep.ray_session import session

def ours(number, frame):
    raise AssertionError("Ray's own answer is in place")

def terminate_when_ray_has_put_its_own_in_place():
    while signal.getsignal(signal.SIGTERM) is ours:
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGTERM)

signal.signal(signal.SIGTERM, ours)
threading.Thread(target=terminate_when_ray_has_put_its_own_in_place).start()
try:
    with session(None, 1, False):
        print("started")
except Interrupted as error:
    print(error)
"""


_SIGTERM_TO_THE_GROUP = """
import os, signal, time
from msd_sweeps.sweep.ray_session import session
import ray

got = []
signal.signal(signal.SIGTERM, lambda number, frame: got.append(number))
with session(None, 1, False):
    ray.get(ray.remote(lambda: 1).remote())
    os.killpg(0, signal.SIGTERM)
    time.sleep(1)
    print(ray.get(ray.remote(lambda: 42).remote(), timeout=30), len(got))
"""


_LATE = """
from msd_sweeps.sweep.ray_session import session
import ray

with session(None, 1, False):
    made = ray.put(1)
try:
    ray.get(made)
except Exception as error:
    print(type(error).__name__, ray.is_initialized())
"""


_GCS_ENDS = """
import time
from msd_sweeps.sweep.ray_session import session
from tests.sweep.conftest import kill_process
import os

with session(None, 1, False, "the command"):
    kill_process("gcs_server", os.getpid())
    killed = time.time()
    print(killed, flush=True)
    time.sleep(100)
"""


@pytest.fixture
def refusing(monkeypatch):
    """What Ray is started with; it refuses."""
    given = {}

    def init(**options):
        given.update(options, token=os.environ.get("RAY_AUTH_TOKEN"))
        raise ValueError("AF_UNIX path length cannot exceed 107 bytes")

    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setattr(ray_session.ray, "init", init)
    return given


def test_without_a_home_the_token_stays_in_the_environment_and_a_long_tmpdir_is_told(refusing, tmp_path, monkeypatch):
    for home in (tmp_path, "/dev/null"):
        monkeypatch.setenv("HOME", str(home))
        with pytest.raises(InputError, match="107 bytes; set TMPDIR to a folder with a shorter path"):
            ray_session.session(None, 1, False).__enter__()
        assert bool(refusing["token"]) == (home != tmp_path)
    monkeypatch.delenv("RAY_AUTH_TOKEN")


def test_ray_is_started_again_where_its_head_died_while_it_started(monkeypatch):
    starts = []

    def init(**options):
        starts.append(options)
        if len(starts) < 3:
            raise RuntimeError("Failed to start GCS.  Last 0 lines of error files:")

    monkeypatch.setattr(ray_session.ray, "init", init)
    ray_session._start_local(1, False, 0)
    assert len(starts) == 3
    monkeypatch.setattr(ray_session.ray, "init", lambda **options: starts.append(options) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        ray_session._start_local(1, False, 0)
    assert len(starts) == 4


def test_ray_starts_no_workers_through_uv_and_colours_no_log():
    assert ray_session.ray._private.ray_constants.RAY_ENABLE_UV_RUN_RUNTIME_ENV is False
    assert os.environ["RAY_COLOR_PREFIX"] == "0"


def test_a_cluster_is_sent_no_variable_of_the_users(refusing, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:hunter2@h/db")
    with pytest.raises(InputError, match="no Ray cluster answers"):
        ray_session.session("auto", None, False).__enter__()
    assert set(refusing["runtime_env"]) == {"env_vars"}
    assert refusing["runtime_env"]["env_vars"].items() <= ENVIRONMENT.items()


def test_a_signal_to_the_process_group_leaves_ray_to_the_driver(tmp_path):
    command = [sys.executable, "-c", _SIGTERM_TO_THE_GROUP]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, start_new_session=True, timeout=200)
    assert (done.returncode, done.stdout) == (0, "42 1\n"), done.stderr[-500:]


def test_who_uses_ray_after_its_end_does_not_start_another(tmp_path):
    done = subprocess.run([sys.executable, "-c", _LATE], cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert done.stdout.split()[1:] == ["False"], done.stdout + done.stderr[-500:]


def test_the_end_of_rays_head_is_told_with_the_command_to_go_on(tmp_path):
    command = [sys.executable, "-c", _GCS_ENDS]
    path = os.pathsep.join([os.getcwd(), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=200, env=os.environ | {"PYTHONPATH": path}
    )
    seconds = time.time() - float(done.stdout)
    assert (done.returncode, seconds < 15) == (1, True), (seconds, done.stderr[-500:])
    assert "has ended; nothing that was recorded is lost. To go on:\n  the command\n" in done.stderr


def test_sigterm_while_ray_starts_interrupts(tmp_path):
    done = subprocess.run([sys.executable, "-c", _SIGTERM_AT_THE_START], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "SIGTERM\n"), done.stderr[-500:]


def test_sigterm_is_answered_whatever_ray_does_with_it(tmp_path):
    """Within the session, while it ends, and afterwards; a signal may fall into the moment before it is put back."""
    done = subprocess.run([sys.executable, "-c", _SIGTERM], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, (done.returncode, done.stderr[-500:])
    assert int(done.stdout) in (2, 3)


def test_a_thread_may_leave_garbage_of_rays_while_ray_ends(tmp_path):
    done = subprocess.run([sys.executable, "-c", _GARBAGE], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["the process goes on"]), done.stderr[-500:]
