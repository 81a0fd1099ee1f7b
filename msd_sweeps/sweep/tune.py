"""Ray Tune around the trial queue: thin adapters.

At every step of Tune the `Driver` takes what slots have reported from the dispatcher, gives it to the queue, and so to
the ledger, and answers with the trials that begin and those that are stopped. Tune asks `_Searcher` for the trials that
began; a `_TrialActor` passes each result on to Tune, which wakes it.
"""

import math
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayError
from ray.tune.error import TuneError
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from msd_sweeps.plan.slots import SlotPlan
from msd_sweeps.sweep.dispatcher import Dispatcher, fewest_together
from msd_sweeps.sweep.job import Job
from msd_sweeps.sweep.prepare import Distillation
from msd_sweeps.sweep.ray_session import Capacity, nodes
from msd_sweeps.sweep.run_state import Interrupted, Run, SweepStopped
from msd_sweeps.sweep.trial_queue import Pause, TrialQueue
from msd_sweeps.sweep.worker_groups import WorkerGroups

_CLOSE_SECONDS = 20.0


def run_trials(run: Run, queue: TrialQueue, trainer: Distillation, plan: SlotPlan) -> None:
    """Train everything that the queue has, in the slots of the plan, which the trainer opens. Ray is initialised.

    Raises Interrupted after a signal, SweepStopped where the sweep or Ray cannot go on.
    """
    # What a lost host would take with it stays where the driver is: without that host the sweep is over anyway.
    here = f"node:{ray.util.get_node_ip_address()}"
    actor = ray.remote(Dispatcher).options(num_cpus=0, resources={here: 0.001}, max_concurrency=1000)
    dispatcher = actor.remote(plan.pack, run.sweep.space.resources.max_failures)
    slots = trainer.open_slots(plan, dispatcher, run.folder / "ray")
    capacity = Capacity(plan, run.sweep.space.resources.wait_seconds, run.say, nodes)
    driver = Driver(run, queue, dispatcher, slots, capacity)
    # As many actors as seats, and one more for each slot: a trial that ends finds the next waiting.
    share = max(1, math.floor(9900 / (plan.most * (plan.pack + 1)))) / 10_000
    trial_actor = tune.with_parameters(_TrialActor, dispatcher=dispatcher)
    tuner = tune.Tuner(
        tune.with_resources(trial_actor, {"CPU": 0, here: share}),
        tune_config=tune.TuneConfig(
            search_alg=_Searcher(driver),
            scheduler=FIFOScheduler(),  # the queue stops trials
            num_samples=-1,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str((run.folder / "ray").resolve()),
            callbacks=[driver],
            stop=driver,
            failure_config=tune.FailureConfig(max_failures=0),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            verbose=2 if run.options.verbose else 0,
        ),
    )
    run.signals.are_held = True
    with ThreadPoolExecutor(1) as thread:  # where Tune leaves the signals alone
        try:
            thread.submit(tuner.fit).result()
            driver.advance()
            if driver.why_ending:  # Tune's callbacks do not hear of the trials that end with Tune itself
                for trial in list(queue.running):
                    driver.drop(queue.end(trial, "interrupted", driver.why_ending))
        except (RayError, TuneError) as error:
            raise SweepStopped(f"Ray cannot go on: {str(error).strip().splitlines()[0]}") from error
        finally:  # as when the ledger cannot be written: a thread that is still inside Ray takes the process with it
            with suppress(RayError):  # the dispatcher may be gone
                slots.close(5.0 if driver.why_ending else _CLOSE_SECONDS)  # an epoch in the middle is lost anyway
            run.signals.are_held = False
    if driver.trouble:
        raise SweepStopped(driver.trouble)
    if run.signals.received:
        raise Interrupted(run.signals.received[0])


