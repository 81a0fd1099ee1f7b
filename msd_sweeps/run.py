"""Launch a sweep: `python -m msd_sweeps.run --space scales.yaml`."""

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from msd_sweeps.plan.plan import Plan
from msd_sweeps.records.ledger import LayoutError, LedgerError
from msd_sweeps.records.object_store import StoreError, StorePath, local_folder, place, working_folder
from msd_sweeps.records.step_times import recorded_step_seconds
from msd_sweeps.space.designs import Sweep
from msd_sweeps.space.errors import InputError
from msd_sweeps.space.load import load
from msd_sweeps.sweep.existing import existing_ledger, extended, stored

if TYPE_CHECKING:
    from msd_sweeps.sweep.launch import Outcome
    from msd_sweeps.sweep.trainer import Trainer

_EPILOG = """\
examples:
  python -m msd_sweeps.run --space scales.yaml
  python -m msd_sweeps.run --space scales.yaml --base cifar100_resnet56_resnet20 --set teacher.weights=resnet56.pt
  python -m msd_sweeps.run --space ablation.yaml --set seeds='[0, 1, 2]' --name my-ablation --dry-run
  python -m msd_sweeps.run --resume --name scales
  python -m msd_sweeps.run --add-seeds 3 --name scales
  python -m msd_sweeps.run --space scales.yaml --storage s3://BUCKET/runs
  python -m msd_sweeps.run --space scales.yaml --submit http://HEAD:8265 --storage /runs --reports /reports

The same command with the same name goes on where it stopped and trains nothing twice.

exit codes: 0 done; 1 a sweep that could not be finished, gave no result, or is not whole in its object store;
2 bad input, nothing was started;
128 + n after signal n (130 for Ctrl+C): the sweep was stopped in order and can be resumed
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = argparse.ArgumentParser(
        prog="python -m msd_sweeps.run",
        description="Launch a sweep, or go on with it, and compile its report.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = command.add_argument
    add("--space", metavar="FILE", help="the space: a path, or the name of a file in search_spaces/")
    add("--base", metavar="FILE", help="another base than the space's: a path, or a name in search_spaces/bases/")
    add("--name", help="the sweep's name: its folder under --storage and reports/ (default: from space and base)")
    add(
        "--add-seeds",
        type=int,
        metavar="N",
        help="extend the finished sweep --name by N fresh seeds, and train only what is new",
    )
    add("--num-samples", type=int, metavar="N", help="trials of a search, instead of the space's")
    add(
        "--set",
        action="append",
        default=[],
        metavar="PATH=VALUE",
        dest="settings",
        help="change the base (recipe.epochs=2, data.root=/data) or the space (resources.pack=4); repeatable",
    )
    add(
        "--address",
        help="drive the sweep on a running Ray cluster that this machine belongs to: auto or HOST:PORT (default: a "
        "local Ray); from elsewhere ray://HEAD:10001 is the same as --submit http://HEAD:8265",
    )
    add(
        "--submit",
        metavar="http://HOST:8265",
        help="send the sweep to a running Ray cluster as a job and follow it; its paths are the cluster's, and "
        "--storage (if no URI) and --reports absolute",
    )
    add("--num-cpus", type=int, metavar="N", help="CPUs that a local Ray may use (default: all)")
    add(
        "--storage",
        type=place,
        default=Path("runs"),
        metavar="DIR|URI",
        help="where sweeps and teachers are kept (runs): a folder, or s3://BUCKET/FOLDER and the like (gs, abfs, "
        "hdfs, file); a store's working copy is in runs/copies",
    )
    add(
        "--reports",
        type=local_folder,
        default=Path("reports"),
        metavar="DIR",
        help="where reports are written (reports)",
    )
    add("--dry-run", action="store_true", help="print the plan and stop")
    add(
        "--sync-mlflow",
        action="store_true",
        help="only send MLflow what it has missed of the sweep --name, from its ledger",
    )
    add("--estimate", action="store_true", help="time some steps for the plan's estimate")
    add(
        "--fresh", action="store_true", help="train everything here, also what another sweep of this store has finished"
    )
    add("--resume", action="store_true", help="go on with a sweep that must exist; --space may be left out")
    add("-v", "--verbose", action="store_true", help="show what Ray prints")
    return command


def main(arguments: list[str] | None = None, trainer: "Trainer | None" = None) -> int:
    """Run the command, with another trainer than the package's where one is given; returns the exit code."""
    options = parser().parse_args(arguments)
    options.store = None
    try:
        if isinstance(options.storage, StorePath):
            options.storage.checked()
        if options.submit is not None or str(options.address).startswith("ray://"):
            return _submit(options)
        if isinstance(options.storage, StorePath):
            options.store, options.storage = options.storage, working_folder(options.storage)
            options.store.size()  # answers, or the user hears of it before anything else
        if options.sync_mlflow:
            return _sync_mlflow(options)
        sweep = _load(options)
        step_seconds = recorded_step_seconds(options.storage, sweep.base)
        if options.estimate:
            from msd_sweeps.distill.timing import measure

            step_seconds = measure(sweep.base)
        plan = Plan(sweep, step_seconds)
        print(plan.text(plan.slots_here(options.num_cpus) if options.address is None else None), flush=True)
        if options.dry_run:
            return 0
        return _launch(sweep, options, trainer)
    except (InputError, StoreError, LayoutError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except LedgerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _submit(options: argparse.Namespace) -> int:
    from msd_sweeps.sweep.submit import dashboard_of, submit

    if options.submit is None:
        options.submit, options.address = dashboard_of(options.address), None
    if options.address is not None or options.num_cpus is not None:
        raise InputError("--submit: the job joins the cluster itself; leave out --address and --num-cpus")
    return submit(options)


def _load(options: argparse.Namespace) -> Sweep:
    for flag in ("num_samples", "num_cpus", "add_seeds"):
        number = getattr(options, flag)
        if number is not None and number < 1:
            name = flag.replace("_", "-")
            raise InputError(f"--{name} {number}: expected a whole number of at least 1")
    if options.add_seeds is not None:
        return extended(options)
    if options.space is None:
        if not (options.resume and options.name):
            raise InputError("--space is needed, or --resume with --name (see --help)")
        return stored(options)
    sweep = load(options.space, options.base, options.settings, options.num_samples, options.name)
    if options.resume:
        existing_ledger(options, sweep.name)
    return sweep


def _sync_mlflow(options: argparse.Namespace) -> int:
    from msd_sweeps.records.mlflow_sync import how_to_open
    from msd_sweeps.sweep.launch import sync_mlflow

    if not options.name:
        raise InputError("--sync-mlflow: --name is needed, which says of which sweep")
    existing_ledger(options, options.name)
    uri, unsent = sync_mlflow(options.name, options.storage)
    print(f"MLflow    {how_to_open(uri)}")
    if unsent:
        print(f"error: MLflow has not taken {unsent} records; the same command tries again", file=sys.stderr)
        return 1
    print("MLflow has every record of the ledger")
    return 0


def _again(options: argparse.Namespace, what: str, name: str) -> str:
    """The command that does something more with a sweep."""
    kept = options.store or options.storage
    storage = f" --storage {shlex.quote(str(kept))}" if kept != Path("runs") else ""
    return f"python -m msd_sweeps.run {what} --name {name}{storage}"


def _launch(sweep: Sweep, options: argparse.Namespace, trainer: "Trainer | None") -> int:
    from msd_sweeps.sweep.launch import Options, launch
    from msd_sweeps.sweep.stopping import Interrupted, SweepStopped, noted_signals

    again = _again(options, "--resume --fresh" if options.fresh else "--resume", sweep.name)
    what = "nothing that was recorded is lost. To go on"
    with noted_signals():
        try:
            outcome = launch(
                sweep,
                Options(
                    options.storage,
                    options.address,
                    options.num_cpus,
                    options.verbose,
                    options.fresh,
                    options.store,
                    again,
                ),
                trainer,
            )
            what = "the sweep is complete, this compiles its report"
            return _tell(sweep, options, outcome, again)
        except Interrupted as error:
            print(f"stopped by {error}; {what}:\n  {again}", file=sys.stderr)
            return 128 + error.signal_number
        except SweepStopped as error:
            print(f"error: {error}\nTo go on all the same:\n  {again}", file=sys.stderr)
            return 1


def _tell(sweep: Sweep, options: argparse.Namespace, outcome: "Outcome", again: str) -> int:
    """Compile the report of a complete sweep and say where everything is; the exit code."""
    from msd_sweeps.records.mlflow_sync import how_to_open
    from msd_sweeps.report.compiling import compile_report
    from msd_sweeps.report.store import write_index

    folder = options.storage / sweep.name
    try:
        report = compile_report(outcome.ledger, options.reports / sweep.name)
        write_index(options.reports)
    except OSError as error:
        print(f"error: {error}\nThe sweep is complete; this compiles its report:\n  {again}", file=sys.stderr)
        return 1
    print(f"\n{report.table_text}\n")
    if outcome.taken_over:
        print(f"{outcome.taken_over} trials were taken over from other sweeps of {options.store or options.storage}/")
    elif not outcome.trained:
        print("everything was there already; nothing was trained")
    if outcome.unsent:
        sync = _again(options, "--sync-mlflow", sweep.name)
        print(f"MLflow has not taken {outcome.unsent} records yet; this sends them again:\n  {sync}")
    if options.store is not None:
        print(f"kept in   {options.store / sweep.name}")
    print(f"ledger    {outcome.ledger}")
    print(f"MLflow    {how_to_open(outcome.tracking)}")
    if sweep.space.design == "search":
        print(f"Optuna    optuna-dashboard {folder / 'optuna.journal'}    (pip install optuna-dashboard)")
    print(f"report    {report.paths[0]}")
    return 1 if outcome.uncopied else 0


if __name__ == "__main__":
    sys.exit(main())
