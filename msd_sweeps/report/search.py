"""What a search found: its winners' scores, then and confirmed; which parameters mattered."""

import json
import math
import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pandas as pd

from msd_sweeps.report.frames import Frames
from msd_sweeps.space.designs import Values
from msd_sweeps.space.schema import Parameter, Range

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

FEWEST = 8
"""Finished trials below which importances would be noise."""


def winners_curse(result: pd.DataFrame) -> pd.DataFrame:
    """Search score against confirmed score, a row a winner; from the frame of the result table."""
    names = ["label", "search_score", "n", "mean", "low", "high"]
    frame = result.loc[result["search_score"].notna() & (result["n"] > 0), names].reset_index(drop=True)
    return frame.assign(drop=frame["search_score"] - frame["mean"])


def chosen(frames: Frames, trials: Iterable[str]) -> dict[str, list[Any]]:
    """What the sampler chose for each parameter of the space in some trials: a value, or the label of a set of changes.

    None where the parameter's condition did not hold.
    """
    values = [frames.records[trial].values for trial in trials]
    return {name: [of_trial.get(name) for of_trial in values] for name in frames.sweep.space.parameters}


def importances(frames: Frames) -> pd.DataFrame:
    """A row a parameter: its PED-ANOVA importance (shares that add up to 1), the most important first.

    PED-ANOVA (Watanabe et al., IJCAI 2023) as Optuna computes it. Columns: parameter, importance, quantile (the top
    share of trials it explains), trials. Only finished search trials count: a stopped trial's last score is of an
    earlier epoch. Empty below `FEWEST` trials.
    """
    name, columns = frames.metric.name, ["parameter", "importance", "quantile", "trials"]
    search = frames.trials[(frames.trials["phase"] == "search") & (frames.trials["state"] == "finished")]
    search = search[search[name].notna()] if name in search.columns else search.iloc[:0]
    if len(search) < FEWEST:
        return pd.DataFrame(columns=columns)
    # Optuna's advice is five trials or more above the quantile; 0.1 is its default.
    quantile = round(max(0.1, min(0.5, 5 / len(search))), 3)
    values = [frames.records[trial].values for trial in search["trial"]]
    shares = _ped_anova(frames, values, search[name].tolist(), quantile)
    ranked = sorted(shares.items(), key=lambda item: (-item[1], item[0]))
    rows = [(parameter, share, quantile, len(search)) for parameter, share in ranked]
    return pd.DataFrame(rows, columns=columns)


def _ped_anova(frames: Frames, values: list[Values], scores: list[float], quantile: float) -> dict[str, float]:
    import optuna

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize" if frames.metric.mode == "max" else "minimize")
    optuna.logging.set_verbosity(verbosity)
    distributions = {name: _distribution(parameter) for name, parameter in frames.sweep.space.parameters.items()}
    for of_trial, score in zip(values, scores, strict=True):
        known = {name: _plain(value) for name, value in of_trial.items()}
        of_known = {name: distributions[name] for name in known}
        study.add_trial(optuna.trial.create_trial(params=known, distributions=of_known, value=score))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=quantile)
        raw = optuna.importance.get_param_importances(study, evaluator=evaluator, normalize=False)
    total = math.fsum(raw.values())
    # Rounded: Optuna walks over a set, so the last bits depend on the order of hashes.
    return {name: round(share / total, 6) if total else 0.0 for name, share in raw.items()}


def _distribution(parameter: Parameter) -> "BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if not isinstance(parameter, Range):
        return CategoricalDistribution([_plain(choice) for choice in parameter.choices])
    if parameter.is_integer:
        low, high, step = int(parameter.low), int(parameter.high), int(parameter.step or 1)
        return IntDistribution(low, high, log=parameter.log, step=step)
    return FloatDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)


def _plain(value: Any) -> Any:
    """A value that Optuna takes as a category or number."""
    return json.dumps(value) if isinstance(value, list | dict) else value
