"""All commands under one name: `msd-sweeps run ...` is `python -m msd_sweeps.run ...`."""

import importlib
import shutil
import sys
from pathlib import Path

from msd_sweeps.space.console import run_command
from msd_sweeps.space.errors import nearest
from msd_sweeps.space.load import SHIPPED, shipped

COMMANDS = {
    "run": "launch a sweep, or go on with it, and compile its report",
    "report": "compile a sweep's report again",
    "train": "train one student in this process, without Ray",
    "export": "write a trained student into one file",
    "evaluate": "measure a trained network in a file",
    "teach": "train or import a teacher once",
    "schema": "write the schemas that editors read",
    "init": "copy the spaces and bases into the current folder, to change them",
}


def main(arguments: list[str] | None = None) -> int:
    """Run one of the commands; returns its exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    if not words or words[0] in ("-h", "--help"):
        print("usage: msd-sweeps COMMAND ...    (msd-sweeps COMMAND --help says more)\n")
        print("\n".join(f"  {name:<9} {what}" for name, what in COMMANDS.items()))
        return 0
    command, *rest = words
    if command not in COMMANDS:
        print(f"error: no command '{command}'; {nearest(command, COMMANDS)}", file=sys.stderr)
        return 2
    if command == "init":
        return _init()
    module = importlib.import_module("msd_sweeps.report.__main__" if command == "report" else f"msd_sweeps.{command}")
    return int(module.main(rest))


def _init() -> int:
    """Copy what the package has into `search_spaces/`; nothing that is there is overwritten."""
    if SHIPPED.exists():
        print(f"error: {Path.cwd() / SHIPPED}: is there already; remove it, or use another folder", file=sys.stderr)
        return 2
    shutil.copytree(shipped(), SHIPPED, ignore=shutil.ignore_patterns("__pycache__"))
    print(f"{SHIPPED}/ has the spaces and bases. Read {SHIPPED}/README.md, and look at a plan:")
    print("  msd-sweeps run --space scales.yaml --dry-run")
    return 0


def command() -> int:
    """The console script."""
    return run_command(main)


if __name__ == "__main__":
    sys.exit(command())
