"""Scores along one factor or parameter, and two together: of a design's cells, or of a search's trials."""

from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from itertools import combinations, product
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import msd_sweeps.report.figures.style as style
from msd_sweeps.report.cells import metric_title, parameter_title, short_path
from msd_sweeps.report.comparisons import Factor
from msd_sweeps.report.figures.cells import seed_frame, seeds_note
from msd_sweeps.report.figures.style import Plot
from msd_sweeps.report.figures.trials import unfinished_note
from msd_sweeps.report.formats import short
from msd_sweeps.report.results import NO_RESULT, Results, parameter_slices, search_trials
from msd_sweeps.report.stats import mean_interval

MOST_MAPS = 3


def scales(results: Results) -> Iterator[Plot]:
    """The decoupling scales of a design, averaged over the other factors of a grid."""
    for factor in results.factors:
        if factor.name == "method.scales" and len(frame := _of_factor(factor)):
            frame["factor"] = "decoupling scales (windows of 1/k of the map)"
            averaged = " Each dot is a seed's mean over the other factors." if results.design == "grid" else ""
            caption, draw = seeds_note(frame) + averaged, partial(_draw_slices, y=results.value.title)
            yield Plot("scales", "Accuracy against the decoupling scales", caption, frame, draw)


def slices(results: Results) -> Iterator[Plot]:
    """The numeric factors of a design, such as temperatures and weights; of a search all parameters."""
    if results.design == "search":
        parts, y = list(parameter_slices(results.frames).values()), metric_title(results.frames.metric.name)
        title, left_out = "Slices of the search", unfinished_note(search_trials(results.frames))
        parts = [part[part["state"] == "finished"] for part in parts]
    else:
        left_out = ""
        factors = [factor for factor in results.factors if _is_numeric(factor)]
        parts, y = [_of_factor(factor) for factor in factors], results.value.title
        title = f"Slices along {short(', '.join(factor.title for factor in factors), 60)}"
    if any(map(len, parts)):
        frame = pd.concat(parts, ignore_index=True)
        caption = f"{NO_RESULT} The sampler chose where to look, so crowding is its doing. Trials at one of several "
        caption += f"choices stand side by side in the order of their numbers.{left_out}"
        caption = caption if results.design == "search" else seeds_note(frame)
        yield Plot("slices", title, caption, frame, partial(_draw_slices, y=y))


def _is_numeric(factor: Factor) -> bool:
    levels = factor.levels.values()
    return len(levels) >= 2 and all(isinstance(level, int | float) and not isinstance(level, bool) for level in levels)


def _of_factor(factor: Factor) -> pd.DataFrame:
    """The rows of `seed_frame` for each level, with the factor's title, and each level's number if it is one."""
    frame, numeric = seed_frame(factor.values, "level"), _is_numeric(factor)
    frame.insert(0, "factor", parameter_title(factor.title) if numeric else factor.title)
    frame.insert(2, "position", frame["level"].map(factor.levels).astype(float) if numeric else float("nan"))
    low, high = frame["position"].min(), frame["position"].max()
    return frame.assign(log=bool(low > 0 and high / low >= 5))


