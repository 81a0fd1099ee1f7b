"""In which precision this machine computes natively, found without torch."""

import ctypes
import functools
import os
from pathlib import Path

_MAJOR = 75  # of CUdevice_attribute: the major compute capability
_AMPERE = 8


@functools.cache
def native_precision(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """bfloat16 where the GPUs, or where there are none the CPU, have it natively; else float32."""
    majors = _gpu_generations()
    if majors:
        return "bfloat16" if min(majors) >= _AMPERE else "float32"
    try:
        flags = next(line for line in cpuinfo.read_text().splitlines() if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        return "float32"
    return "bfloat16" if {"avx512_bf16", "amx_bf16"} & set(flags.split()) else "float32"


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
