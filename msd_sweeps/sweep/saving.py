"""Checkpoints of a slot's students: copied between two epochs, and written in a thread while training goes on."""

import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from msd_sweeps.distill import checkpoint
from msd_sweeps.distill.student import State, Student
from msd_sweeps.records.object_store import Place

_STORE_SECONDS = 2.0
"""The copy of the ledger in a store is seconds old, and a trial goes on from a checkpoint that the ledger knows."""
_SHARE = 0.01
"""The part of the time that training may stand still for its checkpoints."""


class Saver:
    """Writes what is due: once the set time has passed, and not so often that copying took more than 1 % of the time.

    While an earlier checkpoint is still being written, the next one waits for a later epoch.
    """

    def __init__(self, seconds: float = 0.0, unsaved_seconds: float = 600.0):
        """seconds: between two checkpoints. unsaved_seconds: how long training goes on while a store takes none."""
        self._seconds, self._unsaved_seconds = seconds, unsaved_seconds
        self._thread = ThreadPoolExecutor(1, "checkpoints")
        self._writing: Future[None] | None = None
        self._copied = -torch.inf
        self._copying_seconds = 0.0
        self._epochs: dict[str, int] = {}
        """The epochs after which the students were copied last, by their trials."""
        self.written = time.monotonic()
        """When everything that was copied was also written, or the slot had nothing to write."""

    def save(self, students: Mapping[str, tuple[Place, Student]], now: bool = False) -> None:
        """Copy the students that have learned since, if that is due; without, a trial goes back further after a fault.

        now: it is due, and the copies are written before training goes on. students: with the folders of their
        checkpoints, by their trials. Raises CheckpointError for an earlier write: at once on a disk, and where an
        object store has taken nothing for `unsaved_seconds`.
        """
        if now or (self._writing is not None and self._writing.done()):
            self.flush()
        began = time.monotonic()
        in_store = any(not isinstance(folder, Path) for folder, _ in students.values())
        seconds = max(self._seconds, _STORE_SECONDS * in_store, self._copying_seconds / _SHARE)
        is_due = began - self._copied >= seconds
        if self._writing is not None or not (is_due or now):
            return
        new = {name: one for name, one in students.items() if self._epochs.get(name) != one[1].epoch}
        copies = [(folder, student.epoch, copied(student.state())) for folder, student in new.values()]
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()  # the next step changes what is copied
        self._copied = time.monotonic()
        self._copying_seconds = self._copied - began
        self._epochs = {name: student.epoch for name, (_, student) in students.items()}
        self._writing = self._thread.submit(self._write, copies)
        if now:
            self.flush()

    def flush(self) -> None:
        """Wait until what was copied is written. Raises as `save`."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def _write(self, copies: Iterable[tuple[Place, int, State]]) -> None:
        for folder, epoch, state in copies:
            try:
                checkpoint.save(folder, epoch, state)
            except checkpoint.CheckpointError:
                if isinstance(folder, Path) or time.monotonic() - self.written > self._unsaved_seconds:
                    raise
                self._epochs, self._copied = {}, -torch.inf
                return  # the other students would wait as long for the same answer
        self.written = time.monotonic()


def copied(value: Any) -> Any:
    """A state with copies of its tensors on the host, pinned where they come from a GPU: the copying may still run."""
    if isinstance(value, Tensor):
        if value.device.type != "cuda":
            return value.detach().clone()
        return torch.empty_like(value, device="cpu", pin_memory=True).copy_(value, non_blocking=True)
    if isinstance(value, dict):
        return {name: copied(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(copied, value))
    return value