class Driver(tune.Callback, tune.Stopper):
    """Gives what Tune has seen to the queue, and ends Tune in order after a signal or in trouble."""

    def __init__(self, run: Run, queue: TrialQueue, dispatcher: Any, slots: WorkerGroups, capacity: Capacity):
        self.run, self.queue, self.dispatcher, self.slots, self.capacity = run, queue, dispatcher, slots, capacity
        self.begun: list[Job] = []
        """Trials that have begun, and that Tune does not know of."""
        self.is_done = False
        """Whether no trial is left to begin."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[()]]:
        return object, ()  # Tune pickles its parts to disk; this one stays in the driver's process

    @property
    def trouble(self) -> str | None:
        """Why the sweep cannot go on: as the queue says, or because another driver has taken it over."""
        taken = self.run.store_sync.taken if self.run.store_sync is not None else None
        return self.queue.trouble or taken

    @property
    def why_ending(self) -> str:
        """Why nothing new begins: trouble, or the name of a signal; empty as long as the sweep goes on."""
        received = self.run.signals.received
        return "the sweep was stopped" if self.trouble else signal.Signals(received[0]).name if received else ""

    def drop(self, job: Job | None) -> None:
        """Let a trial that was ended from outside leave its slot; None: it had ended."""
        if job is not None:
            self.dispatcher.drop.remote(job.trial, job.submission)

    def advance(self) -> None:
        """Record what slots have reported, begin trials for the seats that are free, and answer the slots."""
        rounds, self.run.waiting = ray.get(self.dispatcher.take.remote())
        stopped = [job for one in rounds for job in self.queue.take(one.results)]
        queue, jobs = self.queue, []
        seats = self.capacity.seats(and_ahead=not queue.is_searching)
        while not self.why_ending and (free := seats - len(queue.running)) > 0:
            job = queue.next(free, fewest_together(self.capacity.pack))
            if isinstance(job, Pause):
                self.is_done = job is Pause.DONE
                break
            jobs.append(job)
        self.begun += jobs
        if rounds or jobs:
            ray.get(self.dispatcher.answer.remote([one.number for one in rounds], jobs, stopped))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        # Tune would keep statistics of each metric, some 50 KB a trial, and its JSON for as long as the sweep lasts.
        kept = trial.run_metadata
        kept.metric_analysis, kept.metric_n_steps, kept.last_result = {}, {}, {"done": True}
        kept.invalidate_cache()

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """The actor has died, not the trial's workers: the trial goes on from its checkpoint."""
        self.advance()
        job = self.queue.running.get(trial.config["trial"])
        if job is not None and job.submission == trial.config["submission"]:
            self.drop(self.queue.retry(job.trial, "its Tune actor died"))

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        """Whether Tune has to end; Tune asks at every step, so all that goes on at each step stands here."""
        self.advance()
        self.capacity.look()
        self.slots.grow(self.capacity.slots)
        self.queue.trouble = self.queue.trouble or self.capacity.trouble
        return bool(self.why_ending)


class _Searcher(Searcher):
    """Tells Tune of the trials that have begun."""

    def __init__(self, driver: Driver):
        metric = driver.run.sweep.space.metrics[0]
        super().__init__(metric=metric.name, mode=metric.mode)
        self._driver = driver

    def suggest(self, trial_id: str) -> Any:
        driver = self._driver
        if not driver.begun:  # Tune asks nothing else while none of its trials lives
            driver.advance()
        if not driver.begun:
            return Searcher.FINISHED if driver.is_done else None
        job = driver.begun.pop(0)
        # The job itself goes to the slots alone: Tune would keep several copies for as long as the sweep lasts.
        return {"trial": job.trial, "submission": job.submission}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing: the driver has recorded it."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: a sweep goes on from its ledger."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""


class _TrialActor(tune.Trainable):
    """A trial as Tune sees it: passes results on. Used for trial after trial, as a process costs seconds."""

    def setup(self, config: dict[str, Any], dispatcher: Any = None) -> None:
        self._dispatcher = dispatcher

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        return True

    def step(self) -> dict[str, Any]:
        submission = self.config["trial"], self.config["submission"]
        result = None
        while result is None:
            result = ray.get(self._dispatcher.next_result.remote(*submission, 30.0))
        # The metrics stand at the top level, where schedulers look for them. Tune keeps statistics of every number that
        # it finds in a dictionary; it does not look into the result itself.
        return {**result.metrics, "epoch": result.epoch, "result": result, "done": result.state != "running"}

    def get_auto_filled_metrics(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Nothing: Tune would keep host, process, dates and configuration of each trial as long as the sweep lasts."""
        return {}
