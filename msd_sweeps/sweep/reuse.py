"""The trials that other sweeps of the same storage have finished: found by id, read when they are asked for."""

import contextlib
import functools
import re
from array import array
from collections import defaultdict
from pathlib import Path

from msd_sweeps.records import ledger
from msd_sweeps.records.object_store import StorePath
from msd_sweeps.records.trial_record import TrialRecord, trials_of
from msd_sweeps.sweep.store_sync import fetch_others

_TRIAL = re.compile(rb'"trial":"([0-9a-f]{12})"')
_HEAD = 200
"""Bytes at the start of a line in which the id of its trial stands."""


class FinishedTrials:
    """The finished trials of every sweep in `storage` but `name`. A ledger that cannot be read counts as empty."""

    def __init__(self, storage: Path, name: str, store: StorePath | None = None):
        """store: the object store that `storage` is the working copy of; newer ledgers are fetched from there."""
        self._storage, self._name, self._store = storage, name, store

    def find(self, trial: str) -> TrialRecord | None:
        """The finished trial with all its epochs; `source` is the sweep that trained it. None if there is none."""
        if trial not in self._lines:
            return None
        path, offsets = self._lines[trial]
        records = []
        with contextlib.suppress(OSError), path.open("rb") as file:
            for offset in offsets:
                file.seek(offset)
                record = ledger.decode(file.readline())
                records += [record] if record is not None and ledger.is_current(record) else []
        found = trials_of(records).get(trial)
        if found is None or found.state != "finished":
            return None
        if [epoch.epoch for epoch in found.epochs] != list(range(1, found.config["recipe"]["epochs"] + 1)):
            return None
        found.source = found.source or path.parent.name
        return found

    @functools.cached_property
    def _lines(self) -> dict[str, tuple[Path, "array[int]"]]:
        """Of each finished trial: its ledger, and the offset of each of its lines."""
        if self._store is not None:
            fetch_others(self._store, self._storage, self._name)
        lines: dict[str, tuple[Path, array[int]]] = {}
        for path in sorted(self._storage.glob(f"*/{ledger.FILE_NAME}")):
            if path.parent.name == self._name:
                continue
            offsets: defaultdict[str, array[int]] = defaultdict(lambda: array("q"))
            finished, offset = [], 0
            with contextlib.suppress(OSError), path.open("rb") as file:
                for line in file:
                    match = _TRIAL.search(line, 0, _HEAD)
                    if match is not None:
                        trial = match[1].decode()
                        offsets[trial].append(offset)
                        if b'"event":"end"' in line[:_HEAD] and b'"state":"finished"' in line:
                            finished.append(trial)
                    offset += len(line)
            lines = {trial: (path, offsets[trial]) for trial in finished} | lines
        return lines
