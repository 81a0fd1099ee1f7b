"""How the parts of a training step run on a device: in turn, side by side on threads, or as captured CUDA graphs."""

import torch

from msd_sweeps.distill.stepping.graphs import Graphs, Recorder
from msd_sweeps.distill.stepping.threads import InTurn, Threads


def choose_stepping(device: torch.device, world_size: int = 1, threads_per_student: int | None = None) -> InTurn:
    """Graphs on a GPU; threads on a CPU where `threads_per_student` is given; otherwise one student after another.

    Data-parallel workers always step in turn: their gradient reductions must meet in the same order on all ranks,
    and are not captured.
    """
    if world_size > 1:
        return InTurn()
    if device.type == "cuda":
        return Graphs(Recorder(device))
    if threads_per_student is not None:
        return Threads(max(1, torch.get_num_threads() // threads_per_student), threads_per_student)
    return InTurn()
