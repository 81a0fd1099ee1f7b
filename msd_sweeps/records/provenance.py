"""Which code runs where: the git commit and the versions."""

import platform
import socket
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from msd_sweeps import __version__
from msd_sweeps.records.header import Launch
from msd_sweeps.space.designs import Sweep
from msd_sweeps.space.own_code import recorded


def commit() -> tuple[str | None, bool]:
    """The git commit of the code, and whether the tree differs from it, compiled reports apart; None where unknown."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(Path(__file__).resolve().parent), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        code = ("--", ":/", ":(top,exclude)reports")
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--untracked-files=no", *code))
    except (OSError, subprocess.SubprocessError):
        return None, False


def this_launch(sweep: Sweep, device: str, sweep_id: str) -> Launch:
    """The record of this process's launch of a sweep. device: the device that trains, by its name."""
    revision, dirty = commit()
    versions = {name: metadata.version(name) for name in ("torch", "ray", "optuna", "mlflow", "numpy")}
    return Launch(
        name=sweep.name,
        id=sweep_id,
        space=sweep.space,
        base=sweep.base,
        command=["python", "-m", "msd_sweeps.run", *sys.argv[1:]],
        versions=versions | {"msd-sweeps": __version__, "python": platform.python_version()},
        commit=revision,
        dirty=dirty,
        host=socket.gethostname(),
        device=device,
        own=recorded(),
    )
