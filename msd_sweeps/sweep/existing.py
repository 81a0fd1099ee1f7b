"""A sweep that is there already: its ledger, and the sweep as its ledger describes it, to go on with or to extend."""

import argparse
import sys
from pathlib import Path

from msd_sweeps.records import ledger
from msd_sweeps.records.header import header_of
from msd_sweeps.records.ledger import FILE_NAME
from msd_sweeps.records.stored_ledger import StoredLedger
from msd_sweeps.records.trial_record import trials_of
from msd_sweeps.space.designs import Sweep, fresh_seeds
from msd_sweeps.space.errors import InputError, nearest
from msd_sweeps.space.load import checked_name
from msd_sweeps.space.schema import Space
from msd_sweeps.space.validation import validated


def existing_ledger(options: argparse.Namespace, name: str, flag: str = "--resume") -> Path:
    """The ledger of a sweep that must exist, fetched from the object store if that has more.

    Raises InputError, StoreError.
    """
    storage, store = options.storage, options.store
    path: Path = storage / checked_name(name) / FILE_NAME
    if store is not None:
        told = StoredLedger(store / name).fetch(path)
        if told:
            print(told, file=sys.stderr)
    if not path.exists():
        known = [found.parent.name for found in storage.glob(f"*/{FILE_NAME}")]
        if store is not None:
            known = [folder.name for folder in store.glob("*") if StoredLedger(folder).size() is not None]
        raise InputError(f"{flag}: no sweep '{name}' in {store or storage}/; {nearest(name, known)}")
    return path


def stored(options: argparse.Namespace, flag: str = "--resume") -> Sweep:
    """The sweep as its own ledger describes it last. Raises InputError, LedgerError, StoreError."""
    if options.base or options.settings or options.num_samples:
        raise InputError(f"{flag} without --space goes on unchanged; give --space to change something")
    path = existing_ledger(options, options.name, flag)
    launches = header_of(path).launches
    if not launches:
        raise InputError(f"{path}: the sweep stopped before it began; start it with --space")
    return Sweep(options.name, launches[-1].space, launches[-1].base)


def extended(options: argparse.Namespace) -> Sweep:
    """A finished sweep with fresh seeds. Raises InputError, LedgerError, StoreError."""
    from msd_sweeps.sweep.launch import is_complete

    if options.space is not None or not options.name:
        raise InputError("--add-seeds extends a sweep as its ledger describes it: give its --name, and no --space")
    sweep = stored(options, "--add-seeds")
    if not is_complete(sweep, trials_of(ledger.read(existing_ledger(options, sweep.name)))):
        raise InputError(
            f"--add-seeds: the sweep '{sweep.name}' is not finished; go on with --resume --name {sweep.name} first"
        )
    tree = sweep.space.model_dump(mode="json")
    owner = tree["confirm"] if sweep.space.design == "search" else tree
    owner["seeds"] += fresh_seeds(sweep.space, options.add_seeds)
    space = validated(Space, tree, lambda key: f"--add-seeds {options.add_seeds}: ")
    return Sweep(sweep.name, space, sweep.base)
