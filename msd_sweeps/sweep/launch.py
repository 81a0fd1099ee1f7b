"""From a plan to a full ledger: what is missing of a sweep is trained, and a sweep that is complete is left as it is.

Data and teachers are made ready. The trial queue copies what other sweeps have finished. If something is left to train,
Ray is started, and Ray Tune takes the trials from the queue.
"""

import time
from dataclasses import replace

from msd_sweeps.plan.plan import Plan, duration
from msd_sweeps.records.header import CloseRecord
from msd_sweeps.records.provenance import this_launch
from msd_sweeps.records.step_times import record_step_seconds
from msd_sweeps.sweep.options import Options
from msd_sweeps.sweep.progress import Progress
from msd_sweeps.sweep.run_state import Run, Trainer, opened
from msd_sweeps.sweep.stopping import Interrupted, Signals


def run_sweep(plan: Plan, options: Options, signals: Signals, trainer: Trainer | None = None) -> Run:
    """Train what is missing of a sweep; the run, which is closed.

    trainer: what trains; by default prepare.Distillation. Raises InputError for a name that another space has, for
    missing data or teachers and for resources that are not there; Interrupted after a signal; SweepStopped.
    """
    with opened(plan.sweep, options, signals) as run:
        if not run.is_complete:
            if trainer is None:
                from msd_sweeps.sweep.prepare import Distillation  # imported late: a complete sweep needs no torch

                trainer = Distillation()
            _train(run, replace(plan, sweep=run.sweep), trainer)
            record_step_seconds(options.storage, [trial for trial in run.trials.values() if not trial.source])
    return run


def _train(run: Run, plan: Plan, trainer: Trainer) -> None:
    """Record the launch, train, and record how the launch ended."""
    started = time.time()
    run.progress = Progress(run.sweep, run.trials, plan.trials)
    with run.progress.live:
        if run.store_sync is not None:
            run.store_sync.say = run.say
        entries = trainer.prepare(run)
        for entry in (this_launch(run.sweep, trainer.device), *entries):
            run.record(entry.event, **entry.record())
        outcome = "failed"
        try:
            _work_off(run, replace(plan, measured_pack=trainer.pack), trainer)
            outcome = "complete"
        except (Interrupted, KeyboardInterrupt):
            outcome = "interrupted"
            raise
        finally:
            close = CloseRecord(outcome=outcome, seconds=round(time.time() - started, 1))
            run.record(close.event, **close.record())
            copied = f", {run.copied} taken over" if run.copied else ""
            run.say(f"{run.begun} trials started{copied} in {duration(time.time() - started)}")


def _work_off(run: Run, plan: Plan, trainer: Trainer) -> None:
    """Train all that the trial queue has. Ray is started only if something is left to train."""
    from msd_sweeps.sweep.reuse import FinishedTrials
    from msd_sweeps.sweep.trial_queue import TrialQueue

    options, name = run.options, run.sweep.name
    reuse = None if options.fresh else FinishedTrials(options.storage, name, options.store)
    queue = TrialQueue(run, trainer, reuse)
    queue.reuse_fixed_trials()
    if run.is_complete:
        return
    from msd_sweeps.sweep.ray_session import plan_for_cluster, session
    from msd_sweeps.sweep.tune import run_trials

    with session(options.address, options.num_cpus, options.verbose):
        slots = plan_for_cluster(plan, run.say) if options.address else plan.slots_here(options.num_cpus)
        run_trials(run, queue, trainer, slots)
