"""What a search asks for next: which of its searches, and which trial of it."""

from pathlib import Path

from msd_sweeps.records.trial_record import TrialRecord, Trials
from msd_sweeps.space.designs import PlannedTrial, Sweep
from msd_sweeps.sweep.resume import every_search_trial, of_each_search, still_to_sample
from msd_sweeps.sweep.study import new_sample, studies


class Searches:
    """The searches of a sweep. All that they ask for follows from the records of the trials."""

    def __init__(self, sweep: Sweep, trials: Trials, journal: Path):
        """journal: written anew, for optuna-dashboard."""
        self._sweep, self._trials, self._every = sweep, trials, every_search_trial(sweep)
        self.studies = studies(sweep, journal)
        """By their names in `Sweep.searches`."""
        for of_one in of_each_search(sweep, trials).values():
            for trial in of_one:
                self.show(trial)

    def show(self, trial: TrialRecord) -> None:
        """Add a trial to the journal, if it has ended."""
        if trial.is_final:
            self.studies[self._sweep.search_of(trial.values)].show(trial)

    def left(self) -> dict[str, int]:
        """How many trials each search has yet to ask for, without those that have none."""
        left = still_to_sample(self._sweep, self._trials, self._every)
        return {name: count for name, count in left.items() if count}

    def sample(self, left: dict[str, int]) -> PlannedTrial | None:
        """A new trial of the search that has most to ask for, so that all go on alike; None where no search has one."""
        of_each = of_each_search(self._sweep, self._trials)
        for name in sorted(left, key=lambda name: -left[name]):
            study, search, every = self.studies[name], self._sweep.searches[name], self._every[name] or {}
            planned = new_sample(study, search, of_each[name], self._trials, every)
            if planned is not None:
                return planned
        return None
