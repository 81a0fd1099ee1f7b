"""Where the trained students of a sweep lie, and the card beside each of them; without torch."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from msd_sweeps.catalog.datasets import file_sha256
from msd_sweeps.records.object_store import Place
from msd_sweeps.records.trial_record import TrialRecord
from msd_sweeps.space.errors import InputError, nearest

FOLDER, WEIGHTS, CARD = "weights", "weights.safetensors", "card.json"
"""The folder of a sweep's kept students, in which each trial has one of its own; and the files there."""
Card = dict[str, Any]


class Kept(NamedTuple):
    """A trained student on this machine's disk."""

    weights: Path
    card: Card


def chosen(trials: Iterable[TrialRecord], row: str | None, seed: int | None, best_by: str | None) -> TrialRecord:
    """The one finished trial of a sweep that is asked for. Raises InputError with what there is.

    row: its label, or one of the labels that it joins; None: `winner 1`, or the only row. seed: its seed; None: the
    best by the metric `best_by`, or the only one.
    """
    finished = [trial for trial in trials if trial.state == "finished" and trial.phase != "search"]
    rows = list(dict.fromkeys(trial.label for trial in finished))
    if row is None and any("winner 1" in label.split(" = ") for label in rows):
        row = "winner 1"
    row = rows[0] if row is None and len(rows) == 1 else row
    if row is None:
        raise InputError(f"--row is needed: {nearest('', rows)}")
    names = {trial.trial: {trial.label, *trial.label.split(" = ")} for trial in finished}
    of_row = [trial for trial in finished if row.casefold() in map(str.casefold, names[trial.trial])]
    if not of_row:
        raise InputError(f"--row {row!r}: no row with a finished trial has this label; {nearest(row, rows)}")
    if seed is not None:
        of_row, seeds = [trial for trial in of_row if trial.seed == seed], [trial.seed for trial in of_row]
        if not of_row:
            raise InputError(f"--seed {seed}: this row has finished the seeds {', '.join(map(str, seeds))}")
    if best_by is not None:
        known = [name for name in of_row[0].metrics if not name.startswith("test_") and not name.endswith("_seconds")]
        if best_by not in known:
            raise InputError(
                f"--best-by {best_by}: a metric that may choose is needed (the test set chooses nothing); "
                f"{nearest(best_by, known)}"
            )
        sign = -1 if "loss" in best_by else 1
        of_row = [max(of_row, key=lambda trial: sign * trial.metrics[best_by])]
    if len(of_row) > 1:
        seeds = [trial.seed for trial in of_row]
        raise InputError(f"{row}: seeds {', '.join(map(str, seeds))}; choose one with --seed, or with --best-by METRIC")
    return of_row[0]


def folder_of(trial: TrialRecord, ledger: Path) -> Path:
    """Where the weights of a trial of this ledger are kept: with the sweep that trained it."""
    sweep = ledger.parent if not trial.source else ledger.parent.with_name(trial.source)
    return sweep / FOLDER / trial.trial


def read_card(folder: Place) -> Card:
    """The card of a kept student. Raises FileNotFoundError, ValueError."""
    return json.loads((folder / CARD).read_bytes())


def found(folder: Path) -> Kept:
    """The kept student in a folder, its checksum compared. Raises InputError that says what to do without one."""
    try:
        kept = Kept(folder / WEIGHTS, read_card(folder))
    except (FileNotFoundError, ValueError) as error:
        train = "python -m msd_sweeps.train --base reports/NAME/rows/ROW.yaml --set seed=N --out FOLDER"
        raise InputError(f"{folder}: no weights are kept here (keep: none?); {train} makes them again") from error
    if file_sha256(kept.weights) != kept.card["sha256"]:
        raise InputError(f"{kept.weights}: damaged (its checksum does not match its card)")
    return kept


def shareable(card: Card, trial: TrialRecord) -> Card:
    """A card for a file that leaves this machine: with the row's label, without places on this machine."""
    config = json.loads(json.dumps(card["config"]))
    config["data"].pop("root", None)
    config["teacher"].pop("weights", None)
    return card | {"label": trial.label, "seed": trial.seed, "config": config}
