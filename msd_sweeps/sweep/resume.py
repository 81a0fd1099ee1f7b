"""Which sweep the command line means, whether it may go on under its name, and what of it (or its race) is missing."""

import contextlib
import itertools
import json
import math
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from msd_sweeps.records import ledger
from msd_sweeps.records.fingerprint import Fingerprint, counted, differences
from msd_sweeps.records.header import Launch, header_of
from msd_sweeps.records.ledger import FILE_NAME
from msd_sweeps.records.ranking import best_first, measured
from msd_sweeps.records.stored_ledger import StoredLedger
from msd_sweeps.records.trial_record import TrialRecord, Trials, trials_of
from msd_sweeps.space.designs import PlannedTrial, Sweep, fresh_seeds, replicates
from msd_sweeps.space.errors import InputError, nearest
from msd_sweeps.space.load import checked_name, load
from msd_sweeps.space.own_code import restore
from msd_sweeps.space.schema import Space
from msd_sweeps.space.trial import Trial
from msd_sweeps.sweep.options import Options

_FREE = ("space.resources.", "space.tracking.", "space.report.", "space.keep.")
"""Sections that may change under a name: they decide no number."""
_LOCATIONS = ("base.data.root", "base.data.loader_workers", "base.teacher.weights", "space.search.time_budget")
"""Single settings that may change: another machine has the same files elsewhere, and other hours to spend."""


def chosen_sweep(options: Options) -> Sweep:
    """The sweep that the options ask for, checked. Raises InputError, LedgerError, StoreError."""
    if options.add_seeds is not None:
        return _extended(options, options.add_seeds)
    if options.space is None:
        if not ((options.resume or options.retry_failed) and options.name):
            raise InputError("--space is needed, or --resume with --name (see --help)")
        return _recorded(options, "--resume")
    sweep = load(options.space, options.base, options.settings, options.num_samples, options.name)
    if options.resume:
        existing_ledger(options, sweep.name, "--resume")
    return sweep


def existing_ledger(options: Options, name: str, flag: str) -> Path:
    """The ledger of a sweep that must exist, fetched from the object store if that has more; `flag` asks for it."""
    storage, store = options.storage, options.store
    path = storage / checked_name(name) / FILE_NAME
    if store is not None:
        note = StoredLedger(store / name).fetch(path)
        if note:
            print(note, file=sys.stderr)
    if not path.exists():
        known = [found.parent.name for found in storage.glob(f"*/{FILE_NAME}")]
        if store is not None:
            known = [folder.name for folder in store.glob("*") if StoredLedger(folder).size() is not None]
        hint = nearest(name, known) if known else "it is empty"
        raise InputError(f"{flag}: no sweep '{name}' in {options.kept_in}/; {hint}")
    return path


def _recorded(options: Options, flag: str) -> Sweep:
    """The sweep as its ledger describes it last."""
    if options.base or options.settings or options.num_samples:
        raise InputError(f"{flag} without --space goes on unchanged; give --space to change something")
    path = existing_ledger(options, str(options.name), flag)
    launches = header_of(path).launches
    if not launches:
        raise InputError(f"{path}: the sweep stopped before it began; start it with --space")
    if launches[-1].own:  # now the code itself, and the settings by its models
        last = launches[-1]
        restore(last.own, last.space.model_dump(mode="json"), last.base.model_dump(mode="json"))
        launches = header_of(path).launches
    return replace(launches[-1].sweep, name=str(options.name))


def _extended(options: Options, count: int) -> Sweep:
    """A finished sweep with `count` fresh seeds."""
    if options.space is not None or not options.name:
        raise InputError("--add-seeds extends a sweep as its ledger describes it: give its --name, and no --space")
    sweep = _recorded(options, "--add-seeds")
    name = sweep.name
    if not is_complete(sweep, trials_of(ledger.read(options.storage / name / FILE_NAME))):
        raise InputError(f"--add-seeds: the sweep '{name}' is not finished; go on with --resume --name {name} first")
    if sweep.space.race:
        raise InputError(
            f"--add-seeds: the race '{name}' has ended at its last look; start one with a larger seeds.at_most under "
            "another --name, which takes over what has been trained"
        )
    tree = sweep.space.model_dump(mode="json")
    owner = tree["confirm"] if sweep.space.design == "search" else tree
    owner["seeds"] += fresh_seeds(sweep.space, count)
    return replace(sweep, space=Space.of_tree(tree, lambda key: f"--add-seeds {count}: "))


