"""From a plan to a full ledger and its report: what is missing of a sweep is trained, and what is complete is left."""

import math
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

from msd_sweeps.plan.plan import Plan, duration
from msd_sweeps.records.header import CloseRecord, header_of
from msd_sweeps.records.ledger import FILE_NAME, Ledger, Record, read
from msd_sweeps.records.mlflow_store import choose_uri, how_to_open
from msd_sweeps.records.mlflow_sync import Mirror, is_synced
from msd_sweeps.records.provenance import this_launch
from msd_sweeps.records.step_times import record_spread, record_step_seconds
from msd_sweeps.records.trial_record import FAILURES, reopened, trials_of
from msd_sweeps.space.designs import Sweep
from msd_sweeps.sweep.lock import locked
from msd_sweeps.sweep.options import Options
from msd_sweeps.sweep.progress import Progress
from msd_sweeps.sweep.publish import publish
from msd_sweeps.sweep.resume import continued
from msd_sweeps.sweep.run_state import JOURNAL, Interrupted, Run, Signals
from msd_sweeps.sweep.store_sync import StoreSync

if TYPE_CHECKING:
    from msd_sweeps.sweep.prepare import Distillation


def run_sweep(plan: Plan, options: Options, signals: Signals, trainer: "Distillation | None" = None) -> Run:
    """Train what is missing of a sweep; the run, which is closed.

    Raises InputError for a name that another space has, for missing data, teachers or resources; LedgerError;
    Interrupted after a signal; SweepStopped.
    """
    with _opened(plan.sweep, options, signals) as run:
        if not run.is_complete:
            from msd_sweeps.sweep.prepare import Distillation  # imported late: a complete sweep needs no torch

            _train(run, replace(plan, sweep=run.sweep), trainer or Distillation())
            record_spread(options.storage, run.sweep.base, run.sweep.space.report.value, run.trials.values())
    return run


@contextmanager
def _opened(sweep: Sweep, options: Options, signals: Signals) -> Iterator[Run]:
    """Lock a sweep's folder and open its ledger, fetched from the object store if there is one."""
    folder = options.storage / sweep.name
    path = folder / FILE_NAME
    with ExitStack() as at_end:
        at_end.enter_context(locked(folder, sweep.name))
        sync = None
        if options.store is not None:
            sync = StoreSync(options.store / sweep.name, folder)
            sync.begin()
            at_end.callback(_finish_copy, sync, options.command(sweep.name))
        damaged: Counter[str] = Counter()
        history = list(read(path, damaged)) if path.exists() else []
        header = header_of(path, history)
        header.damaged = damaged
        if header.damage:
            print(f"{path}: {header.damage}", file=sys.stderr)
        found = reopened(trials_of(history))
        run = Run(continued(sweep, header.launches), folder, found, Ledger(path), options, signals, sync)
        run.seconds_before, run.id = seconds_of(history), header.id or uuid.uuid4().hex
        if options.retry_failed:
            run.retry_failed()
        uri, tracking = choose_uri(options.storage, sweep.space.tracking.uri), sweep.space.tracking
        if not (run.is_complete and is_synced(folder, len(history), uri)):
            run.remove_left_over_checkpoints()
            say = lambda text: run.say(text)  # noqa: E731  run.say changes
            run.mirror = Mirror(uri, tracking.experiment, sweep.name, folder, len(history), run.id, say)
        del history  # of a long sweep it takes as much memory as all the rest
        at_end.callback(run.close)
        yield run


def seconds_of(history: Iterable[Record]) -> float:
    """How long the launches of a ledger took, each from its first record to its last."""
    seconds, last = 0.0, math.inf
    for record in history:
        if record["event"] != "sweep":
            seconds += max(0.0, record["time"] - last)
        last = record["time"]
    return seconds


def _finish_copy(sync: StoreSync, again: str) -> None:
    """Copy the rest of the ledger, unless the run has done that, and say what the object store lacks."""
    sync.finish(seconds=20.0)
    if sync.trouble is not None:
        hint = (
            f"\n{sync.store} lacks a part of the ledger, which is whole in {sync.folder}. "
            f"To complete the copy, from this machine:\n  {again}"
        )
        print(f"error: {sync.trouble}{'' if sync.taken else hint}", file=sys.stderr)


