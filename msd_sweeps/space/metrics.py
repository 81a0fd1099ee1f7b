"""The metrics and costs by which trials are compared."""

from collections.abc import Sequence
from typing import Any, Literal, get_args

from pydantic import Field

from msd_sweeps.catalog.datasets import DATASETS
from msd_sweeps.catalog.networks import NETWORKS
from msd_sweeps.space.settings import Settings

MetricName = Literal["train_loss", "train_top1", "val_loss", "val_top1", "test_loss", "test_top1"]
"""Measured after an epoch: losses in nats, top-1 in percent."""
Cost = Literal["student_parameters", "student_multiply_adds"]
"""The cost of a student, known without training it."""
COSTS: tuple[str, ...] = get_args(Cost)
_MODES: dict[Any, Literal["max"]] = dict.fromkeys(("train_top1", "val_top1", "test_top1"), "max")


class Metric(Settings):
    """A metric, and which direction is better."""

    name: MetricName | Cost = "val_top1"
    mode: Literal["max", "min"] = Field(default_factory=lambda values: _MODES.get(values.get("name"), "min"))
    """Whether more is better; when absent, less is better for losses and costs."""


def check_metrics(metrics: Sequence[Metric], is_list: bool, is_search: bool) -> None:
    """Raises ValueError, which begins with the key, for metrics that cannot rank trials."""
    for index, metric in enumerate(metrics):
        key = f"metric.{index}.name: " if is_list else "metric.name: "
        if index == 0 and metric.name in COSTS:
            raise ValueError(
                f"{key}{metric.name} is known without training; give a measured metric first, such as val_top1, and "
                "this one after it in a list"
            )
        if metric.name in [other.name for other in metrics[:index]]:
            raise ValueError(f"{key}{metric.name} is repeated; every metric must differ")
        if is_search and metric.name.startswith("test_"):
            raise ValueError(
                f"{key}a search never reads the test set, so it cannot choose by {metric.name}; "
                f"use val_{metric.name.removeprefix('test_')}"
            )
    if is_list and not is_search:
        raise ValueError("metric: only a search optimises several metrics; give one")


def student_cost(name: str, config: dict[str, Any]) -> float:
    """The cost of a trial's student by its name: parameters, or millions of multiply-adds per image.

    config: the trial, as the ledger has it. Classes are counted as in `architectures`.
    """
    model, data = NETWORKS[config["student"]["model"]], config["data"]
    if name == "student_parameters":
        return float(model.parameters)
    side = (data.get("content") or data).get("image_size") or DATASETS[data["name"]].image_size
    return model.multiply_adds_at(side)
