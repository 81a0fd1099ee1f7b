"""Slices: scores along one factor or parameter a panel, of a design's cells or of a search's trials."""

from collections.abc import Iterator
from functools import partial

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import msd_sweeps.report.figures.style as style
from msd_sweeps.report.cells import metric_title, parameter_title
from msd_sweeps.report.effects import Factor
from msd_sweeps.report.escaping import short
from msd_sweeps.report.figures.plot import Plot
from msd_sweeps.report.figures.search import NO_RESULT, parameter_slices
from msd_sweeps.report.figures.seeds import seed_frame, seeds_note
from msd_sweeps.report.results import Results


def scales(results: Results) -> Iterator[Plot]:
    """The decoupling scales of a design, averaged over the other factors of a grid."""
    for factor in results.factors:
        if factor.name == "method.scales" and len(frame := _of_factor(factor)):
            frame["factor"] = "decoupling scales (windows of 1/k of the map)"
            averaged = " Each dot is a seed's mean over the other factors." if results.design == "grid" else ""
            caption, draw = seeds_note(frame) + averaged, partial(_draw, y=results.value.title)
            yield Plot("scales", "Accuracy against the decoupling scales", caption, frame, draw)


def slices(results: Results) -> Iterator[Plot]:
    """The numeric factors of a design, such as temperatures and weights; of a search all parameters."""
    if results.design == "search":
        parts, y = list(parameter_slices(results).values()), metric_title(results.frames.metric.name)
        title = "Slices of the search"
    else:
        factors = [factor for factor in results.factors if _is_numeric(factor)]
        parts, y = [_of_factor(factor) for factor in factors], results.value.title
        title = f"Slices along {short(', '.join(factor.title for factor in factors), 60)}"
    if any(map(len, parts)):
        frame = pd.concat(parts, ignore_index=True)
        caption = f"{NO_RESULT} The sampler chose where to look, so crowding is its doing. Hollow: stopped early."
        caption = caption if results.design == "search" else seeds_note(frame)
        yield Plot("slices", title, caption, frame, partial(_draw, y=y))


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


def _draw(frame: pd.DataFrame, y: str) -> Figure:
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
