"""Every number of a report: the rows of its table, the effects of factors, and what a search found."""

import functools
import json
import math
import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from msd_sweeps.records.ranking import best_first
from msd_sweeps.report import comparisons
from msd_sweeps.report.cells import Cell, Value, cells_of, parameter_title, short_path, teacher_cells, value_text
from msd_sweeps.report.formats import rounded_frame
from msd_sweeps.report.frames import Frames
from msd_sweeps.report.stats import Family, mean_interval
from msd_sweeps.space.schema import Parameter, Range

FEWEST = 8
"""Finished trials below which importances would be noise."""
PERMUTATIONS = 99
NO_RESULT = "Scores on the held-out part of the training set, which chose the winners; they are no results."


@dataclass(frozen=True)
class Results:
    """Everything that a report is made from."""

    frames: Frames
    value: Value
    cells: list[Cell]
    baseline: Cell | None
    rows: list[Cell]
    """The rows of the result table: the teachers before the cells."""
    table: pd.DataFrame
    """The numbers of each row: its mean, its difference to the baseline, validation, cost and device."""
    factors: list[comparisons.Factor]
    effects: pd.DataFrame
    effects_are_rows: bool
    """Whether every effect is a difference that the result table has too."""
    family: Family
    """What the intervals of the result table and of the effects hold over, together."""
    confirmation: pd.DataFrame
    """Search score against confirmed score, a row a winner."""
    best: list[str]
    """Labels of the rows among which the best one is; empty without a baseline."""

    @functools.cached_property
    def importances(self) -> pd.DataFrame:
        """See `importances`. Computed when it is asked for, as it takes seconds."""
        return importances(self.frames)

    @property
    def design(self) -> str:
        """The design of the space."""
        return self.frames.sweep.space.design


def results_of(frames: Frames) -> Results:
    """Every number of a report."""
    value = Value.of(frames.sweep.space)
    cells = cells_of(frames, value)
    name = frames.sweep.space.report.baseline
    baseline = comparisons.cell_named(cells, name) if name else None
    rows = [*teacher_cells(frames, value), *cells]
    factors = _against(baseline, comparisons.factors_of(frames.sweep, cells))
    compared = [cell if baseline and cell in cells and cell is not baseline else Cell("") for cell in rows]
    of_rows = [(cell.values, baseline.values if baseline and cell.label else {}) for cell in compared]
    effects, of_effects = comparisons.effects(factors)
    family, race = _family(frames, [*of_rows, *of_effects]), frames.sweep.space.race
    repeats = len(comparisons.distinct(of_rows)) == family.size
    if frames.sweep.space.design == "screening":  # its effects stand beside the rows: see report.screening
        family = family._replace(size=family.size + frames.sweep.layout.effects, still_open=())
    told = (family, value.sign, race.until.settled if race else None)
    differences = comparisons.difference_columns(of_rows, *told)
    frame = pd.DataFrame([_row(cell, value) for cell in rows], columns=list(_row(Cell(""), value)))
    against = [baseline.label if baseline and n else "" for n in differences["pairs"]]
    place = list(frame.columns).index("note")
    for name, column in [*reversed(differences.items()), ("baseline", against)]:
        frame.insert(place, name, column)
    table = rounded_frame(frame).astype({"planned": "Int64"}).assign(device=frames.device)
    effects = rounded_frame(effects.assign(**comparisons.difference_columns(of_effects, *told)))
    measured = {cell.label: cell.values for cell in cells if baseline and cell.values}
    told_apart = table.loc[table["label"].isin(measured.keys() - {baseline and baseline.label}), ["label", "decision"]]
    best = comparisons.may_be_best(measured, told_apart, family, value.sign)
    names = ["label", "search_score", "n", "mean", "low", "high"]
    curse = table.loc[table["search_score"].notna() & (table["n"] > 0), names].reset_index(drop=True)
    curse = curse.assign(drop=curse["search_score"] - curse["mean"])
    return Results(frames, value, cells, baseline, rows, table, factors, effects, repeats, family, curse, best)


def _against(baseline: Cell | None, factors: list[comparisons.Factor]) -> list[comparisons.Factor]:
    """The factors of a grid against the levels of the baseline, where it is one of the cells: one reference for all."""
    if len(factors) > 1 and baseline is not None and len(baseline.levels) == 1:
        return [replace(factor, base=factor.at(baseline.levels[0])) for factor in factors]
    if len(factors) == 1 and baseline is not None and len(baseline.levels) and len(factors[0].blocks) == 1:
        levels = [label for label, values in factors[0].blocks[0].items() if values is baseline.values]
        return [replace(factors[0], base=level) for level in levels] or factors
    return factors


def _family(frames: Frames, pairs: list[comparisons.Samples]) -> Family:
    """These comparisons, at the looks that the first launch planned and at those that later launches added."""
    planned, *later = [launch.space.looks for launch in frames.header.launches]
    further = {n for looks in later for n in looks if n > planned[-1]}
    return comparisons.family_of(pairs, planned, tuple(sorted(further)))


def _row(cell: Cell, value: Value) -> dict[str, object]:
    """A cell's mean, and what else is known of it beside its difference to the baseline."""
    interval, validation = cell.interval, mean_interval(list(cell.validation.values()))
    return {
        "label": cell.label,
        "cell": cell.cell,
        "configuration": cell.summary,
        "metric": value.name,
        "n": interval.n,
        "planned": cell.planned,
        "mean": interval.mean,
        "low": interval.low,
        "high": interval.high,
        "note": "; ".join(cell.faults),
        "validation": validation.mean,
        "validation_low": validation.low,
        "validation_high": validation.high,
        "search_score": cell.search_score,
        "seconds": float(np.mean(cell.seconds)) if cell.seconds else math.nan,
    }


