"""A sweep from Python, such as a notebook: see `msd_sweeps.sweep`, which is this function."""

from pathlib import Path
from typing import Any

from msd_sweeps.catalog.networks import BUILDERS
from msd_sweeps.plan.plan import Plan
from msd_sweeps.records.object_store import place
from msd_sweeps.records.step_times import recorded_start_seconds, recorded_step_seconds
from msd_sweeps.report.loading import Loaded, load
from msd_sweeps.space.data import DATA
from msd_sweeps.space.errors import InputError, nearest
from msd_sweeps.space.methods import METHODS
from msd_sweeps.space.trial import METRICS
from msd_sweeps.sweep.launch import finish, run_sweep
from msd_sweeps.sweep.options import Options
from msd_sweeps.sweep.resume import chosen_sweep
from msd_sweeps.sweep.run_state import Interrupted, noted_signals

_NOT_HERE = ("dry_run", "sync_mlflow", "estimate", "json", "events", "store", "space", "base")


def run_here(space: Any, base: Any, **given: Any) -> Loaded:
    """Run a sweep in this process and print what the command prints. Raises as `msd_sweeps.sweep`, and TypeError."""
    known = [name for name in Options.__annotations__ if name not in _NOT_HERE]
    for name in set(given) - set(known):
        raise TypeError(f"msd_sweeps.sweep has no option {name!r}; {nearest(name, known)}")
    given |= {"space": space, "base": base}
    options = Options(**{name: str(value) if isinstance(value, Path) else value for name, value in given.items()})
    options.reports = Path(options.reports)
    options.keep_in(place(str(options.storage)))
    sweep = chosen_sweep(options)
    _check_reaches_workers()
    plan = Plan(sweep, recorded_step_seconds(options.storage, sweep.base), recorded_start_seconds(options.storage))
    print(plan.text(None if options.address else plan.slots_here(options.num_cpus)), flush=True)
    with noted_signals(ends_process=False) as signals:
        try:
            run = run_sweep(plan, options, signals)
            finish(run)
        except Interrupted as error:
            raise KeyboardInterrupt(f"stopped by {error}; the same call goes on") from None
    return load(run.folder)


def _check_reaches_workers() -> None:
    """Raises InputError for code of one's own that was written into a notebook's cell, which no worker can import."""
    own = {f"the method {name!r}": kind.distiller.partition(":")[0] for name, kind in METHODS.items()}
    own |= {f"the network {name!r}": getattr(builder, "__module__", "") for name, builder in BUILDERS.items()}
    own |= {f"the metric {name!r}": getattr(found, "__module__", "") for name, (found, _) in METRICS.items()}
    own |= {f"the data set {name!r}": getattr(kind, "function", kind).__module__ for name, kind in DATA.items()}
    for what, module in own.items():
        if module == "__main__":
            raise InputError(
                f"{what} is written in this notebook or script, which workers cannot import: put it into a file "
                '(%%writefile my_code.py) and name that in the space, {"imports": ["my_code.py"]}'
            )
