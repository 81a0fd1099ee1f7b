"""What Ray leaves of a process that has used it."""

import subprocess
import sys

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


def test_a_thread_may_leave_garbage_of_rays_while_ray_ends(tmp_path):
    done = subprocess.run([sys.executable, "-c", _GARBAGE], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["the process goes on"]), done.stderr[
        -500:
    ]
