"""Which parameters of a search mattered: PED-ANOVA (Watanabe et al., IJCAI 2023), as Optuna computes it."""

import json
import math
import warnings
from typing import TYPE_CHECKING, Any

import pandas as pd

from msd_sweeps.report.frames import Frames
from msd_sweeps.report.searching import metric_of, parameter_values

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

FEWEST = 8
"""Finished trials below which importances would be noise."""


def importances(frames: Frames) -> pd.DataFrame:
    """A row a parameter: its PED-ANOVA importance (shares that add up to 1), the most important first.

    Columns: parameter, importance, quantile (the top share of trials it explains), trials. Only finished search
    trials count: a stopped trial's last score is of an earlier epoch. Empty below `FEWEST` trials.
    """
    name, more_is_better = metric_of(frames)
    columns = ["parameter", "importance", "quantile", "trials"]
    search = frames.trials[(frames.trials["phase"] == "search") & (frames.trials["state"] == "finished")]
    if name not in search.columns:
        return pd.DataFrame(columns=columns)
    search = search[search[name].notna()]
    values = parameter_values(frames, search["trial"].tolist())
    if len(search) < FEWEST or not values:
        return pd.DataFrame(columns=columns)
    # Optuna's advice is five trials or more above the quantile; 0.1 is its default.
    quantile = round(max(0.1, min(0.5, 5 / len(search))), 3)
    shares = _ped_anova(frames, values, search[name].tolist(), more_is_better, quantile)
    ranked = sorted(shares.items(), key=lambda item: (-item[1], item[0]))
    rows = [(parameter, share, quantile, len(search)) for parameter, share in ranked]
    return pd.DataFrame(rows, columns=columns)


def _ped_anova(
    frames: Frames, values: dict[str, list[Any]], scores: list[float], more_is_better: bool, quantile: float
) -> dict[str, float]:
    import optuna

    told = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize" if more_is_better else "minimize")
    optuna.logging.set_verbosity(told)
    distributions = {name: _distribution(frames.header.space["parameters"][name]) for name in values}
    trials = []
    for index, score in enumerate(scores):
        known = {name: _plain(column[index]) for name, column in values.items() if column[index] is not None}
        trials.append(
            optuna.trial.create_trial(
                params=known, distributions={name: distributions[name] for name in known}, value=score
            )
        )
    study.add_trials(trials)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=quantile)
        raw = optuna.importance.get_param_importances(study, evaluator=evaluator, normalize=False)
    total = math.fsum(raw.values())
    # Rounded: Optuna walks over a set, so the last bits depend on the order of hashes.
    return {name: round(share / total, 6) if total else 0.0 for name, share in raw.items()}


def _distribution(parameter: dict[str, Any]) -> "BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if "choices" in parameter:
        return CategoricalDistribution([_plain(choice) for choice in parameter["choices"]])
    low, high, step = parameter["low"], parameter["high"], parameter.get("step")
    if float(low).is_integer() and float(high).is_integer() and (step is None or float(step).is_integer()):
        return IntDistribution(int(low), int(high), log=bool(parameter.get("log")), step=int(step or 1))
    return FloatDistribution(low, high, log=bool(parameter.get("log")), step=step)


def _plain(value: Any) -> Any:
    """A value that Optuna takes as a category or number."""
    return json.dumps(value) if isinstance(value, list | dict) else value