def continued(sweep: Sweep, launches: list[Launch]) -> Sweep:
    """The sweep with the seeds and samples that its last launch had: what was added is never given up.

    Raises InputError with the differences where the ledger of this name was begun with another space. A search and the
    seeds may grow; resources, tracking, the report and the places of files may change.
    """
    if not launches:
        return sweep
    asked = {"space": sweep.space.model_dump(mode="json"), "base": sweep.base.model_dump(mode="json")}
    differences = []
    for key, old, new in _differences(launches[0].model_dump(mode="json", include={"space", "base"}), asked):
        has_grown = key in ("space.seeds", "space.confirm.seeds") and set(new or ()) >= set(old or ())
        has_grown |= key == "space.search.num_samples" and None not in (old, new) and new >= old
        if not (has_grown or key in _LOCATIONS or f"{key}.".startswith(_FREE)):
            differences.append(f"\n  {key}: {json.dumps(old)} there, {json.dumps(new)} here")
    if differences:
        taken = f"the name '{sweep.name}' is taken by a sweep with another space; choose another --name."
        raise InputError(taken + "".join(differences))
    newest, space = launches[-1].space, sweep.space
    confirmed = list(dict.fromkeys([*newest.confirm.seeds, *space.confirm.seeds]))
    samples = max(newest.search.num_samples, space.search.num_samples)
    seeds = space.race or list(dict.fromkeys([*newest.first_seeds, *space.first_seeds]))
    grown = ({} if space.design == "search" else {"seeds": seeds}) | {
        "confirm": space.confirm.model_copy(update={"seeds": confirmed}),
        "search": space.search.model_copy(update={"num_samples": samples}),
    }
    return replace(sweep, space=space.model_copy(update=grown))


def check_fingerprints(
    trials: Iterable[TrialRecord], now: Callable[[Trial], Fingerprint], may_differ: Collection[str] = ()
) -> None:
    """Raises InputError, with what differs, where trials were trained with other facts than they would be now.

    now: the facts that are known so far. may_differ: facts that are left out, such as one's own code that was mended.
    """
    known: dict[str, list[str]] = {}
    found = []
    for trial in trials:
        if trial.is_retried:  # the queue lets it begin anew where something differs
            continue
        key = f"{trial.cell} {trial.config['data']} {trial.fingerprints}"
        if key not in known:
            here = {name: fact for name, fact in now(trial.configuration).items() if name not in may_differ}
            then = [{name: fact for name, fact in there.items() if name in here} for there in trial.fingerprints]
            known[key] = [text for there in then if there for text in differences(there, here)]
        found.append(known[key])
    if any(found):
        raise InputError(
            f"results of this sweep would come out otherwise now: {counted(found)}. Go back to what it began with, "
            "give another --name, or go on with --allow-mixed; the tables then say which rows mix"
        )