def _draw_slices(frame: pd.DataFrame, y: str) -> Figure:
    factors = list(dict.fromkeys(frame["factor"]))
    tall = -(-len(factors) // 2)
    figure, axes = style.new_figure(3.2 if len(factors) == 1 else 2.2 * tall, y=y, panels=(tall, min(2, len(factors))))
    for axis, factor in zip(axes, factors, strict=False):
        rows = frame[frame["factor"] == factor]
        axis.set_xlabel(style.label(factor, 48 if len(factors) == 1 else 36))
        places = style.level_axis(axis, "x", rows)
        if "score" in rows:
            style.cloud(axis, places, rows["score"], rows["state"])
        else:
            _draw_means(axis, rows, places)
    for axis in axes[len(factors) :]:
        axis.set_visible(False)
    if "score" in frame:
        style.legend_below(figure)
    return figure


def _draw_means(axis: Axes, rows: pd.DataFrame, places: "pd.Series[float]") -> None:
    """Seeds beside the means of levels, which are joined where levels are numbers."""
    seeds, means = rows["kind"] == "seed", rows["kind"] == "mean"
    numeric = bool(rows["position"].notna().any())
    if numeric:
        axis.plot(places[means], rows["value"][means], color=style.BLUE, linewidth=0.8)
        axis.set_xticks(sorted(set(places)), [f"{place:g}" for place in sorted(set(places))])
        axis.minorticks_off()
        axis.margins(x=0.12)
    for place, row in zip(places[means], rows[means].itertuples(index=False), strict=True):
        style.mean_with_interval(axis, "y", place, row)
    style.seeds_beside(axis, "y", places[seeds].tolist(), rows["value"][seeds].tolist())
    axis.autoscale_view(scalex=numeric)


def maps(results: Results) -> Iterator[Plot]:
    """Pairs of a grid's factors, `MOST_MAPS` at most."""
    pairs = list(combinations(results.factors, 2)) if results.design == "grid" else []
    for number, (first, second) in enumerate(pairs[:MOST_MAPS], 1):
        frame = _map_of(results, first, second)
        if frame["mean"].notna().any():
            title = f"Together: {short(first.title, 30)} and {short(second.title, 30)}"
            caption = "Means over seeds (of a seed's mean over any other factor) ± half of the 95 % t interval."
            if number == MOST_MAPS < len(pairs):
                caption += f" {len(pairs) - MOST_MAPS} more pairs of factors have no figure."
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


def _draw_map(frame: pd.DataFrame, color: str) -> Figure:
    """A field for each pair of levels with its mean and half interval."""
    rows, columns = (list(dict.fromkeys(frame[name])) for name in ("first_level", "second_level"))
    means = frame["mean"].to_numpy().reshape(len(rows), len(columns))
    x, y = (style.label(frame[name].iloc[0]) for name in ("second", "first"))
    figure, (axis,) = style.new_figure(1.1 + 0.42 * len(rows), x, y)
    image = axis.imshow(np.ma.masked_invalid(means), cmap="cividis", aspect="auto")
    axis.grid(visible=False)
    middle = (np.nanmin(means) + np.nanmax(means)) / 2
    for index, row in enumerate(frame.itertuples(index=False) if len(columns) <= 8 else ()):
        if row.n:
            half = "" if len(columns) > 5 or np.isnan(row.low) else f" ± {(row.high - row.low) / 2:.2f}"
            place, ink = (index % len(columns), index // len(columns)), "white" if row.mean < middle else "black"
            axis.text(*place, f"{row.mean:.2f}{half}", ha="center", va="center", fontsize=7.5, color=ink)
    axis.set_xticks(range(len(columns)), [style.label(name, 60 // len(columns)) for name in columns])
    axis.set_yticks(range(len(rows)), [style.label(name, 20) for name in rows])
    figure.colorbar(image, ax=axis, label=color)
    return figure


def search_map(results: Results) -> Iterator[Plot]:
    """The two parameters of a search that matter most (or stand first): a dot a trial, coloured by its score."""
    slices = parameter_slices(results.frames)
    slices = {name: frame[frame["state"] == "finished"].drop(columns="state") for name, frame in slices.items()}
    ranked = list(dict.fromkeys(name for name in results.importances["parameter"] if name in slices)) or list(slices)
    if len(ranked) < 2 or results.design != "search":
        return
    first, second = (slices[name].set_index(["number", "score"]) for name in ranked[:2])
    numbers = first.add_prefix("x_").join(second.add_prefix("y_"), how="inner").reset_index()
    if len(numbers) < 3:
        return
    which = "first two parameters" if results.importances.empty else "two parameters of the largest importance"
    caption = f"{NO_RESULT} The {which}; each dot is a finished trial, at one of several choices side by side."
    title = f"The search along {short_path(ranked[0])} and {short_path(ranked[1])}"

    def draw(frame: pd.DataFrame) -> Figure:
        x, y = style.label(frame["x_factor"].iloc[0], 48), style.label(frame["y_factor"].iloc[0], 40)
        figure, (axis,) = style.new_figure(3.4, x, y)
        places = []
        for which in ("x", "y"):
            columns = {f"{which}_{name}": name for name in ("level", "position", "log")}
            places.append(style.level_axis(axis, which, frame.rename(columns=columns)))
        look: dict[str, Any] = {"cmap": "cividis", "s": 28, "edgecolors": "black", "linewidths": 0.4}
        dots = axis.scatter(places[0], places[1], c=frame["score"], rasterized=len(frame) > style.MANY, **look)
        figure.colorbar(dots, ax=axis, label=metric_title(results.frames.metric.name))
        return figure

    yield Plot("interaction_1", title, caption, numbers, draw)
