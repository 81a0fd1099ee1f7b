"""Trials as their records tell them: what was planned, what each epoch gave, how they ended."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from msd_sweeps.records.fingerprint import Fingerprint
from msd_sweeps.records.ledger import LedgerError, Record
from msd_sweeps.records.predictions import Predictions
from msd_sweeps.space.trial import Trial

FINAL_STATES = ("finished", "stopped", "diverged", "failed", "out_of_memory")
"""States that a resume leaves alone. Any other trial goes on from its last checkpoint."""
FAILURES = ("failed", "out_of_memory")
"""States of trials that have no result through a fault."""
_FRAME = re.compile(r'^  File "(.+)", line (\d+), in (.+)$', re.MULTILINE)
_NOT_OWN = ("/site-packages/", "/lib/python3", "/msd_sweeps/", "<")
_EPOCH_FIELDS = ("epoch", "round", "more", "slot", "seconds", "metrics")
_START_FIELDS = ("trial", "cell", "label", "phase", "number", "seed", "config", "levels", "search_trial", "more")
_PARTS: dict[str, Record] = {}
"""The parts of configurations, such as a recipe, by their text."""


@dataclass(frozen=True, slots=True)
class EpochResult:
    """What an epoch of one student gave: the one shape of it, from the worker to the ledger.

    A student whose state is not `running` has left its cohort.
    """

    trial: str
    state: str
    """running, finished, diverged, failed, out_of_memory, or interrupted."""
    epoch: int
    """Epochs behind the student, this one included."""
    seconds: float
    """This student's share of the wall time of the epoch."""
    metrics: dict[str, float] = field(default_factory=dict)
    reason: str = ""
    traceback: str = ""
    slot: int = -1
    attempt: int = 1
    round: int = 0
    """Counts the epochs that slots have trained, over the whole ledger; all students of one have the same number. 0
    for a trial that was taken over."""
    more: int = 0
    """Records of the same round that follow in the ledger: without the last of them the round counts as not trained."""
    afresh: bool = False
    """Whether the attempt began without a checkpoint although epochs had been reported."""
    predictions: Predictions | None = None
    """Of the test images, after the last epoch."""
    printed: str = ""
    """What the trial's own loss has printed in the epoch; the driver shows it, and does not record it."""

    def recorded(self) -> Record:
        """The fields that the ledger keeps of an epoch."""
        found = {name: getattr(self, name) for name in _EPOCH_FIELDS}
        return found | ({"predictions": self.predictions} if self.predictions else {})


