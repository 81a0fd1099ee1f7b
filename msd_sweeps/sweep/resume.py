"""Which sweep the command line means: a new one, one that its ledger describes, or that one with more seeds.

A sweep keeps its name only while the trials that it has stay part of it, so little may change when it goes on.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from msd_sweeps.records import ledger
from msd_sweeps.records.header import Launch, header_of
from msd_sweeps.records.ledger import FILE_NAME
from msd_sweeps.records.object_store import StoredLedger
from msd_sweeps.records.trial_record import trials_of
from msd_sweeps.space.designs import Sweep, fresh_seeds
from msd_sweeps.space.errors import InputError, nearest
from msd_sweeps.space.load import checked_name, load
from msd_sweeps.space.schema import Space
from msd_sweeps.sweep.options import Options
from msd_sweeps.sweep.remaining import is_complete

_FREE = ("space.resources.", "space.tracking.", "space.report.")
"""Sections that may change under a name: they decide no number."""
_LOCATIONS = ("base.data.root", "base.data.loader_workers", "base.teacher.weights")
"""Settings of the base that may change: another machine has the same files elsewhere."""
_SEEDS = ("space.seeds", "space.confirm.seeds")


def chosen_sweep(options: Options) -> Sweep:
    """The sweep that the options ask for, checked. Raises InputError, LedgerError, StoreError."""
    if options.add_seeds is not None:
        return _extended(options, options.add_seeds)
    if options.space is None:
        if not (options.resume and options.name):
            raise InputError("--space is needed, or --resume with --name (see --help)")
        return _recorded(options, "--resume")
    sweep = load(options.space, options.base, options.settings, options.num_samples, options.name)
    if options.resume:
        existing_ledger(options, sweep.name, "--resume")
    return sweep


def existing_ledger(options: Options, name: str, flag: str) -> Path:
    """The ledger of a sweep that must exist, fetched from the object store if that has more.

    Raises InputError, which names the flag, and StoreError.
    """
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
    return replace(launches[-1].sweep, name=str(options.name))


def _extended(options: Options, count: int) -> Sweep:
    """A finished sweep with `count` fresh seeds."""
    if options.space is not None or not options.name:
        raise InputError("--add-seeds extends a sweep as its ledger describes it: give its --name, and no --space")
    sweep = _recorded(options, "--add-seeds")
    if not is_complete(sweep, trials_of(ledger.read(options.storage / sweep.name / FILE_NAME))):
        raise InputError(
            f"--add-seeds: the sweep '{sweep.name}' is not finished; go on with --resume --name {sweep.name} first"
        )
    tree = sweep.space.model_dump(mode="json")
    owner = tree["confirm"] if sweep.space.design == "search" else tree
    owner["seeds"] += fresh_seeds(sweep.space, count)
    return replace(sweep, space=Space.of_tree(tree, lambda key: f"--add-seeds {count}: "))


def refuse_another_space(sweep: Sweep, launches: list[Launch]) -> None:
    """Raises InputError with the differences where the ledger of this name was begun with another space.

    A search and the seeds may grow; resources, tracking, the report and the places of files may change.
    """
    if not launches:
        return
    differences = []
    for key, old, new in _differences(_settings_of(launches[0].sweep), _settings_of(sweep)):
        has_grown = key in _SEEDS and set(new or ()) >= set(old or ())
        has_grown |= key == "space.search.num_samples" and None not in (old, new) and new >= old
        if not (has_grown or key in _LOCATIONS or f"{key}.".startswith(_FREE)):
            differences.append(f"  {key}: {json.dumps(old)} there, {json.dumps(new)} here")
    if differences:
        raise InputError(
            f"the name '{sweep.name}' is taken by a sweep with another space; choose another --name.\n"
            + "\n".join(differences)
        )


def as_grown(sweep: Sweep, launches: list[Launch]) -> Sweep:
    """The sweep with the seeds and samples that its last launch had: what was added is never given up."""
    if not launches:
        return sweep
    newest, space = launches[-1].space, sweep.space
    seeds = list(dict.fromkeys([*newest.seeds, *space.seeds]))
    confirmed = list(dict.fromkeys([*newest.confirm.seeds, *space.confirm.seeds]))
    samples = max(newest.search.num_samples, space.search.num_samples)
    grown = {
        "seeds": seeds,
        "confirm": space.confirm.model_copy(update={"seeds": confirmed}),
        "search": space.search.model_copy(update={"num_samples": samples}),
    }
    return replace(sweep, space=space.model_copy(update=grown))


def _settings_of(sweep: Sweep) -> dict[str, Any]:
    return {"space": sweep.space.model_dump(mode="json"), "base": sweep.base.model_dump(mode="json")}


def _differences(old: Any, new: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """The dotted paths at which two trees differ, with both values. An empty dictionary is a value, too."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in {**old, **new}:
            yield from _differences(old.get(name), new.get(name), f"{key}.{name}" if key else name)
    elif old != new:
        yield key, old, new
