"""The stages of `msd_sweeps.bench.gpu` that take times: card, packs beside the peers' loop, profile, probes."""

import platform
import statistics
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.multiprocessing import get_context

from msd_sweeps.bench.gpu_checks import Row, Stage
from msd_sweeps.bench.steps import peer_step, with_method
from msd_sweeps.distill.cohort import Cohort
from msd_sweeps.distill.device import choose_device, device_name
from msd_sweeps.distill.graphs import Graphs, Recorder
from msd_sweeps.distill.timing import Step, random_cohort, random_splits, replicates, steps_of, time_in_turns
from msd_sweeps.space.trial import Trial, changed

EIGHT = 8
"""Processes of the peers' loop that share the GPU."""


def machine(base: Trial) -> Iterator[Row]:
    """Versions, and what the device can do: copies, counting bytes read and written, and products of matrices."""
    device = choose_device()
    cuda = torch.version.cuda or "none"
    yield {"what": f"{device_name(device)}; Python {platform.python_version()}, torch {torch.__version__}, CUDA {cuda}"}
    if device.type == "cuda":
        yield {"what": "GiB of memory", "figure": torch.cuda.get_device_properties(device).total_memory / 2**30}
    size = 2**31 if device.type == "cuda" else 2**26
    source = torch.ones(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    yield {"what": "copy, GB/s", "figure": 2e-9 * size / _seconds(lambda: target.copy_(source))}
    side = 8192 if device.type == "cuda" else 512
    for dtype in (torch.bfloat16, torch.float32):
        matrix = torch.randn(side, side, device=device, dtype=dtype)
        seconds = _seconds(partial(torch.matmul, matrix, matrix))
        name = str(dtype).removeprefix("torch.")
        yield {"what": f"{name} matrix product, TFLOP/s", "figure": 2e-12 * side**3 / seconds}


def speed(base: Trial) -> Iterator[Row]:
    """Packs beside the peers' loop (kd, float32, a process a trial), alone and eight such processes at once.

    Trials an hour are those of the base's epochs on its whole training set.
    """
    peer = _seconds(peer_step(base), steps=20)
    yield _row(base, "kd as peers run it, one process", peer, peer)
    yield _row(base, f"kd as peers run it, {EIGHT} processes at once", _peers_at_once(base), peer)
    kd = changed(base, {"method": {"name": "kd"}})
    splits = random_splits(base)
    packs = [1, 2, 4, 8, 16, 32] if choose_device().type == "cuda" else [1, 2]
    for trial in (kd, base):
        for pack in packs:
            cohort = random_cohort(replicates(trial, pack), splits)
            yield _row(base, f"{trial.method.name}, {pack} packed", _pack_seconds(cohort) / pack, peer)
    again = _seconds(peer_step(base), steps=20)
    yield _row(base, "kd as peers run it, one process, again", again, peer)


def profile(base: Trial) -> Iterator[Row]:
    """Sixteen students packed: how long kernels run, what the host does for a step, memory."""
    for name in ("kd", base.method.name):
        trial = with_method(base, name)
        torch.cuda.reset_peak_memory_stats()
        cohort = random_cohort(replicates(trial, 16), random_splits(base))
        step = steps_of(cohort)
        wall = _seconds(step, steps=10)
        started = time.perf_counter()
        for _ in range(3):
            step()
        host = (time.perf_counter() - started) / 3
        torch.cuda.synchronize()
        steps = 5
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
            for _ in range(steps):
                step()
            torch.cuda.synchronize()
        kernels = sorted(
            (event.time_range.start, event.time_range.end)
            for event in profiler.events()
            if event.device_type == torch.autograd.DeviceType.CUDA
        )
        busy, reached = 0.0, kernels[0][0]
        for start, end in kernels:
            busy += max(0.0, end - max(start, reached))
            reached = max(reached, end)
        span = reached - kernels[0][0]
        yield {
            "method": name,
            "ms a step of the pack": 1e3 * wall,
            "kernels a step and student": len(kernels) / steps / 16,
            "share of the time that kernels run": busy / span,
            "kernels at a time": sum(end - start for start, end in kernels) / span,
            "ms a step under the profiler": 1e-3 * span / steps,
            "host ms a step of the pack": 1e3 * host,
            "MiB reserved at most": torch.cuda.max_memory_reserved() / 2**20,
            "ok": True,
        }
        del cohort, step, profiler


def probes(base: Trial) -> Iterator[Row]:
    """Other ways to step sixteen students, each beside today's; what wins may become the way.

    The compiled network's first steps compile and are not counted.
    """
    splits = random_splits(base)

    def row(what: str, trial: Trial = base, compiled: bool = False, recorder: type[Recorder] = Recorder) -> Row:
        try:
            cohort = random_cohort(replicates(trial, 16), splits, Graphs(recorder(choose_device())))
            for student in cohort.students.values() if compiled else ():
                student.network.compile(dynamic=False)
            return {"what": what, "ms a step and trial": 1e3 * _pack_seconds(cohort) / 16}
        except Exception as error:
            return {"what": what, "error": f"{type(error).__name__}: {error}"[:200]}

    yield row("today")
    for channels in (16, 32, 64):
        ratio = _convolution_seconds(channels, groups=16) / _convolution_seconds(channels, groups=1)
        yield {"what": f"grouped ÷ separate convolutions on streams, {channels} channels", "ratio": ratio}
    yield row("all students on one stream", recorder=_OneStream)
    for name in ("benchmark", "deterministic"):
        setattr(torch.backends.cudnn, name, True)
        yield row(f"cuDNN's option {name}")
        setattr(torch.backends.cudnn, name, False)
    yield row("float32, convolutions in TF32", changed(base, {"recipe": {"precision": "float32"}}))
    yield row("the compiled network in its graph", compiled=True)
    yield row("today, again")


class _OneStream(Recorder):
    def stream_for(self, owner: object) -> Any:
        super().stream_for(owner)
        return self._streams[0][0]


def _convolution_step(batch: torch.Tensor, layers: list[nn.Module]) -> Step:
    """Forward and backward passes of layers side by side, as one graph."""
    streams = [torch.cuda.Stream() for _ in layers]

    def step() -> None:
        current = torch.cuda.current_stream()
        for layer, stream in zip(layers, streams, strict=True):
            stream.wait_stream(current)
            with torch.cuda.stream(stream):
                layer(batch).float().square().mean().backward()
        for stream in streams:
            current.wait_stream(stream)

    for _ in range(3):
        step()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def _convolution(channels: int, groups: int) -> tuple[torch.Tensor, nn.Module]:
    """A convolution as a stage of a CIFAR ResNet has it, bfloat16, and its batch."""
    side, width = 512 // channels, channels * groups
    layer = nn.Conv2d(width, width, 3, padding=1, groups=groups, bias=False).to(choose_device(), torch.bfloat16)
    batch = torch.randn(64, width, side, side).to(choose_device(), torch.bfloat16)
    channels_last = torch.channels_last
    return batch.contiguous(memory_format=channels_last), layer.to(memory_format=channels_last)  # type: ignore[call-overload]


def _convolution_seconds(channels: int, groups: int) -> float:
    """Seconds of 16 networks' convolutions: in one layer of 16 groups, or in 16 layers on streams of their own."""
    convolutions = [_convolution(channels, groups) for _ in range(16 // groups)]
    return _seconds(_convolution_step(convolutions[0][0], [layer for _, layer in convolutions]), steps=10)


def _seconds(step: Step, steps: int = 3) -> float:
    """Median seconds of a step over five rounds of several."""
    return statistics.median(time_in_turns({"": step}, rounds=5, steps=steps)[""])


def _pack_seconds(cohort: Cohort) -> float:
    return _seconds(steps_of(cohort), steps=10 if cohort.device.type == "cuda" else 1)


def _row(base: Trial, what: str, seconds: float, peer: float) -> Row:
    whole = base.recipe.epochs * (base.train_images // base.recipe.batch_size)
    return {
        "what": what,
        "ms a step and trial": 1e3 * seconds,
        "trials an hour": 3600 / seconds / whole,
        "ratio": peer / seconds,
    }


def _peers_at_once(base: Trial, window: float = 5.0) -> float:
    """Seconds of a step and trial where EIGHT processes run the peers' loop."""
    context = get_context("spawn")
    ready, counts = context.Barrier(EIGHT), context.Queue()
    arguments = base.model_dump_json(), ready, counts, window
    workers = [context.Process(target=_peer, args=arguments) for _ in range(EIGHT)]
    for worker in workers:
        worker.start()
    total = sum(counts.get() for _ in workers)
    for worker in workers:
        worker.join()
    return window / total


def _peer(trial: str, ready: Any, counts: Any, window: float) -> None:
    step = peer_step(Trial.model_validate_json(trial))
    for _ in range(5):
        step()
    ready.wait()
    end, count = time.monotonic() + window, 0
    while time.monotonic() < end:
        step()
        count += 1
    counts.put(count)


STAGES = {
    "machine": Stage(machine, 60, needs_gpu=False),
    "speed": Stage(speed, 110, needs_gpu=False),
    "profile": Stage(profile, 60),
    "probes": Stage(probes, 150),
}