def _train(run: Run, plan: Plan, trainer: "Distillation") -> None:
    """Record the launch, train what no other sweep has finished, and record how the launch ended."""
    # Imported late: a complete sweep needs no Ray.
    from msd_sweeps.sweep.ray_session import plan_for_cluster, session
    from msd_sweeps.sweep.reuse import FinishedTrials
    from msd_sweeps.sweep.trial_queue import TrialQueue
    from msd_sweeps.sweep.tune import run_trials

    started, options = time.time(), run.options
    progress = Progress(run.sweep, run.trials, plan.trials, lambda: run.waiting)
    run.say, run.show, run.show_printed = progress.say, progress.update, progress.printed
    ray = session(options.address, options.num_cpus, options.verbose, options.command(run.sweep.name))
    # A cluster is joined first, to see whether its nodes have GPUs.
    with progress.live, ray if options.address else nullcontext():
        if run.store_sync is not None:
            run.store_sync.say = run.say
        entries = trainer.prepare(run)
        for entry in (this_launch(run.sweep, trainer.device, run.id), *entries):
            run.record(entry.event, **entry.record())
        reuse = None if options.fresh else FinishedTrials(options.storage, run.sweep.name, options.store)
        outcome, told, ready = "failed", "", time.time()
        try:
            queue = TrialQueue(run, trainer.inputs, reuse)
            queue.reuse_fixed_trials()
            told = reuse.left_out if reuse is not None else ""
            if told:
                run.say(told)
            if (known := run.trials.values()) and not run.is_complete:
                done = sum(one.config["recipe"]["epochs"] if one.is_final else len(one.epochs) for one in known)
                seconds = plan.training_seconds(None if options.address else plan.slots_here(options.num_cpus), done)
                left = "" if math.isnan(seconds) else f", about {duration(seconds)} of training left"
                run.say(f"goes on: {sum(one.is_final for one in known)} of {plan.trials} trials have ended{left}")
            if not run.is_complete:
                plan = replace(plan, measured_pack=trainer.pack)
                with nullcontext() if options.address else ray:
                    slots = plan_for_cluster(plan, run.say) if options.address else plan.slots_here(options.num_cpus)
                    run_trials(run, queue, trainer, slots)
            outcome = "complete"
        except (Interrupted, KeyboardInterrupt):
            outcome = "interrupted"
            raise
        finally:
            close = CloseRecord(outcome=outcome, seconds=round(time.time() - started, 1))
            run.record(close.event, **close.record())
            unfinished = sum(not run.trials[name].is_final for name in run.started)
            copied = f", {run.copied} taken over" if run.copied else ""
            copied += f", {unfinished} interrupted" if unfinished else ""
            if reuse is not None and reuse.left_out != told:  # a search has come upon more of them
                run.say(reuse.left_out)
            trained = len(run.started) - run.copied - unfinished
            run.say(f"{trained} trial{'s' * (trained != 1)} trained{copied} in {duration(close.seconds)}")
            start_seconds = run.first_trained and run.first_trained - ready
            record_step_seconds(options.storage, run.trials.values(), start_seconds)


def finish(run: Run) -> int:
    """Compile the report of a complete sweep and print where everything is; the exit code."""
    from msd_sweeps.report.compiling import compile_report
    from msd_sweeps.report.store import write_index

    options, name = run.options, run.sweep.name
    try:
        report = compile_report(run.ledger.path, options.reports / name)
        write_index(options.reports)
    except OSError as error:
        again = options.command(name)
        print(f"error: {error}\nThe sweep is complete; this compiles its report:\n  {again}", file=sys.stderr)
        return 1
    run.print_event(
        {"event": "report", "name": name, "folder": str(report.paths[0].parent), **report.progress._asdict()}
    )
    print(f"\n{report.table_text}\n")
    failed = sum(trial.state in FAILURES for trial in run.trials.values())
    if run.copied:
        print(f"{run.copied} trials were taken over from other sweeps of {options.kept_in}/")
    elif not run.started and not failed:
        print("everything was there already; nothing was trained")
    if failed:
        again = options.command(name, "--retry-failed")
        print(f"{failed} trials have failed; this goes on with them (from their beginning if code changed):\n  {again}")
    if report.without_value:
        print(f"error: no value in these rows: {', '.join(report.without_value)}", file=sys.stderr)
    code = 0 if options.register is None else 1
    if run.unsent:
        sync = options.command(name, "--sync-mlflow")
        why = f" ({run.mirror.why})" if run.mirror is not None and run.mirror.why else ""
        print(f"MLflow has not taken {run.unsent} records yet{why}; this sends them again:\n  {sync}")
    else:
        code = publish(options, run.ledger.path, list(run.trials.values()), report.paths[0])
    if options.store is not None:
        print(f"kept in   {options.store / name}")
    print(f"ledger    {run.ledger.path}")
    print(f"MLflow    {how_to_open(choose_uri(options.storage, run.sweep.space.tracking.uri))}")
    if run.sweep.space.design == "search":
        print(f"Optuna    optuna-dashboard {run.folder / JOURNAL}    (pip install optuna-dashboard)")
    print(f"report    {report.paths[0]}")
    return code if run.is_stored and not report.without_value else 1
