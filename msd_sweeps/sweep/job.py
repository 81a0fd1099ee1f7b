"""A job: one trial as it goes from the trial queue through the dispatcher to the workers of a slot."""

from dataclasses import dataclass

MOST_ATTEMPTS = 3
"""A trial whose workers, or whose Tune actor, die this often has failed."""

Submission = tuple[str, int]
"""A trial's id, and the number of its submission."""


@dataclass(frozen=True)
class Inputs:
    """The files that a trial reads. Every worker has to find the same bytes as the driver did."""

    data_sha256: str | None = None
    """The hash of the data's content; None: not checked."""
    weights: str | None = None
    """The teacher's weights, a path or a URI; None: no teacher."""
    weights_sha256: str | None = None


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
    inputs: Inputs = Inputs()
    submission: int = 1
    """The attempt with which the driver submitted the trial; a resubmitted trial has a larger number."""
    attempt: int = 1
    """The submission's number, and one more for each time that the workers died."""
    reported: int = 0
    """Epochs that the driver knows."""
    positions: tuple[int, ...] | None = None
    """Positions of the stream at which the trial can join, newest first; None: anywhere, for a new trial."""
    afresh: bool = False
    """Whether this attempt begins without a checkpoint although epochs were reported."""
