"""A sweep in Python: everything that is known about it, by its name."""

from functools import cached_property
from pathlib import Path

import pandas as pd

from msd_sweeps.records.kept import WEIGHTS, folder_of
from msd_sweeps.report.frames import Frames, read
from msd_sweeps.report.results import results_of
from msd_sweeps.report.store import find_ledger


class Loaded(Frames):
    """A sweep as data: `trials`, `history` and `predictions`, the rows of its table, and where its students lie."""

    @cached_property
    def rows(self) -> pd.DataFrame:
        """The result table, a row a teacher and a cell.

        `mean` with `low` and `high` over `n` seeds, `difference` to the baseline with its interval, and `decision`.
        """
        return results_of(self).table

    @cached_property
    def weights(self) -> dict[str, Path]:
        """The weights that are kept on this machine, by the ids of their trials; `card.json` lies beside each."""
        folders = {name: folder_of(trial, self.header.path) for name, trial in self.records.items()}
        return {name: folder / WEIGHTS for name, folder in folders.items() if (folder / WEIGHTS).is_file()}

    def __repr__(self) -> str:
        return (
            f"The sweep {self.sweep.name!r}: rows ({len(self.rows)}), trials ({len(self.trials)}), history "
            f"({len(self.history)} epochs), predictions ({len(self.predicted)} trials), weights ({len(self.weights)}); "
            "also header, records, sweep"
        )


def load(name: str | Path, storage: str | Path = "runs") -> Loaded:
    """A sweep: the name of one under `storage`, its folder, or the path of its ledger; it may still run.

    Raises LedgerError where there is none.
    """
    return Loaded(**vars(read(find_ledger(str(name), Path(storage)))))
