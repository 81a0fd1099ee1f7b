"""Make a teacher: `python -m msd_sweeps.teach --base cifar100_resnet56_resnet20 [--weights FILE]`."""

import argparse
import sys
import time
from pathlib import Path

from msd_sweeps.records.files import check_folder
from msd_sweeps.records.object_store import local_folder
from msd_sweeps.space.console import refusing_bad_input, run_command
from msd_sweeps.space.load import load_base


@refusing_bad_input
def main(arguments: list[str] | None = None) -> int:
    """Train or import the teacher of a base, measure it on the test set, and keep it; returns the exit code."""
    command = argparse.ArgumentParser(
        prog="python -m msd_sweeps.teach",
        description="Train the teacher of a base, or import it from a file; it is measured on the test set and kept "
        "for every sweep that needs the same.",
        epilog="exit codes: 0 done; 2 bad input",
    )
    add = command.add_argument
    add("--base", required=True, metavar="FILE", help="a base: a path, or a name in search_spaces/bases/")
    add("--weights", metavar="FILE", help="import these weights (.safetensors, .pth, .pt) instead of training")
    add("--set", action="append", default=[], metavar="PATH=VALUE", dest="settings", help="change the base; repeatable")
    add("--storage", type=local_folder, default=Path("runs"), metavar="DIR", help="where teachers are kept (runs)")
    options = command.parse_args(arguments)
    settings = [*options.settings, *([f"teacher.weights={options.weights}"] if options.weights else [])]
    trial = load_base(options.base, settings)
    check_folder(options.storage, "--storage")

    # Imported late: --help and mistakes in a base need no torch.
    from msd_sweeps.sweep.prepare import prepare_teacher

    def say(text: str) -> None:
        print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)

    ready = prepare_teacher(trial, options.storage, say)
    print(f"weights   {ready.weights}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