@dataclass
class TrialRecord:
    """One trial as its records tell it."""

    trial: str
    cell: str
    label: str
    """Its row in the table, as the plan named it; empty for a trial of a search."""
    phase: str
    """search, confirm or design."""
    number: int
    seed: int
    config: Record
    levels: list[Record] = field(default_factory=list)
    """The level of each factor, once for each place of the design that this trial fills; of a search what the sampler
    chose. Empty for a cell beside the design, such as a baseline."""
    search_trial: str = ""
    """The search trial whose configuration is confirmed."""
    more: int = 0
    """Trials that the search began together with this one, after it."""
    state: str = "running"
    reason: str = ""
    traceback: str = ""
    attempts: int = 0
    is_retried: bool = False
    """Whether it had failed and has not been started again since."""
    source: str = ""
    """The sweep that trained it, where it was taken over from another's ledger; empty for one that was trained here."""
    fingerprints: list[Fingerprint] = field(default_factory=list)
    """What its attempts ran with, each once: several where a sweep went on with `--allow-mixed`."""
    epochs: list[EpochResult] = field(default_factory=list)
    """One per epoch, in order; epochs count from 1. One whose line was lost is missing."""

    def __post_init__(self) -> None:
        # Thousands of trials differ in little: their configurations share the parts that are the same.
        self.config = {
            name: _PARTS.setdefault(json.dumps(part), part) if isinstance(part, dict) else part
            for name, part in self.config.items()
        }

    @property
    def configuration(self) -> Trial:
        """The trial's configuration as a model; made anew at each call, because thousands would take much memory.

        Raises LedgerError where it does not fit this version's model.
        """
        try:
            return Trial.model_validate_json(json.dumps(self.config))
        except ValidationError as error:
            first = error.errors()[0]
            raise LedgerError(
                f"the configuration of the trial {self.trial} does not fit this msd_sweeps: "
                f"{'.'.join(map(str, first['loc']))}: {first['msg']}; choose another --name, or remove its folder"
            ) from error

    @property
    def values(self) -> Record:
        """What the sampler of a search chose, by parameter."""
        return self.levels[0] if self.levels else {}

    @property
    def is_final(self) -> bool:
        return self.state in FINAL_STATES

    @property
    def needs_checkpoints(self) -> bool:
        """Whether it may go on from its checkpoints: a failed trial can be retried."""
        return not self.is_final or self.state in FAILURES

    @property
    def has_every_epoch(self) -> bool:
        """Whether nothing is left to train of it."""
        return bool(self.epochs) and bool(self.epochs[-1].epoch >= self.config["recipe"]["epochs"])

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics of the last epoch; empty before the first."""
        return self.epochs[-1].metrics if self.epochs else {}

    def start_fields(self) -> Record:
        """What the ledger keeps of its plan."""
        return {name: getattr(self, name) for name in _START_FIELDS}

    def apply(self, record: Record) -> None:
        """Take in one more record of this trial."""
        if record["event"] == "start":
            self.attempts, self.is_retried = record["attempt"], False
            fingerprint = _PARTS.setdefault(json.dumps(found := record.get("fingerprint", {})), found)
            if fingerprint not in self.fingerprints:
                self.fingerprints.append(fingerprint)
            self.state, self.reason, self.traceback = "running", "", ""
            source = record.get("source", "")
            if self.source and not source:  # a take-over that broke off: it is trained here after all
                self.epochs.clear()
                self.fingerprints = [fingerprint]
            self.source = source
        elif record["event"] == "epoch":
            # A worker that went back to its last checkpoint reports an epoch again; the later record counts.
            while self.epochs and self.epochs[-1].epoch >= record["epoch"]:
                self.epochs.pop()
            fields = {name: record[name] for name in _EPOCH_FIELDS} | {"predictions": record.get("predictions")}
            self.epochs.append(EpochResult(self.trial, "running", attempt=record["attempt"], **fields))
        elif record["event"] == "end":
            self.state, self.reason = record["state"], record["reason"]
            self.traceback = record.get("traceback", "")
        elif record["event"] == "retry":
            self.state, self.reason, self.traceback, self.is_retried = "interrupted", "", "", True
            if not record.get("keeps_epochs"):
                self.epochs.clear()
                self.fingerprints.clear()
        elif record["event"] == "label":  # a baseline that began before it was found to be a winner, too
            self.label, self.levels = record["label"], record["levels"]
            self.search_trial = record["search_trial"]


class Trials(dict[str, TrialRecord]):
    """Trials by their ids, in the order of their first start."""

    searched_hours: float = 0.0
    """The time budget, in hours, that the search has used up; 0 where it has not."""

    def apply(self, record: Record) -> None:
        """Take in one more record of the ledger."""
        if record["event"] == "search_end":
            self.searched_hours = record["hours"]
        trial = record.get("trial", "")
        if record["event"] == "start" and trial not in self:
            self[trial] = TrialRecord(**{name: record[name] for name in _START_FIELDS})
        if trial in self:
            self[trial].apply(record)


def own_place(traceback: str) -> str:
    """`my_losses.py:12 in forward`, the last place of a traceback that is in no package; empty where there is none."""
    frames = [frame for frame in _FRAME.findall(traceback) if not any(part in frame[0] for part in _NOT_OWN)]
    return "{}:{} in {}".format(Path(frames[-1][0]).name, *frames[-1][1:]) if frames else ""


def trials_of(records: Iterable[Record]) -> Trials:
    """Every trial of a ledger."""
    found = Trials()
    for record in records:
        found.apply(record)
    return found


def reopened(trials: Trials) -> Trials:
    """The trials; one that finished, but lacks the record of its last epoch, counts as interrupted."""
    for trial in trials.values():
        if trial.state == "finished" and not trial.has_every_epoch:
            trial.state, trial.reason = "interrupted", "the record of its last epoch is damaged"
    return trials
