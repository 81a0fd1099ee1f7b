"""Ray Tune over the agenda: who asks for trials, who stops them, and what is recorded of them."""

import math
import types
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from msd_sweeps.plan.slots import SlotPlan
from msd_sweeps.space.designs import Sweep
from msd_sweeps.sweep.book import Book
from msd_sweeps.sweep.capacity import Room
from msd_sweeps.sweep.dispatcher import Dispatcher
from msd_sweeps.sweep.ray_session import driver_node, nodes
from msd_sweeps.sweep.stopping import Interrupted, Signals, SweepStopped
from msd_sweeps.sweep.store_sync import StoreSync
from msd_sweeps.sweep.trainer import OpenSlots, Prepared
from msd_sweeps.sweep.trial_actor import TrialActor
from msd_sweeps.sweep.trial_queue import Agenda, Pause

_SLOT_END_SECONDS = 20.0


def run_trials(
    sweep: Sweep,
    agenda: Agenda,
    plan: SlotPlan,
    folder: Path,
    prepared: Prepared,
    open_slots: Callable[[SlotPlan, Any, Path], OpenSlots],
    signals: Signals,
    say: Callable[[str], None],
    verbose: bool = False,
    keeper: StoreSync | None = None,
) -> None:
    """Run everything on the agenda in slots. Ray is initialised; `folder` is the sweep's.

    prepared, open_slots: as a Trainer gives them. say: tells the user something. keeper: of the object store that has
    the checkpoints, if one has. Raises Interrupted, SweepStopped.
    """
    # What a lost host would take with it stays where the driver is: without that one the sweep is over anyway.
    here = {driver_node(): 0.001}
    dispatcher = ray.remote(Dispatcher).options(num_cpus=0, resources=here, max_concurrency=1000).remote(plan.pack)
    slots = open_slots(plan, dispatcher, folder / "ray")
    # As many actors as seats, and one a slot more: a trial that ends finds the next waiting. Others wait for an actor.
    of_actor = {driver_node(): max(1, math.floor(9900 / (plan.most * (plan.pack + 1)))) / 10_000}
    book = Book(sweep, agenda, folder, prepared, dispatcher, signals, keeper)
    room = Room(plan, sweep.space.resources.wait_seconds, say, nodes)
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(TrialActor, dispatcher=dispatcher), {"CPU": 0, **of_actor}),
        tune_config=tune.TuneConfig(
            search_alg=_Ask(book, room), scheduler=_Stop(book), num_samples=-1, reuse_actors=True
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str((folder / "ray").resolve()),
            callbacks=[_Note(book)],
            stop=_Halt(book, room),
            failure_config=tune.FailureConfig(max_failures=0),
            verbose=2 if verbose else 0,
        ),
    )
    # In a thread of its own Tune leaves the signals alone.
    with signals.held(), ThreadPoolExecutor(1) as thread:
        try:
            thread.submit(tuner.fit).result()
            if book.is_ending:  # Tune tells its callbacks nothing of the trials that it ends with itself
                for tune_name in list(book.running):
                    book.end(tune_name, "interrupted", book.why_ending)
        finally:  # as when the ledger cannot be written: a thread that is still inside Ray takes the process with it
            slots.close(_SLOT_END_SECONDS)
    if book.trouble:
        raise SweepStopped(book.trouble)
    if signals.received:
        raise Interrupted(signals.received[0])


class _Ask(Searcher):
    """Tune asks the agenda for trials, as many as there are seats."""

    def __init__(self, book: Book, room: Room):
        metric = book.sweep.space.metrics[0]
        super().__init__(metric=metric.name, mode=metric.mode)
        self._book, self._room = book, room

    def set_search_properties(self, *args: Any, **kwargs: Any) -> bool:
        return True

    def suggest(self, trial_id: str) -> Any:
        ahead = 0 if self._book.agenda.is_searching else self._room.ahead
        if len(self._book.running) >= self._room.seats + ahead:
            return None
        job = self._book.start(trial_id)
        if job is Pause.WAIT:
            return None
        if job is Pause.DONE:
            return Searcher.FINISHED
        # What it trains is between driver and slots: Tune would keep several copies, for as long as the sweep lasts.
        return {"trial": job["trial"], "launch": job["launch"]}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing: the callback has recorded it."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study is rebuilt from the ledger."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""


class _Stop(TrialScheduler):
    """The space's scheduler, for the trials of a search alone; others run to their end.

    After a resume the rungs are filled again with what the ledger holds.
    """

    def __init__(self, book: Book):
        super().__init__()
        self._book = book
        self._inner = scheduler(book.sweep)
        for trial in book.agenda.trials.values():
            if trial.phase != "search" or not trial.is_final:
                continue
            stand_in: Any = types.SimpleNamespace(trial_id=trial.trial)
            no_controller: Any = None
            self._inner.on_trial_add(no_controller, stand_in)
            for epoch in trial.epochs[:-1]:
                result = {**epoch.metrics, "epoch": epoch.epoch}
                self._inner.on_trial_result(no_controller, stand_in, result)

    def set_search_properties(self, *args: Any, **kwargs: Any) -> bool:
        return True

    def _is_search(self, trial: Any) -> bool:
        running = self._book.running.get(trial.trial_id)
        return running is not None and running.trial.phase == "search"

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        self._inner.on_trial_add(tune_controller, trial)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        self._inner.on_trial_error(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if not self._is_search(trial):
            return TrialScheduler.CONTINUE
        return self._inner.on_trial_result(tune_controller, trial, result)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        if self._is_search(trial):
            self._inner.on_trial_complete(tune_controller, trial, result)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        self._inner.on_trial_remove(tune_controller, trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        return self._inner.choose_trial_to_run(tune_controller)

    def debug_string(self) -> str:
        return self._inner.debug_string()


def scheduler(sweep: Sweep) -> TrialScheduler:
    """Ray's scheduler that a space names."""
    settings, metric = sweep.space.scheduler, sweep.space.metrics[0]
    if settings.type == "none":
        return FIFOScheduler()
    return AsyncHyperBandScheduler(
        time_attr="epoch",
        metric=metric.name,
        mode=metric.mode,
        max_t=sweep.base.recipe.epochs,
        grace_period=min(settings.grace_period, sweep.base.recipe.epochs),
        reduction_factor=settings.reduction_factor,
    )


class _Note(tune.Callback):
    """What Tune sees goes to the agenda, and so to the ledger."""

    def __init__(self, book: Book):
        self._book = book

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self._book.result(trial.trial_id, result["result"])

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        # One that did not end by itself was stopped by the scheduler.
        if not self._book.is_ending:
            self._book.end(trial.trial_id, "stopped", f"by {self._book.sweep.space.scheduler.type}")
        # Tune would keep statistics of each metric, some 50 KB a trial, and its JSON for as long as the sweep lasts.
        kept = trial.run_metadata
        kept.metric_analysis, kept.metric_n_steps, kept.last_result = {}, {}, {"done": True}
        kept.invalidate_cache()

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._book.lost_actor(trial.trial_id)


class _Halt(tune.Stopper):
    """Ends the sweep in order once a signal or a trouble has come."""

    def __init__(self, book: Book, room: Room):
        self._book, self._room = book, room

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        self._book.trouble = self._book.trouble or self._room.trouble
        return self._book.is_ending
