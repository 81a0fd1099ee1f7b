"""What the other sweeps of a store have finished: found by a trial's id, and read when it is wanted."""

import contextlib
import re
from array import array
from pathlib import Path
from typing import NamedTuple

from msd_sweeps.records import ledger
from msd_sweeps.records.trial_record import TrialRecord, trials_of

_TRIAL = re.compile(rb'"trial":"([0-9a-f]{12})"')
_HEAD = 200
"""Bytes at the start of a line in which the id of its trial stands."""


class _Place(NamedTuple):
    """Where a trial's records lie: the ledger, and the offset of each line in it."""

    path: Path
    offsets: "array[int]"


class Elsewhere:
    """The finished trials of every sweep in `storage` but `name`. A trial's id says that its numbers are the same.

    The ledgers are gone through once, when the first trial is asked for. One that cannot be read counts as empty.
    """

    def __init__(self, storage: Path, name: str):
        self._storage, self._name = storage, name
        self._places: dict[str, _Place] | None = None

    def find(self, trial: str) -> TrialRecord | None:
        """The finished trial with every epoch it had; `source` is the sweep that trained it. None if there is none."""
        if self._places is None:
            self._places = self._look_around()
        place = self._places.get(trial)
        if place is None:
            return None
        records = []
        with contextlib.suppress(OSError), place.path.open("rb") as file:
            for offset in place.offsets:
                file.seek(offset)
                record = ledger.decode(file.readline())
                records += [record] if record is not None and ledger.is_current(record) else []
        found = trials_of(records).get(trial)
        if found is None or found.state != "finished" or not _is_whole(found):
            return None
        found.source = found.source or place.path.parent.name
        return found

    def _look_around(self) -> dict[str, _Place]:
        places: dict[str, _Place] = {}
        for path in sorted(self._storage.glob(f"*/{ledger.FILE_NAME}")):
            if path.parent.name == self._name:
                continue
            offsets: dict[str, array[int]] = {}
            finished = []
            offset = 0
            with contextlib.suppress(OSError), path.open("rb") as file:
                for line in file:
                    match = _TRIAL.search(line, 0, _HEAD)
                    if match is not None:
                        trial = match[1].decode()
                        offsets.setdefault(trial, array("q")).append(offset)
                        if b'"event":"end"' in line[:_HEAD] and b'"state":"finished"' in line:
                            finished.append(trial)
                    offset += len(line)
            for trial in finished:
                places.setdefault(trial, _Place(path, offsets[trial]))
        return places


def _is_whole(trial: TrialRecord) -> bool:
    """Whether the record of every epoch is there."""
    return [epoch.epoch for epoch in trial.epochs] == list(range(1, trial.config["recipe"]["epochs"] + 1))
