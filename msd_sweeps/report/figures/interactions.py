"""Two factors together: a map of a grid's means, or the trials of a search coloured by their scores."""

from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from itertools import combinations, product
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from msd_sweeps.report.cells import metric_title, short_path
from msd_sweeps.report.effects import Factor
from msd_sweeps.report.escaping import short
from msd_sweeps.report.figures.plot import Plot
from msd_sweeps.report.figures.search import NO_RESULT, parameter_slices
from msd_sweeps.report.figures.style import MANY, label, level_axis, new_figure
from msd_sweeps.report.results import Results
from msd_sweeps.report.stats import mean_interval

MOST_MAPS = 3


def interactions(results: Results) -> Iterator[Plot]:
    """Pairs of a grid's factors, `MOST_MAPS` at most; of a search the two parameters that matter most."""
    if results.design == "search":
        yield from _of_search(results)
    elif results.design == "grid":
        for number, (first, second) in enumerate(list(combinations(results.factors, 2))[:MOST_MAPS], 1):
            frame = _map_of(results, first, second)
            if frame["mean"].notna().any():
                title = f"Together: {short(first.title, 30)} and {short(second.title, 30)}"
                caption = "Means over seeds (of a seed's mean over any other factor) ± half of the 95 % t interval."
                caption += " An empty field has no finished trial." * bool(frame["mean"].isna().any())
                draw = partial(_draw_map, color=results.value.title)
                yield Plot(f"interaction_{number}", title, caption, frame, draw)


def _map_of(results: Results, first: Factor, second: Factor) -> pd.DataFrame:
    """A row a pair of levels: the mean over seeds with its interval, of a seed's mean over the other factors."""
    found: dict[tuple[str | None, str | None], dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for cell in results.cells:
        for place in cell.levels:
            for seed, score in cell.values.items():
                found[first.at(place), second.at(place)][seed].append(score)
    rows = []
    for pair in product(first.levels, second.levels):
        of_seed = found[pair]
        interval = mean_interval([float(np.mean(of_seed[seed])) for seed in sorted(of_seed)])
        rows.append((first.title, pair[0], second.title, pair[1], *interval))
    names = ["first", "first_level", "second", "second_level", "mean", "low", "high", "n"]
    return pd.DataFrame(rows, columns=names)


def _of_search(results: Results) -> Iterator[Plot]:
    """The two parameters that matter most (or stand first), a row a finished trial."""
    slices = parameter_slices(results)
    slices = {name: frame[frame["state"] == "finished"].drop(columns="state") for name, frame in slices.items()}
    ranked = [name for name in results.importances["parameter"] if name in slices] or list(slices)
    if len(ranked) < 2:
        return
    first, second = (slices[name].set_index(["number", "score"]) for name in ranked[:2])
    frame = first.add_prefix("x_").join(second.add_prefix("y_"), how="inner").reset_index()
    if len(frame) < 3:
        return
    which = "first two" if results.importances.empty else "two most important"
    caption = f"{NO_RESULT} The {which} parameters; each dot is a finished trial."
    title = f"The search along {short_path(ranked[0])} and {short_path(ranked[1])}"
    draw = partial(_draw_trials, color=metric_title(results.frames.metric.name))
    yield Plot("interaction_1", title, caption, frame, draw)


def _draw_map(frame: pd.DataFrame, color: str) -> Figure:
    """A field for each pair of levels with its mean and half interval."""
    rows, columns = (list(dict.fromkeys(frame[name])) for name in ("first_level", "second_level"))
    means = frame["mean"].to_numpy().reshape(len(rows), len(columns))
    x, y = (label(frame[name].iloc[0]) for name in ("second", "first"))
    figure, (axis,) = new_figure(1.1 + 0.42 * len(rows), x, y)
    image = axis.imshow(np.ma.masked_invalid(means), cmap="cividis", aspect="auto")
    axis.grid(visible=False)
    middle = (np.nanmin(means) + np.nanmax(means)) / 2
    for index, row in enumerate(frame.itertuples(index=False) if len(columns) <= 8 else ()):
        if row.n:
            half = "" if len(columns) > 5 or np.isnan(row.low) else f" ± {(row.high - row.low) / 2:.2f}"
            place, ink = (index % len(columns), index // len(columns)), "white" if row.mean < middle else "black"
            axis.text(*place, f"{row.mean:.2f}{half}", ha="center", va="center", fontsize=7.5, color=ink)
    axis.set_xticks(range(len(columns)), [label(name, 60 // len(columns)) for name in columns])
    axis.set_yticks(range(len(rows)), [label(name, 20) for name in rows])
    figure.colorbar(image, ax=axis, label=color)
    return figure


def _draw_trials(frame: pd.DataFrame, color: str) -> Figure:
    """A dot a trial, coloured by its score."""
    figure, (axis,) = new_figure(3.4, label(frame["x_factor"].iloc[0], 48), label(frame["y_factor"].iloc[0], 40))
    places = []
    for which in ("x", "y"):
        columns = {f"{which}_{name}": name for name in ("level", "position", "log")}
        places.append(level_axis(axis, which, frame.rename(columns=columns)))
    look: dict[str, Any] = {"cmap": "cividis", "s": 28, "edgecolors": "black", "linewidths": 0.4}
    dots = axis.scatter(places[0], places[1], c=frame["score"], rasterized=len(frame) > MANY, **look)
    figure.colorbar(dots, ax=axis, label=color)
    return figure
