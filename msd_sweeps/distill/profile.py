"""Where the time of a training step goes, by torch's profiler."""

from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, schedule

_SKIPPED, _TRACED, _LISTED = 3, 10, 10


class Profile:
    """Traces ten steps after the first three; `step` is called before each step."""

    def __init__(self, folder: Path):
        """folder: where trace.json goes."""
        self._path, self._is_traced = folder / "trace.json", False
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
        steps = schedule(wait=_SKIPPED - 1, warmup=1, active=_TRACED, repeat=1)
        self._profiler = profile(activities=activities, schedule=steps, on_trace_ready=self._write)
        self._profiler.start()

    def _write(self, traced: profile) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        traced.export_chrome_trace(str(self._path))
        by = "self_device_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
        self._table = traced.key_averages().table(sort_by=by, row_limit=_LISTED, max_name_column_width=40)
        self._is_traced = True

    def step(self) -> None:
        self._profiler.step()

    def close(self) -> str:
        """End the profile: the longest operations as a table, and where the trace is."""
        self._profiler.stop()
        if not self._is_traced:
            return f"no profile: it needs more than {_SKIPPED + _TRACED} steps; give more epochs or smaller batches"
        return f"{self._table}\ntrace     {self._path}    (chrome://tracing, or https://ui.perfetto.dev)"
