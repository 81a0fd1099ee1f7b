"""Where and in which precision a network trains."""

import socket

import torch
from torch import distributed

from msd_sweeps.space.errors import InputError


def choose_device(use_gpu: bool | str = "auto") -> torch.device:
    """The GPU where there is one and it is wanted, else the CPU."""
    if use_gpu is True or (use_gpu == "auto" and torch.cuda.is_available()):
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def choose_dtype(precision: str, device: torch.device) -> torch.dtype:
    """The type of a trial's precision on this device.

    Raises InputError that names the machine where bfloat16 would be emulated: its numbers would be others, and slow.
    """
    if precision == "bfloat16":
        if device.type == "cuda":
            native = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            capabilities = torch.cpu.get_capabilities()
            native = bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
        if not native:
            where = f"{socket.gethostname()} ({device_name(device)})"
            raise InputError(
                f"recipe.precision: {where} does not compute in bfloat16 natively; "
                "use other machines, or --set recipe.precision=float32 --set teacher.recipe.precision=float32"
            )
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]


def workers() -> tuple[int, int]:
    """This process's rank among data-parallel workers, and how many there are."""
    return (distributed.get_rank(), distributed.get_world_size()) if distributed.is_initialized() else (0, 1)


def device_name(device: torch.device) -> str:
    """The processor in words, for records and tables."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = torch.cpu.get_capabilities().get("cpu_name") or "CPU"
    return f"{name}, {torch.get_num_threads()} threads"
