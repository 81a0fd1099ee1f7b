"""What this machine offers: CPUs, GPUs and memory, found without torch or Ray."""

import math
import os
from contextlib import suppress
from pathlib import Path


def local_cpus() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0))


def local_gpus() -> int:
    """NVIDIA GPUs that this process may use, found without loading CUDA."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([device for device in visible.split(",") if device.strip() not in ("", "-1")])
    return len([path for path in Path("/dev").glob("nvidia[0-9]*") if path.name[6:].isdigit()])


def available_bytes(meminfo: Path = Path("/proc/meminfo"), control_group: Path = Path("/sys/fs/cgroup")) -> float:
    """Bytes of memory that are free on this machine or in its control group; infinite where neither is known.

    meminfo, control_group: where Linux reports them.
    """
    found = math.inf
    with suppress(OSError, ValueError, IndexError):
        found = 1024.0 * int(meminfo.read_text().split("MemAvailable:")[1].split()[0])
    with suppress(OSError, ValueError):  # "max" where there is no limit
        limit, used = (int((control_group / f"memory.{name}").read_text()) for name in ("max", "current"))
        found = min(found, float(limit - used))
    return found
