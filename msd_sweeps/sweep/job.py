"""What driver, dispatcher and workers send each other: jobs, orders, and rounds of results."""

from dataclasses import dataclass
from typing import NamedTuple

from msd_sweeps.records.fingerprint import Fingerprint
from msd_sweeps.records.trial_record import EpochResult
from msd_sweeps.space.own_code import Source


class Inputs(NamedTuple):
    """What a trial reads: data, and a teacher's weights by path or URI. Every worker has to find the same bytes."""

    data_sha256: str
    weights: str
    weights_sha256: str
    fingerprint: Fingerprint = {}
    code: tuple[Source, ...] = ()
    """The modules of one's own."""


@dataclass(frozen=True)
class Job:
    """All that a worker needs to train a trial, or to go on with it."""

    trial: str
    """The trial's id."""
    config: str
    """The trial's configuration as JSON, with absolute paths."""
    stream: str
    """Trials of the same stream can share a cohort."""
    folder: str
    """The trial's checkpoints, a path or a URI."""
    inputs: Inputs
    keep: str = ""
    """Where the weights are kept when it has finished, a path or a URI; empty: nowhere."""
    submission: int = 1
    """The attempt with which the driver submitted the trial; a resubmitted trial has a larger number."""
    attempt: int = 1
    """The submission's number, and one more for each time that the workers died."""
    reported: int = 0
    """Epochs that the driver knows."""
    deaths: int = 0
    """How often its workers have died since it made progress."""
    is_suspect: bool = False
    """Whether it has to make progress in a slot of its own."""
    suspicions: int = 0
    """How often it became a suspect."""
    rungs: tuple[int, ...] | None = None
    """Epochs after which a trial of a search may be stopped; None for any other trial."""

    @property
    def is_alone(self) -> bool:
        """Whether it shares no slot: until it makes progress, and to its end where that has not helped once."""
        return self.is_suspect or self.suspicions > 1

    def decides(self, result: EpochResult) -> bool:
        """Whether a search decides something after this result."""
        return self.rungs is not None and (result.state != "running" or result.epoch in self.rungs)


class Orders(NamedTuple):
    """What a slot does before its next epoch: it drops trials, admits jobs, or ends."""

    admit: list[Job]
    drop: list[str]
    close: bool


class Round(NamedTuple):
    """What a slot's students gave in one epoch."""

    number: int
    results: list[EpochResult]
