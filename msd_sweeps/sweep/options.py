"""The options of `python -m msd_sweeps.run`, typed; nothing here decides a number of a trial."""

import argparse
import re
import shlex
from pathlib import Path
from typing import TextIO

from msd_sweeps.records.object_store import Place, StorePath, local_folder, place, working_folder
from msd_sweeps.space.load import Given

_EPILOG = """\
examples:
  python -m msd_sweeps.run --space scales.yaml --base cifar100_resnet56_resnet20 --set teacher.weights=resnet56.pt
  python -m msd_sweeps.run --space ablation.yaml --set seeds='[0, 1, 2]' --name my-ablation --dry-run
  python -m msd_sweeps.run --resume --name scales
  python -m msd_sweeps.run --add-seeds 3 --name scales
  python -m msd_sweeps.run --space scales.yaml --storage s3://BUCKET/runs

The same command with the same name continues every trial after its last saved epoch.

exit codes: 0 done; 1 a sweep that could not be finished, has a row without a value, or is not whole in its
object store;
2 bad input, nothing was started;
128 + n after signal n (130 for Ctrl+C): the sweep was stopped in order and can be resumed
"""


class Options(argparse.Namespace):
    """The options with their defaults; `--help` explains them."""

    space: Given | None = None
    base: Given | None = None
    name: str | None = None
    add_seeds: int | None = None
    num_samples: int | None = None
    settings: list[str] = []
    address: str | None = None
    num_cpus: int | None = None
    storage: Path = Path("runs")
    """This machine's folder of sweeps; the working copy where an object store is used."""
    store: StorePath | None = None
    """The object store that --storage names."""
    reports: Path = Path("reports")
    dry_run: bool = False
    sync_mlflow: bool = False
    estimate: bool = False
    fresh: bool = False
    allow_mixed: bool = False
    resume: bool = False
    retry_failed: bool = False
    register: str | None = None
    verbose: bool = False
    json: bool = False
    events: TextIO | None = None
    """Where each record is printed as a line of JSON, as --json asks for."""

    @property
    def kept_in(self) -> Place:
        """Where sweeps are kept, as the user named it."""
        return self.store or self.storage

    def keep_in(self, where: Place) -> None:
        """Keep sweeps in a folder or an object store. Raises StoreError for a URI that cannot be used."""
        if isinstance(where, StorePath):
            where.checked()
            self.store, self.storage = where, working_folder(where)
        else:
            self.storage = where

    def command(self, name: str, what: str = "--resume") -> str:
        """The command that goes on with the sweep `name`, or does something else with it."""
        given: dict[str, object] = {"--storage": str(self.kept_in)}
        if what in ("--resume", "--retry-failed"):
            given |= {"--reports": str(self.reports), "--address": self.address, "--num-cpus": self.num_cpus}
            given["--register"] = self.register
            what += " --fresh" * self.fresh + " --allow-mixed" * self.allow_mixed + " --verbose" * self.verbose
        defaults = {"--storage": "runs", "--reports": "reports"}
        kept = [f" {flag} {shlex.quote(str(value))}" for flag, value in given.items() if value != defaults.get(flag)]
        return f"python -m msd_sweeps.run {what} --name {name}{''.join(kept)}"


def parse_options(arguments: list[str] | None = None) -> Options:
    """Read a command line. Exits with 2 where it is wrong. Raises StoreError for a URI that cannot be used."""
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
    add("--add-seeds", type=_count, metavar="N", help="extend the finished sweep --name by N fresh seeds")
    add("--num-samples", type=_count, metavar="N", help="trials of a search, instead of the space's")
    settings = "change the base (recipe.epochs=2, data.root=/data) or the space (resources.pack=4); repeatable"
    add("--set", action="append", metavar="PATH=VALUE", dest="settings", help=settings)
    address = "drive the sweep on a running Ray cluster that this machine belongs to (default: a local Ray)"
    add("--address", type=_address, metavar="auto|HOST:PORT", help=address)
    add("--num-cpus", type=_count, metavar="N", help="CPUs that a local Ray may use (default: all)")
    storage = "where sweeps and teachers are kept (runs): a folder, or a URI (s3, gs, abfs, hdfs, file; see cluster/)"
    add("--storage", type=place, metavar="DIR|URI", help=storage)
    add("--reports", type=local_folder, metavar="DIR", help="where reports are written (reports)")
    add("--register", metavar="MODEL", help="of a search: make the winner a version of this model in MLflow's registry")
    flags = {
        "--dry-run": "print the plan and stop",
        "--sync-mlflow": "only send MLflow what it has missed of the sweep --name, from its ledger",
        "--estimate": "time some steps for the plan's estimate",
        "--fresh": "train everything here, also what another sweep of this store has finished",
        "--allow-mixed": "go on although code, torch or machine have changed; tables say which rows mix",
        "--retry-failed": "go on with the trials that have failed: from their checkpoints, or anew with other code",
        "--json": "print each record of the ledger as a line of JSON on stdout, and all else on stderr",
        "--resume": "go on with a sweep that must exist; --space may be left out",
    }
    for flag, help_text in flags.items():
        add(flag, action="store_true", help=help_text)
    add("-v", "--verbose", action="store_true", help="show what Ray prints")
    options = command.parse_args(arguments, Options())
    options.keep_in(options.storage)
    return options


def _address(text: str) -> str:
    """auto or HOST:PORT. Raises argparse.ArgumentTypeError."""
    if text == "auto" or re.fullmatch(r"[^/]+:\d+", text):
        return text
    raise argparse.ArgumentTypeError(
        f"expected auto or HOST:PORT of a cluster that this machine belongs to, found {text}; from other machines "
        "send a job: ray job submit --address http://HEAD:8265 --working-dir . -- python -m msd_sweeps.run ..."
    )


def _count(text: str) -> int:
    """A whole number of at least 1. Raises argparse.ArgumentTypeError."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, found {text}")
    return int(text)
