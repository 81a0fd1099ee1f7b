"""Who runs the trials: Ray Tune, Ray Train and Optuna live here."""

import os

ENVIRONMENT = {
    "GOMP_SPINCOUNT": "10000",  # as in distill/, for the workers of a cluster
    "RAY_AUTH_MODE": "token",  # said aloud, so that local sessions and clusters agree
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
