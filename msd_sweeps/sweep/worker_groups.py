"""Slots: worker groups of Ray Train, each held by a thread of the driver."""

import threading
import time
from pathlib import Path
from typing import Any

import ray
import ray.train
from ray.train import UserCallback
from ray.train.torch import TorchConfig, TorchTrainer

from msd_sweeps.plan.slots import SlotPlan
from msd_sweeps.sweep.worker import serve

_CLOSE_SECONDS = 0.5
_NODE_DIED = "because its node has died"
"""How Ray says that a process ended with its node."""


class _Vacate(UserCallback):
    """Reports to the dispatcher at once that a slot's workers have died: their host may never come back."""

    def __init__(self, dispatcher: Any, slot: int):
        self._dispatcher, self._slot = dispatcher, slot

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        controller = ray.get_runtime_context().current_actor
        is_lost = any(_NODE_DIED in str(error) for error in worker_exceptions.values())
        ray.get(self._dispatcher.vacate.remote(self._slot, controller, not is_lost))


class WorkerGroups:
    """Each slot is a run of Ray Train in a thread of the driver. One whose host is lost waits for room on any host."""

    def __init__(self, plan: SlotPlan, dispatcher: Any, folder: Path):
        """folder: for what Ray leaves behind."""
        self._plan, self._dispatcher, self._folder = plan, dispatcher, folder
        self._threads: list[threading.Thread] = []
        self.grow(plan.slots)

    def grow(self, slots: int) -> None:
        """Start more slots until there are this many."""
        for slot in range(len(self._threads), slots):
            self._threads.append(threading.Thread(target=self._hold, args=(slot,), daemon=True))
            self._threads[-1].start()

    def _hold(self, slot: int) -> None:
        """Run a slot to its end, and tell the dispatcher about it."""
        while True:
            failure = None
            try:
                self._trainer(slot).fit()
            except Exception as error:
                failure = f"slot {slot} ended: {type(error).__name__}: {error}"
            try:
                if failure is not None and ray.get(self._dispatcher.has_progressed.remote(slot)):
                    continue
                ray.get(self._dispatcher.leave.remote(slot, failure))
            except Exception:
                pass  # the dispatcher is gone, and nobody waits for this slot
            return

    def _trainer(self, slot: int) -> TorchTrainer:
        plan = self._plan
        callbacks: list[Any] = [_Vacate(self._dispatcher, slot)]
        return TorchTrainer(
            serve,
            train_loop_config={"dispatcher": self._dispatcher, "slot": slot, "plan": plan},
            # NCCL refuses two workers on one GPU, which fractions allow.
            torch_config=TorchConfig(backend="nccl" if plan.per_worker.get("GPU", 0) >= 1 else "gloo"),
            scaling_config=ray.train.ScalingConfig(
                num_workers=plan.num_workers,
                use_gpu=plan.on_gpu,
                resources_per_worker=plan.per_worker,
                accelerator_type=plan.accelerator_type,
                placement_strategy=plan.placement_strategy,
            ),
            run_config=ray.train.RunConfig(
                name=f"slot-{slot}",
                storage_path=str(self._folder.resolve()),
                failure_config=ray.train.FailureConfig(max_failures=100),  # without any progress of the slot
                callbacks=callbacks,
            ),
        )

    def close(self, timeout: float) -> None:
        """End the slots, and wait up to `timeout` seconds for that.

        A slot that waits for a host cannot end by itself, so its controller is killed: a thread that is still inside
        Ray when Ray is shut down takes the process with it.
        """
        end = time.monotonic() + timeout
        while (here := [thread for thread in self._threads if thread.is_alive()]) and time.monotonic() < end:
            for controller in ray.get(self._dispatcher.close.remote()):
                ray.kill(controller)
            here[0].join(_CLOSE_SECONDS)