def search_trials(frames: Frames) -> pd.DataFrame:
    """A row a search trial: number, trial, state, epochs, score (NaN where none), best so far."""
    trials, metric = frames.trials, frames.metric
    names = ["number", "trial", "state", "epochs", metric.name]
    search = trials[trials["phase"] == "search"].sort_values(["number", "trial"], kind="stable")
    frame = search.reindex(columns=names).rename(columns={metric.name: "score"}).astype({"score": float})
    finished = frame["score"].where(frame["state"] == "finished")
    best = finished.cummax() if metric.mode == "max" else finished.cummin()
    return frame.assign(best=best.ffill()).reset_index(drop=True)


def parameter_slices(frames: Frames) -> dict[str, pd.DataFrame]:
    """By parameter a row for each search trial that has a score and this parameter.

    Columns: factor (the parameter's title), number, state, score, level (as text), position (NaN for choices), log.
    """
    trials = search_trials(frames)
    trials = trials.loc[trials["score"].notna(), ["number", "state", "score", "trial"]]
    slices = {}
    for name, parameter in frames.sweep.space.parameters.items():
        values = [frames.records[trial].values.get(name) for trial in trials["trial"]]
        frame = trials.assign(level=pd.Series(values, trials.index, object), position=np.nan, log=False)
        frame = frame[frame["level"].notna()].drop(columns="trial")
        factor = short_path(name)
        if isinstance(parameter, Range):
            factor = parameter_title(factor)
            frame = frame.assign(position=frame["level"].astype(float), log=parameter.log)
        frame["level"] = [value_text(level) for level in frame["level"]]
        frame.insert(0, "factor", factor)
        slices[name] = frame
    return slices


def front_of(frames: Frames) -> pd.DataFrame:
    """A row a finished search trial: number, trial, its value of each metric, and whether it is on the front.

    The front comes first, the best by the first metric on top, then the others by number. Empty where the sweep has
    a single metric.
    """
    metrics, trials = frames.sweep.space.metrics, frames.trials
    names = [str(metric.name) for metric in metrics]
    search = trials[(trials["phase"] == "search") & (trials["state"] == "finished") & (len(names) > 1)]
    search = search.sort_values(["number", "trial"], kind="stable").reindex(columns=["number", "trial", *names])
    search = search[np.isfinite(search[names].to_numpy(dtype=float)).all(axis=1)].reset_index(drop=True)
    front = best_first(search[names].to_numpy(dtype=float).tolist(), metrics)
    search["front"] = search.index.isin(front)
    rest = search.index[~search["front"]]
    return rounded_frame(search.loc[[*front, *rest]].reset_index(drop=True))


def importances(frames: Frames) -> pd.DataFrame:
    """A row a parameter: its PED-ANOVA importance (shares that add up to 1), the most important first.

    PED-ANOVA (Watanabe et al., IJCAI 2023) as Optuna computes it. Columns: parameter, importance, p, quantile (the top
    share of trials it explains), trials. p: of `PERMUTATIONS` shuffles of the scores among the trials, the share in
    which any parameter is as important, so it holds for all of them together (Westfall and Young 1993). Only finished
    search trials count: a stopped trial's last score is of an earlier epoch. With `search.each`, the shares and p are
    of each search by itself. Empty below `FEWEST` trials.
    """
    every, rows = search_trials(frames), []
    every = every[(every["state"] == "finished") & every["score"].notna()]
    of_search = [frames.sweep.search_of(frames.records[trial].values) for trial in every["trial"]]
    for _, search in every.groupby(of_search, sort=False):
        if len(search) < FEWEST:
            continue
        # Optuna's advice is five trials or more above the quantile; 0.1 is its default.
        quantile = round(max(0.1, min(0.5, 5 / len(search))), 3)
        shares, scores = _ped_anova(frames, search, quantile), search["score"].to_numpy()
        draw, largest = np.random.default_rng(0), [1.0]  # the scores as they are count as one of the shuffles
        for _ in range(PERMUTATIONS):
            shuffled = _ped_anova(frames, search.assign(score=draw.permutation(scores)), quantile)
            largest.append(max(shuffled.values()))
        ranked = sorted(shares.items(), key=lambda item: (-item[1], item[0]))
        rows += [
            (name, share, float(np.mean(np.array(largest) >= share)), quantile, len(search)) for name, share in ranked
        ]
    return pd.DataFrame(rows, columns=["parameter", "importance", "p", "quantile", "trials"])


def _ped_anova(frames: Frames, search: pd.DataFrame, quantile: float) -> dict[str, float]:
    import optuna

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize" if frames.metric.mode == "max" else "minimize")
    optuna.logging.set_verbosity(verbosity)
    distributions = {name: _distribution(parameter) for name, parameter in frames.sweep.space.parameters.items()}
    for trial, score in zip(search["trial"], search["score"], strict=True):
        values, each = frames.records[trial].values, frames.sweep.space.search.each
        known = {name: _plain(value) for name, value in values.items() if name != each}
        of_known = {name: distributions[name] for name in known}
        study.add_trial(optuna.trial.create_trial(params=known, distributions=of_known, value=score))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=quantile)
        raw = optuna.importance.get_param_importances(study, evaluator=evaluator, normalize=False)
    total = math.fsum(raw.values())
    # Rounded: Optuna walks over a set, so the last bits depend on the order of hashes.
    return {name: round(share / total, 6) if total else 0.0 for name, share in raw.items()}


def _distribution(parameter: Parameter) -> Any:
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
