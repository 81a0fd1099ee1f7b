"""In which precision this machine computes fast, found without torch."""

import ctypes
import functools
import os
from pathlib import Path

_MAJOR = 75  # of CUdevice_attribute: the major compute capability
_AMPERE = 8


@functools.cache
def native_precision(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """bfloat16 where the GPUs, or where there are none the CPU, have it natively and fast; else float32.

    Intel's without AMX are slower with it: a step took 1.3 times as long (`python -m msd_sweeps.bench.steps`).
    """
    majors = _gpu_generations()
    if majors:
        return "bfloat16" if min(majors) >= _AMPERE else "float32"
    try:
        text = cpuinfo.read_text()
        flags = next(line for line in text.splitlines() if line.startswith(("flags", "Features"))).split()
    except (OSError, StopIteration):
        return "float32"
    is_fast = "amx_bf16" in flags or ("avx512_bf16" in flags and "GenuineIntel" not in text)
    return "bfloat16" if is_fast else "float32"


def _gpu_generations() -> list[int]:
    """The major compute capability of each NVIDIA GPU that this process may use."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1") or not Path("/dev/nvidiactl").exists():
        return []
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return []
    count, major, found = ctypes.c_int(), ctypes.c_int(), []
    if cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count)):
        return []
    for device in range(count.value):
        if not cuda.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, device):
            found.append(major.value)
    return found