def _differences(old: Any, new: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """The dotted paths at which two trees differ, with both values. An empty dictionary is a value, too."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in {**old, **new}:
            yield from _differences(old.get(name), new.get(name), f"{key}.{name}" if key else name)
    elif old != new:
        yield key, old, new


def searched(trials: Trials) -> list[TrialRecord]:
    """The trials of the search itself."""
    return [trial for trial in trials.values() if trial.phase == "search"]


def last_round(trials: Trials) -> tuple[int, list[TrialRecord]]:
    """The number of the ledger's last round and its trials that have not ended.

    Where the ledger lacks a part of that round, its epochs are taken back, and there are none.
    """
    reported = [trial for trial in trials.values() if trial.epochs]
    number = max((trial.epochs[-1].round for trial in reported), default=0)
    members = [trial for trial in reported if trial.epochs[-1].round == number]
    if any(not trial.epochs[-1].more for trial in members):
        return number, [trial for trial in members if not trial.is_final]
    for trial in members:
        trial.epochs.pop()
    return number, []


def of_each_search(sweep: Sweep, trials: Trials) -> dict[str, list[TrialRecord]]:
    """The trials of every search of a sweep, by the names in `Sweep.searches`."""
    found: dict[str, list[TrialRecord]] = {name: [] for name in sweep.searches}
    for trial in searched(trials):
        found[sweep.search_of(trial.values)].append(trial)
    return found


Reachable = Mapping[str, Mapping[str, PlannedTrial] | None]
"""By search, all trials that it can reach by their ids; None where they are more than twice the samples asked for."""


def every_search_trial(sweep: Sweep) -> Reachable:
    """What the searches of a sweep can reach."""
    every: dict[str, Mapping[str, PlannedTrial] | None] = {}
    for name, search in sweep.searches.items():
        choices = search.conditions.every_choice(2 * search.space.search.num_samples)
        if choices is None:
            every[name] = None
            continue
        every[name] = found = {planned.trial.id: planned for planned in search.first_trials}
        for values in choices:
            with contextlib.suppress(InputError):
                planned = search.search_trial(values)
                found.setdefault(planned.trial.id, planned)
    return every


def still_to_sample(sweep: Sweep, trials: Trials, every: Reachable) -> dict[str, int]:
    """How many more trials each search asks for. every: what `every_search_trial` gives."""
    search, left = sweep.space.search, {}
    is_over = search.time_budget is not None and search.time_budget <= trials.searched_hours
    for name, of_one in of_each_search(sweep, trials).items():
        known, wanted = every[name], search.num_samples - len(of_one)
        left[name] = wanted if known is None else min(wanted, sum(one not in trials for one in known))
    return {name: 0 if is_over else max(0, count) for name, count in left.items()}


def winners(sweep: Sweep, trials: Trials) -> dict[str, list[PlannedTrial]]:
    """The best finished trials of each search by the metric's last value, best first, one of each configuration.

    Of several metrics: the trials of their Pareto front, the best by the first metric first.
    """
    metrics, found = sweep.space.metrics, {}
    for name, of_one in of_each_search(sweep, trials).items():
        finished, points = measured(metrics, of_one)
        best = [finished[index] for index in best_first(points, metrics)[: sweep.space.confirm.top_k]]
        found[name] = [PlannedTrial(trial.configuration, "", "search", tuple(trial.levels)) for trial in best]
    return found


def reported_trials(sweep: Sweep, trials: Trials) -> list[PlannedTrial]:
    """The trials that tables are made from: a design's own, or baselines and winners of a search that has ended.

    A winner that is a baseline at the same time is one trial that names both: `winner 1 = kd`.
    """
    if sweep.space.race:
        return raced_trials(sweep, trials)
    if sweep.space.design != "search":
        return list(sweep.fixed_trials)
    planned = {baseline.trial.id: baseline for baseline in sweep.fixed_trials}
    for winner in sweep.confirm_trials(winners(sweep, trials)):
        same = planned.get(winner.trial.id)
        planned[winner.trial.id] = winner if same is None else winner._replace(label=f"{winner.label} = {same.label}")
    # Seed by seed: trials that share a stream run side by side.
    return sorted(planned.values(), key=lambda trial: trial.trial.seed)


def raced_trials(sweep: Sweep, trials: Trials) -> list[PlannedTrial]:
    """The trials of a race up to its next look, which is made when every trial before it has ended.

    Every row gets the first seeds, and rows that are undecided at a look get more. It depends on the records alone.
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


def is_recorded(planned: PlannedTrial, trials: Trials) -> bool:
    """Whether the ledger has the trial; False too where it has a winner as a mere baseline."""
    known = trials.get(planned.trial.id)
    return known is not None and (known.phase != "confirm" or bool(known.search_trial) or not planned.search_trial)


def is_complete(sweep: Sweep, trials: Trials) -> bool:
    """Whether everything that a sweep asks for has ended."""
    if not trials or not all(trial.is_final for trial in trials.values()):
        return False
    if sweep.space.design == "search" and any(still_to_sample(sweep, trials, every_search_trial(sweep)).values()):
        return False
    return all(is_recorded(planned, trials) for planned in reported_trials(sweep, trials))
