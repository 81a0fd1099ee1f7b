"""How far a sweep is, by its ledger."""

from collections.abc import Iterable
from typing import NamedTuple

from msd_sweeps.records.trial_record import FINAL_STATES
from msd_sweeps.report.cells import Cell
from msd_sweeps.report.frames import Frames


class Progress(NamedTuple):
    """How many trials have ended, of how many that the space asks for."""

    ended: int
    planned: int

    @property
    def is_whole(self) -> bool:
        return self.ended >= self.planned

    def __str__(self) -> str:
        return f"{self.ended} of {self.planned} trials {'has' if self.planned == 1 else 'have'} ended"


def progress_of(frames: Frames, cells: Iterable[Cell]) -> Progress:
    """The progress of a sweep. cells: those of its table, which know how many trials each is to have.

    A search that has not chosen winners may take as many trials as its space asks for.
    """
    trials, space = frames.trials, frames.sweep.space
    ended = int(trials["state"].isin(FINAL_STATES).sum())
    waiting = len(trials) - ended + sum(max(0, (cell.planned or 0) - cell.states.total()) for cell in cells)
    closed = not frames.header.is_open and frames.header.closes[-1].outcome == "complete"
    if space.design == "search" and not closed and not any(one.search_trial for one in frames.records.values()):
        waiting += max(0, frames.sweep.samples - int((trials["phase"] == "search").sum()))
    return Progress(ended, ended + waiting)
