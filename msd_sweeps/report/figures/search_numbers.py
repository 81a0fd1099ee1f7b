"""The numbers of a search's figures. Its scores choose winners and are no results; every caption says so."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from msd_sweeps.report.cells import metric_title, parameter_title, short_path, value_text
from msd_sweeps.report.results import FigureNumbers, Results
from msd_sweeps.report.searching import metric_of, parameter_values
from msd_sweeps.report.writing import rounded_frame

NO_RESULT = "Scores on the held-out part of the training set, which chose the winners; they are no results."
MOST_CURVES = 100
"""Search trials up to which every learning curve is drawn; beyond, quantiles."""


def search_trials(results: Results) -> pd.DataFrame:
    """A row a search trial: number, trial, state, epochs, score (NaN where none), best so far."""
    frames = results.frames
    name, more_is_better = metric_of(frames)
    search = frames.trials[frames.trials["phase"] == "search"].sort_values(["number", "trial"], kind="stable")
    score = search[name] if name in search.columns else pd.Series(np.nan, index=search.index)
    frame = search[["number", "trial", "state", "epochs"]].assign(score=score.astype(float))
    finished = frame["score"].where(frame["state"] == "finished")
    return frame.assign(best=finished.cummax() if more_is_better else finished.cummin()).reset_index(drop=True)


def history(results: Results) -> Iterator[FigureNumbers]:
    """The optimisation history with the trials that were stopped."""
    frame = search_trials(results)
    if frame["score"].notna().any():
        frame = frame.assign(best=frame["best"].ffill())
        caption = f"{NO_RESULT} A stopped trial stands at its last epoch's score, so the earlier the lower."
        axes = {"x": "search trial", "y": metric_title(metric_of(results.frames)[0])}
        yield FigureNumbers("history", "history", "How the search went", caption, rounded_frame(frame), axes)


def importances(results: Results) -> Iterator[FigureNumbers]:
    """PED-ANOVA importances."""
    frame = results.importances
    if not frame.empty:
        share, trials = frame["quantile"].iloc[0], frame["trials"].iloc[0]
        caption = (
            f"PED-ANOVA: how much each parameter tells the best {100 * share:.0f} % of the {trials} finished search "
            "trials from the rest, as shares of the sum. One search gives one value each and no interval."
        )
        if len(results.frames.header.metrics) > 1:
            caption += f" The best are those by {metric_title(metric_of(results.frames)[0])} alone."
        axes = {"x": "share of all importance (0 to 1)"}
        frame = frame.assign(parameter=[short_path(path) for path in frame["parameter"]])
        yield FigureNumbers("importances", "bars", "Which parameters mattered", caption, frame, axes)


def confirmation(results: Results) -> Iterator[FigureNumbers]:
    """What the winners' search scores were worth on fresh seeds."""
    frame = results.confirmation
    if not frame.empty:
        caption = (
            "Hollow: the score that the search chose by (one seed, held-out images). Filled: fresh seeds, all "
            "training images, test set, with 95 % t interval. The gap is selection, other images and more training "
            "data together."
        )
        axes = {"x": results.value.title.replace("test ", "")}
        yield FigureNumbers("confirmation", "dumbbell", "Search score and confirmed score", caption, frame, axes)


def slices(results: Results) -> Iterator[FigureNumbers]:
    """One panel a parameter: the score of every search trial against its value."""
    frame = search_trials(results)
    frame = frame[frame["score"].notna()]
    values = parameter_values(results.frames, frame["trial"].tolist())
    parameters = results.frames.header.space.get("parameters") or {}
    parts = []
    for name, column in values.items():
        texts = [None if value is None else value_text(value) for value in column]
        numeric = "choices" not in parameters[name]
        position = [float(value) if numeric and value is not None else np.nan for value in column]
        part = frame[["number", "state", "score"]].assign(level=texts, position=position)
        part.insert(0, "factor", _axis(name, parameters))
        parts.append(part.assign(log=bool(parameters[name].get("log"))))
    if results.design == "search" and len(frame) and parts:
        caption = f"{NO_RESULT} The sampler chose where to look, so crowding is its doing. Hollow: stopped early."
        axes = {"y": metric_title(metric_of(results.frames)[0])}
        joined = rounded_frame(pd.concat(parts, ignore_index=True))
        joined = joined[joined["level"].notna()].reset_index(drop=True)
        yield FigureNumbers("search_slices", "search_slices", "Slices of the search", caption, joined, axes)


def interactions(results: Results) -> Iterator[FigureNumbers]:
    """The two parameters that matter most (or stand first), each finished trial coloured by its score."""
    frame = search_trials(results)
    frame = frame[(frame["state"] == "finished") & frame["score"].notna()]
    values = parameter_values(results.frames, frame["trial"].tolist())
    parameters = results.frames.header.space.get("parameters") or {}
    ranked = [name for name in results.importances["parameter"] if name in values] or list(values)
    if results.design != "search" or len(ranked) < 2 or len(frame) < 3:
        return
    first, second = ranked[:2]
    shown = frame[["number", "score"]].reset_index(drop=True)
    for name, axis in ((first, "x"), (second, "y")):
        numeric = "choices" not in parameters[name]
        shown[axis] = [float(v) if numeric and v is not None else np.nan for v in values[name]]
        shown[f"{axis}_level"] = [None if v is None else value_text(v) for v in values[name]]
    which = "first two" if results.importances.empty else "two most important"
    caption = f"{NO_RESULT} The {which} parameters; each dot is a finished trial."
    axes = {
        "x": _axis(first, parameters),
        "y": _axis(second, parameters),
        "color": metric_title(metric_of(results.frames)[0]),
    }
    for name, axis in ((first, "x"), (second, "y")):
        axes[f"{axis}_log"] = "yes" * bool(parameters[name].get("log"))
    title = f"The search along {short_path(first)} and {short_path(second)}"
    yield FigureNumbers("search_interaction", "scatter", title, caption, rounded_frame(shown), axes)


def _axis(name: str, parameters: Mapping[str, Any]) -> str:
    """A parameter as an axis names it, with its unit where it is a number."""
    return short_path(name) if "choices" in parameters[name] else parameter_title(short_path(name))


def curves(results: Results) -> Iterator[FigureNumbers]:
    """Learning curves of the search's trials; quantiles over trials where there are many."""
    name, _ = metric_of(results.frames)
    trials = search_trials(results)
    if trials["score"].notna().sum() == 0 or name not in results.frames.history:
        return
    mine = results.frames.history[["trial", "epoch", name]].merge(trials[["trial", "number", "state"]], on="trial")
    mine = mine[mine[name].notna()].rename(columns={name: "value"})
    axes = {"x": "epoch", "y": metric_title(name)}
    if trials["trial"].nunique() <= MOST_CURVES:
        frame = mine.sort_values(["number", "epoch"], kind="stable")[["number", "state", "epoch", "value"]]
        caption = f"{NO_RESULT} Orange lines end where their trial was stopped or failed."
        kind = "search_curves"
    else:
        groups = mine.groupby("epoch")["value"]
        quantiles = {f"q{round(100 * q)}": groups.quantile(q) for q in (0.1, 0.25, 0.5, 0.75, 0.9)}
        frame = pd.DataFrame({**quantiles, "trials": groups.size()}).reset_index()
        caption = f"{NO_RESULT} Median, quartiles and 10 to 90 % of the trials that reached the epoch."
        kind = "quantile_curves"
    frame = rounded_frame(frame.reset_index(drop=True))
    yield FigureNumbers("search_curves", kind, "Learning curves of the search", caption, frame, axes)
