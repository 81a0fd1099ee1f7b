"""Who runs the trials: Ray Tune, Ray Train and Optuna live here. In Python, `msd_sweeps.sweep(space)` runs a sweep."""

import importlib
import os
import sys
from types import ModuleType
from typing import Any

ENVIRONMENT = {
    "GOMP_SPINCOUNT": "10000",  # as in distill/, for the workers of a cluster
    "RAY_AUTH_MODE": "token",  # said aloud, so that local sessions and clusters agree
    "RAY_ENABLE_AUTO_CONNECT": "0",  # a late thread of an ended sweep would start another Ray
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # under `uv run` Ray would start its workers through uv, which hangs
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_COLOR_PREFIX": "0",  # the logs of batch jobs are no terminals
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_worker_maximum_startup_concurrency": "16",  # trials are light actors: they may all start at once
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the ledger is the record
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a failed trial has no metric
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # Tune's own state is not what a sweep resumes from
    "TUNE_WARN_SLOW_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "3600",
    "TUNE_MAX_PENDING_TRIALS_PG": "1000",
}

# Ray reads some of these when it is imported, so they are set before any module of this package can do so.
for _name, _value in ENVIRONMENT.items():
    os.environ.setdefault(_name, _value)


class _Callable(ModuleType):
    """This package, which is called to run a sweep: `msd_sweeps.sweep` is its name, whatever was imported before."""

    def __call__(
        self, space: Any, base: Any = None, *, name: str | None = None, storage: Any = "runs", **options: Any
    ) -> Any:
        """Run a sweep, or go on with it, as `python -m msd_sweeps.run` does; what `msd_sweeps.load` gives of it.

        space, base: a path, a name, or a dictionary with the same keys; the space may hold its base, too.
        name: the sweep's folder in `storage`; without one, that of the file, or one for the dictionary's content.
        options: those of the command, such as settings=["recipe.epochs=2"], num_samples, address, num_cpus, reports,
        fresh, retry_failed.
        Raises InputError for bad input before anything starts, SweepStopped, KeyboardInterrupt; the same call goes on.
        """
        here = importlib.import_module("msd_sweeps.sweep.here")  # late, so that the variables above are set first
        return here.run_here(space, base, name=name, storage=storage, **options)


sys.modules[__name__].__class__ = _Callable
