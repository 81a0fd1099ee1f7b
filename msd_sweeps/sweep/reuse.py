"""The trials that other sweeps of the same storage have finished: found by id, read when they are asked for."""

import contextlib
import functools
import re
from array import array
from collections import defaultdict
from pathlib import Path

from msd_sweeps.records import ledger
from msd_sweeps.records.fingerprint import Fingerprint, counted, differences
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
        self.differing: dict[str, list[str]] = {}
        """How the fingerprints of finished trials differ that could not be taken over, by their ids."""

    def find(self, trial: str, fingerprint: Fingerprint) -> TrialRecord | None:
        """The finished trial with all its epochs; `source` is the sweep that trained it. None if there is none.

        One whose fingerprint is another is none: its numbers would be others here.
        """
        for path, offsets in self._lines.get(trial, []):
            found = self._read(trial, path, offsets)
            if found is None:
                continue
            differing = [text for there in found.fingerprints for text in differences(there, fingerprint)]
            if not differing:
                self.differing.pop(trial, None)
                return found
            self.differing.setdefault(trial, differing)
        return None

    def _read(self, trial: str, path: Path, offsets: "array[int]") -> TrialRecord | None:
        """A trial of a ledger, if it has finished."""
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

    @property
    def left_out(self) -> str:
        """How many finished trials are trained again, and what differs; empty where there is none."""
        if not self.differing:
            return ""
        return (
            f"{len(self.differing)} trials that other sweeps have are trained again: {counted(self.differing.values())}"
        )

    @functools.cached_property
    def _lines(self) -> dict[str, list[tuple[Path, "array[int]"]]]:
        """Of each finished trial: the ledgers that have it, and the offset of each of its lines there."""
        if self._store is not None:
            fetch_others(self._store, self._storage, self._name)
        lines: defaultdict[str, list[tuple[Path, array[int]]]] = defaultdict(list)
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
            for trial in dict.fromkeys(finished):
                lines[trial].append((path, offsets[trial]))
        return lines
