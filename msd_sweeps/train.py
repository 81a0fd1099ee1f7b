"""Train one student in this process, without Ray: `python -m msd_sweeps.train --base digits --set recipe.epochs=3`."""

import argparse
import json
import pdb
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msd_sweeps.records.files import check_folder
from msd_sweeps.records.object_store import local_folder
from msd_sweeps.space.console import refusing_bad_input, run_command
from msd_sweeps.space.load import load_base
from msd_sweeps.space.trial import Trial

if TYPE_CHECKING:
    from msd_sweeps.records.trial_record import EpochResult

_EPILOG = """\
The numbers are those of the same trial in a sweep, bit for bit on a CPU. `breakpoint()` works in a loss or a network,
and an exception is shown with its whole traceback.

exit codes: 0 done; 1 the student has no result; 2 bad input
"""


@refusing_bad_input
def main(arguments: list[str] | None = None) -> int:
    """The command; returns the exit code."""
    command = argparse.ArgumentParser(
        prog="python -m msd_sweeps.train",
        description="Train one student in this process, without Ray.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = command.add_argument
    base = "a path, or a name in search_spaces/bases/; a row of a report is one too (reports/NAME/rows/ROW.yaml)"
    add("--base", required=True, metavar="FILE", help=base)
    add("--set", action="append", default=[], metavar="PATH=VALUE", dest="settings", help="change the base; repeatable")
    add("--out", type=Path, metavar="DIR", help="keep weights, card and history.json there (default: nothing is kept)")
    add("--storage", type=local_folder, default=Path("runs"), metavar="DIR", help="where teachers are kept (runs)")
    add("--threads", type=int, default=1, metavar="N", help="of the student, on a CPU; a sweep has 1 (they round sums)")
    add("--profile", action="store_true", help="trace ten steps with torch's profiler, and print the longest")
    options = command.parse_args(arguments)
    trial = load_base(options.base, options.settings)
    check_folder(options.storage, "--storage")
    check_folder(options.out or options.storage, "--out")
    return _train(trial, options)


def _train(trial: Trial, options: argparse.Namespace) -> int:
    # Imported late: --help and mistakes in a base need no torch.
    from rich.console import Console
    from rich.progress import Progress

    from msd_sweeps.distill import by_hand, kept
    from msd_sweeps.distill.profile import Profile
    from msd_sweeps.distill.student import NonFiniteLoss

    console, recipe = Console(highlight=False), trial.recipe
    bar = Progress(console=console, transient=True, disable=not console.is_terminal)
    task = bar.add_task("step", total=recipe.epochs * trial.steps_per_epoch)
    profile = Profile(options.out or Path()) if options.profile else None

    def on_batch() -> None:
        bar.advance(task)
        if profile is not None:
            profile.step()

    def of_teacher(result: "EpochResult") -> None:
        console.print(f"teacher {trial.teacher.model}: {_line(result, trial.teacher.recipe.epochs)}")

    cohort = by_hand.cohort_of(trial, options.storage / "teachers", on_batch, options.threads, of_teacher)
    student = cohort.students[trial.id]
    about = f"{trial.student.model} by {trial.method.name} on {trial.data.name}, {len(cohort.splits.train)} images"
    console.print(f"trial {trial.id}: {about}, {recipe.epochs} epochs of {trial.steps_per_epoch} steps")
    try:
        with bar, _debugger_below(bar.stop):
            for (result,) in cohort.epochs():
                console.print(_line(result, recipe.epochs))
    except NonFiniteLoss as error:
        console.print(f"diverged: {error}")
        return 1
    finally:
        if profile is not None:
            console.print(profile.close(), soft_wrap=True)
    if options.out is not None:
        kept.keep(options.out, student, cohort.splits, cohort.dtype)
        history = [{"epoch": result.epoch, **result.metrics} for result in student.history]
        kept.write(options.out / "history.json", (json.dumps(history, indent=1) + "\n").encode())
        console.print(f"weights   {options.out / kept.WEIGHTS}")
    return 0


def _line(result: "EpochResult", epochs: int) -> str:
    shown = {name: value for name, value in result.metrics.items() if not name.endswith("_seconds")}
    return f"epoch {result.epoch} of {epochs}: " + ", ".join(f"{name} {value:.4g}" for name, value in shown.items())


@contextmanager
def _debugger_below(stop: Callable[[], None]) -> Iterator[None]:
    """Let `breakpoint()` end the progress bar first, which would draw over the debugger's prompt."""
    hook = sys.breakpointhook

    def debug(*arguments: Any, **options: Any) -> None:
        stop()
        if hook is sys.__breakpointhook__:  # its own debugger would stop in this function
            pdb.Pdb().set_trace(sys._getframe(1))
        else:
            hook(*arguments, **options)

    sys.breakpointhook = debug
    try:
        yield
    finally:
        sys.breakpointhook = hook


if __name__ == "__main__":
    sys.exit(run_command(main))
