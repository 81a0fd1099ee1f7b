"""The trials of a race: every row gets the first seeds, undecided rows get more after each look."""

import itertools
import math

from msd_sweeps.records.trial_record import TrialRecord
from msd_sweeps.space.designs import PlannedTrial, Sweep, replicates


def raced_trials(sweep: Sweep, trials: dict[str, TrialRecord]) -> list[PlannedTrial]:
    """The trials up to the next look: a function of the records alone, so that a resume decides alike.

    A look is made when every trial before it has ended.
    """
    from msd_sweeps.report.comparisons import undecided  # imported late: pandas, which only a race needs here

    looks, name, cells = sweep.space.looks, sweep.space.report.value, list(sweep.cells())
    planned = {one.trial.id: one for one in replicates(cells, range(looks[0]))}
    for _, seeds in itertools.pairwise(looks):
        if not all(one in trials and trials[one].is_final for one in planned):
            break
        values: dict[str, dict[int, float]] = {one.label: {} for one in planned.values()}
        for one in planned.values():
            reached = trials[one.trial.id].metrics.get(name)
            if trials[one.trial.id].state == "finished" and reached is not None and math.isfinite(reached):
                values[one.label][one.trial.seed] = reached
        open_rows = undecided(sweep, values)
        if not open_rows:
            break
        planned |= {one.trial.id: one for one in replicates(cells, range(seeds)) if one.label in open_rows}
    return list(planned.values())
