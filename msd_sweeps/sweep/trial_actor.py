"""The trial as Tune sees it: a light actor that passes on what the dispatcher has of its results."""

from typing import Any

import ray
from ray import tune

_POLL_SECONDS = 30.0


class TrialActor(tune.Trainable):
    """Trains nothing itself. Reused from trial to trial, because a process costs seconds and a job milliseconds."""

    def setup(self, config: dict[str, Any], dispatcher: Any = None) -> None:
        self._dispatcher = dispatcher

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        return True

    def step(self) -> dict[str, Any]:
        launch = self.config["trial"], self.config["launch"]
        result = None
        while result is None:
            result = ray.get(self._dispatcher.next_result.remote(*launch, _POLL_SECONDS))
        # The metrics stand at the top level, where schedulers look for them. Tune keeps statistics of every number that
        # it finds in a dictionary; it does not look into the result itself.
        return {**result.metrics, "epoch": result.epoch, "result": result, "done": result.state != "running"}

    def get_auto_filled_metrics(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Nothing: Tune would keep host, process, dates and configuration of each trial as long as the sweep lasts."""
        return {}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: a trial's state is its student's checkpoint."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing to load."""
