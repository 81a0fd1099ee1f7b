"""A trained student of a sweep as one file: `python -m msd_sweeps.export NAME --row "winner 1" --seed 1`."""

import argparse
import json
import re
import sys
from pathlib import Path

from msd_sweeps.records import kept, mlflow_publish
from msd_sweeps.records.header import header_of
from msd_sweeps.records.ledger import LedgerError, read
from msd_sweeps.records.mlflow_store import choose_uri
from msd_sweeps.records.mlflow_sync import reason_of
from msd_sweeps.records.object_store import StoreError, StorePath, place, working_folder
from msd_sweeps.records.trial_record import TrialRecord, trials_of
from msd_sweeps.report.store import find_ledger
from msd_sweeps.space.console import run_command
from msd_sweeps.space.errors import InputError
from msd_sweeps.space.own_code import Source, trial_of

SUFFIXES = {"safetensors": ".safetensors", "torch": ".pt", "onnx": ".onnx"}


def main(arguments: list[str] | None = None) -> int:
    """The command; returns the exit code."""
    command = argparse.ArgumentParser(
        prog="python -m msd_sweeps.export",
        description="Write a trained student of a sweep into one file, with a card that says what it is.",
        epilog="An ONNX file takes uint8 images [batch, 3, H, W] and gives logits; the normalisation is inside. "
        "exit codes: 0 done; 1 it could not be written; 2 bad input",
    )
    add = command.add_argument
    add("name", metavar="NAME", help="a sweep in the storage folder, or a path to its folder")
    add("--row", metavar="LABEL", help="a row of its table (default: winner 1, or the only row)")
    add("--seed", type=int, metavar="N", help="the replicate of this seed")
    add("--best-by", metavar="METRIC", help="the replicate that is best by a validation or training metric")
    add("--format", choices=list(SUFFIXES), default="safetensors", dest="form", help="(default: safetensors)")
    add("--out", type=Path, metavar="FILE", help="the file (default: NAME-ROW-seedN and the format's ending)")
    add("--storage", type=place, default=Path("runs"), metavar="DIR|URI", help="where sweeps are kept (runs)")
    add("--register", metavar="MODEL", help="also make it a version of this model in MLflow's model registry")
    options = command.parse_args(arguments)
    try:
        if options.register is not None:
            mlflow_publish.checked_model(options.register)
        ledger, storage = _ledger(options.name, options.storage)
        trial = kept.chosen(trials_of(read(ledger)).values(), options.row, options.seed, options.best_by)
        student = _fetched(trial, ledger, storage)
        name = re.sub(r"[^\w.+-]+", "_", f"{ledger.parent.name}-{trial.label}-seed{trial.seed}")
        out = options.out or Path(name + SUFFIXES[options.form])

        own = header_of(ledger).launch.own
        if own and options.form == "onnx":  # the network is built, by the code that trained it
            trial_of(json.dumps(trial.config), [Source(*source) for source in own["sources"]])

        # Imported late: --help and mistakes need no torch.
        from msd_sweeps.distill import exporting

        exporting.export(student._replace(card=kept.shareable(student.card, trial)), out, options.form)
        version = options.register and _registered(trial, ledger, out, options.register)
    except (InputError, LedgerError, StoreError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{trial.label} of {ledger.parent.name}, seed {trial.seed}: test top-1 {trial.metrics['test_top1']:.2f} %")
    if version:
        print(f"registry  {options.register}, version {version}")
    print(f"weights   {out}\nevaluate  python -m msd_sweeps.evaluate {out}")
    return 0


def _ledger(name: str, storage: Path | StorePath) -> tuple[Path, Path | StorePath]:
    """The ledger of a sweep on this machine, fetched from an object store, and the folder of all sweeps."""
    if isinstance(storage, Path):
        found = find_ledger(name, storage)
        return found, found.parent.parent
    from msd_sweeps.records.stored_ledger import StoredLedger

    local = working_folder(storage)
    StoredLedger(storage / name).fetch(local / name / "ledger.jsonl")
    return find_ledger(name, local), storage


def _fetched(trial: TrialRecord, ledger: Path, storage: Path | StorePath) -> kept.Kept:
    """The kept student of a trial, on this machine."""
    folder = kept.folder_of(trial, ledger)
    if isinstance(storage, StorePath) and not (folder / kept.CARD).exists():
        from msd_sweeps.records.files import write_whole

        stored = storage / (trial.source or ledger.parent.name) / kept.FOLDER / trial.trial
        for name in (kept.WEIGHTS, kept.CARD):
            write_whole(folder / name, (stored / name).read_bytes())
    return kept.found(folder)


def _registered(trial: TrialRecord, ledger: Path, out: Path, model: str) -> str:
    """Send an exported student to its run in MLflow and register it; the number of the version.

    Raises InputError, OSError for a store that does not take it.
    """
    header, storage = header_of(ledger), ledger.parent.parent
    uri = choose_uri(storage, header.launch.space.tracking.uri)
    try:
        writer = mlflow_publish.writer_of(header, storage)
        mlflow_publish.send_student(writer, trial, kept.folder_of(trial, ledger))
        return mlflow_publish.register(writer, trial, model, out)
    except InputError:
        raise
    except Exception as error:  # stores and networks raise errors of all kinds
        raise OSError(f"{out} is written, but MLflow has not taken it: {reason_of(error, uri)}") from error


if __name__ == "__main__":
    sys.exit(run_command(main))
