"""What a search found: its winners' scores, then and confirmed; which parameters mattered."""

import json
import math
from typing import Any

import pandas as pd

from msd_sweeps.records.ledger import Record
from msd_sweeps.report.cells import NOT_COMPARED, Cell
from msd_sweeps.report.frames import Frames, flatten
from msd_sweeps.space.conditions import parse_condition


def metric_of(frames: Frames) -> tuple[str, bool]:
    """The (first) metric that the search maximises or minimises: its name and whether more is better."""
    metric = frames.header.metrics[0]
    return str(metric.get("name") or "val_top1"), metric.get("mode") != "min"


def search_scores(frames: Frames, cells: list[Cell]) -> dict[str, float]:
    """The search score of each confirmed cell that the search had tried, by label."""
    name, more_is_better = metric_of(frames)
    if name not in frames.trials.columns:
        return {}
    scores: dict[str, float] = {}
    finished = frames.trials[(frames.trials["phase"] == "search") & (frames.trials["state"] == "finished")]
    for trial, score in zip(finished["trial"], finished[name], strict=True):
        key = configuration_key(frames.configs[trial])
        if math.isfinite(score) and (key not in scores or (score > scores[key]) == more_is_better):
            scores[key] = float(score)
    return {
        cell.label: scores[configuration_key(cell.config)]
        for cell in cells
        if cell.config and configuration_key(cell.config) in scores
    }


def configuration_key(config: Record) -> str:
    """What two trials have in common that differ only in seed and held-out part. config: flat."""
    return json.dumps({path: value for path, value in config.items() if path not in NOT_COMPARED}, sort_keys=True)


def winners_curse(result: pd.DataFrame) -> pd.DataFrame:
    """Search score against confirmed score, a row a winner; from the frame of the result table."""
    names = ["label", "search_score", "n", "mean", "low", "high"]
    frame = result.loc[result["search_score"].notna() & (result["n"] > 0), names].reset_index(drop=True)
    return frame.assign(drop=frame["search_score"] - frame["mean"])


def parameter_values(frames: Frames, trials: list[str]) -> dict[str, list[Any]]:
    """The value (or label) of each parameter of the space in some trials; None where no label fits, or where the
    parameter's condition does not hold."""
    values: dict[str, list[Any]] = {}
    for name, parameter in (frames.header.space.get("parameters") or {}).items():
        choices = parameter.get("choices")
        if isinstance(choices, dict):
            values[name] = [_label(frames.configs[trial], choices) for trial in trials]
        else:
            values[name] = [frames.configs[trial].get(name) for trial in trials]
    for name, parameter in (frames.header.space.get("parameters") or {}).items():
        if parameter.get("when"):
            condition = parse_condition(parameter["when"])
            fixed = [frames.configs[trial].get(condition.subject) for trial in trials]
            found = values.get(condition.subject, fixed)
            values[name] = [
                value if condition.holds(other) else None for value, other in zip(values[name], found, strict=True)
            ]
    return values


def _label(config: Record, choices: dict[str, dict[str, Any]]) -> str | None:
    for label, changes in choices.items():
        flat = flatten(changes)
        if all(path in config and config[path] == value for path, value in flat.items()):
            return label
    return None
