"""Launch a sweep: `python -m msd_sweeps.run --space scales.yaml`. CONTRIBUTING.md follows one trial through it."""

import sys
from contextlib import nullcontext, redirect_stdout
from typing import TYPE_CHECKING

from msd_sweeps.plan.plan import Plan
from msd_sweeps.records.files import check_folder
from msd_sweeps.records.ledger import LayoutError, LedgerError
from msd_sweeps.records.mlflow_publish import checked_model
from msd_sweeps.records.mlflow_store import check_file, choose_uri
from msd_sweeps.records.object_store import StoreError
from msd_sweeps.records.step_times import recorded_spread, recorded_start_seconds, recorded_step_seconds
from msd_sweeps.space.console import run_command
from msd_sweeps.space.designs import Sweep
from msd_sweeps.space.errors import InputError, printable
from msd_sweeps.sweep.options import Options, parse_options
from msd_sweeps.sweep.resume import chosen_sweep

if TYPE_CHECKING:
    from msd_sweeps.sweep.prepare import Distillation


def main(arguments: list[str] | None = None, trainer: "Distillation | None" = None) -> int:
    """Run the command; returns the exit code. trainer: what trains, instead of the package's own."""
    try:
        options = parse_options(arguments)
        options.events = sys.stdout if options.json else None
        with redirect_stdout(sys.stderr) if options.json else nullcontext():
            return _run(options, trainer)
    except (InputError, StoreError, LayoutError) as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        return 2
    except LedgerError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        return 1


def _run(options: Options, trainer: "Distillation | None") -> int:
    if options.store is not None:
        options.store.size()  # a store that does not answer is told before anything starts
    if options.sync_mlflow:
        from msd_sweeps.sweep.publish import sync_mlflow

        return sync_mlflow(options)
    sweep = chosen_sweep(options)
    if options.register is not None:
        _check_register(options.register, sweep)
    check_file(choose_uri(options.storage, sweep.space.tracking.uri), whole=False)  # one that takes nothing is refused
    step_seconds = recorded_step_seconds(options.storage, sweep.base)
    if options.estimate:
        from msd_sweeps.distill.timing import measure

        step_seconds = measure(sweep.base)
    if options.dry_run and sweep.base.teacher.weights is not None:
        from msd_sweeps.distill import teacher

        teacher.check_file(sweep.base)
    spread = recorded_spread(options.storage, sweep.base, sweep.space.report.value)
    plan = Plan(sweep, step_seconds, recorded_start_seconds(options.storage), spread)
    print(plan.text(None if options.address else plan.slots_here(options.num_cpus)), flush=True)
    return 0 if options.dry_run else _launch(plan, options, trainer)


def _check_register(model: str, sweep: Sweep) -> None:
    """Raises InputError where no winner of the sweep can be registered under this name."""
    checked_model(model)
    export = f"python -m msd_sweeps.export {sweep.name} --row LABEL --seed N --register {model}"
    if sweep.space.design != "search":
        raise InputError(f"--register: only a search has a winner; afterwards, any row: {export}")
    if sweep.space.search.each is not None:
        rows = " or ".join(map(repr, sweep.winner_labels))
        raise InputError(f"--register: each search of this sweep has a winner ({rows}); afterwards: {export}")
    if sweep.space.keep == "none":
        raise InputError("--register: the space has keep: none, so no weights would be left; keep reported ones")


def _launch(plan: Plan, options: Options, trainer: "Distillation | None") -> int:
    from msd_sweeps.sweep.launch import finish, run_sweep
    from msd_sweeps.sweep.run_state import Interrupted, SweepStopped, noted_signals

    check_folder(options.reports / plan.sweep.name, "--reports")
    again = options.command(plan.sweep.name)
    state = "nothing that was recorded is lost. To go on"
    with noted_signals() as signals:
        try:
            run = run_sweep(plan, options, signals, trainer)
            state = "the sweep is complete, this compiles its report"
            return finish(run)
        except Interrupted as error:
            print(f"stopped by {error}; {state}:\n  {again}", file=sys.stderr)
            return 128 + error.signal_number
        except SweepStopped as error:
            print(f"error: {error}\nTo go on all the same:\n  {again}", file=sys.stderr)
            return 1


if __name__ == "__main__":
    sys.exit(run_command(main))
