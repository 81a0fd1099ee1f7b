"""Which code this is: the git commit, also where the code was sent without its repository."""

import os
import subprocess
from pathlib import Path

COMMIT = "MSD_SWEEPS_COMMIT"
"""Set for a submitted job: the commit that was sent, and whether the tree differed from it."""


def commit() -> tuple[str | None, bool]:
    """The git commit of the code, and whether the tree differs from it, compiled reports apart; None where unknown."""
    sent = os.environ.get(COMMIT)
    if sent is not None:
        name, _, dirty = sent.partition(" ")
        return (None if name == "None" else name), dirty == "True"
    here = Path(__file__).resolve().parent

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=here, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        code = ("--", ":/", ":(top,exclude)reports")
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--untracked-files=no", *code))
    except (OSError, subprocess.SubprocessError):
        return None, False
