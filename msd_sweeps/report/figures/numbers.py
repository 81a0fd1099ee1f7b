"""The numbers of every figure, before anything is drawn: a frame each, written as CSV beside the drawing."""

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from msd_sweeps.report import fronts
from msd_sweeps.report.cells import Replicate, metric_title, replicate_order
from msd_sweeps.report.effects import level_in
from msd_sweeps.report.escaping import short
from msd_sweeps.report.figures import search_numbers
from msd_sweeps.report.results import FigureNumbers, Results
from msd_sweeps.report.stats import half_widths, mean_interval, pareto_front
from msd_sweeps.report.writing import rounded_frame

MOST_ROWS = 30
"""Rows that a figure of cells or effects shows; the CSV has them all."""
MOST_NAMED = 8
"""Cells that a figure of lines tells apart by colour and marker."""


def all_numbers(results: Results) -> list[FigureNumbers]:
    """The figures that this sweep has numbers for, in the order of the report."""
    builders: list[Callable[[Results], Iterator[FigureNumbers]]] = [
        effect_sizes,
        cell_seeds,
        scales,
        slices,
        interactions,
        costs,
        learning_curves,
        fronts.fronts,
        search_numbers.confirmation,
        search_numbers.importances,
        search_numbers.history,
        search_numbers.slices,
        search_numbers.interactions,
        search_numbers.curves,
    ]
    return [figure for builder in builders for figure in builder(results)]


def seeds_and_mean(values: dict[Replicate, float]) -> list[dict[str, object]]:
    """Rows of one mean: every seed, then the mean with its interval."""
    rows: list[dict[str, object]] = [
        {"kind": "seed", "seed": key[0], "value": values[key], "low": np.nan, "high": np.nan, "n": 1}
        for key in sorted(values, key=replicate_order)
    ]
    interval = mean_interval([row["value"] for row in rows])  # type: ignore[arg-type,misc]
    if interval.n:
        rows.append(
            {
                "kind": "mean",
                "seed": pd.NA,
                "value": interval.mean,
                "low": interval.low,
                "high": interval.high,
                "n": interval.n,
            }
        )
    return rows


def seed_frame(groups: dict[str, dict[Replicate, float]], group: str) -> pd.DataFrame:
    """Rows of `seeds_and_mean` for several groups, with the group's name in front."""
    rows = [{group: label, **row} for label, values in groups.items() for row in seeds_and_mean(values)]
    frame = pd.DataFrame(rows, columns=[group, "kind", "seed", "value", "low", "high", "n"])
    return rounded_frame(frame.astype({"seed": "Int64", "n": "int64", "value": float}))


def _seeds_note(frame: pd.DataFrame) -> str:
    n = frame.loc[frame["kind"] == "mean", "n"]
    counts = f"n = {n.min()}" if n.min() == n.max() else f"n = {n.min()} to {n.max()}"
    single = " A single seed has no interval." if n.min() == 1 else ""
    return f"Dots are seeds, bars 95 % t intervals of the mean, {counts}.{single}"


def cell_seeds(results: Results) -> Iterator[FigureNumbers]:
    """Every seed behind every mean of the result table."""
    frame = seed_frame({cell.label: cell.values for cell in results.cells}, "cell")
    if not frame.empty:
        hidden = max(0, frame["cell"].nunique() - MOST_ROWS)
        more = f" The first {MOST_ROWS} cells; {hidden} more are in the CSV." if hidden else ""
        yield FigureNumbers(
            "seeds",
            "rows",
            "Every seed behind its mean",
            _seeds_note(frame) + " Last epoch." + more,
            frame,
            {"x": results.value.title, "group": "cell"},
        )


def effect_sizes(results: Results) -> Iterator[FigureNumbers]:
    """The forest plot: effects of factors, or differences to the baseline."""
    columns = ["factor", "level", "reference", "difference", "low", "high", "pairs", "paired"]
    grouped = False
    if results.effects.empty:
        table = results.table.frame
        frame = table[table["pairs"] > 0]
        against = results.baseline.label if results.baseline else ""
        frame = frame.assign(factor="", level=frame["label"], reference=against)
        title = f"Differences to {short(against, 40)}"
    elif results.design == "leave_one_out":
        frame = results.effects.assign(level="without " + results.effects["level"])
        title, against = "What leaving out each part does", "the full method"
    else:
        frame, grouped = results.effects, True
        title, against = "What each factor does", "the level named beside each factor"
    frame = frame.assign(low=frame["difference_low"], high=frame["difference_high"])
    frame = rounded_frame(frame.loc[frame["difference"].notna(), columns].reset_index(drop=True))
    if not frame.empty:
        fewest, most = frame["pairs"].min(), frame["pairs"].max()
        pairs = f"{fewest} to {most}" if fewest < most else str(fewest)
        how = "paired by seed" if frame["paired"].all() else "paired by seed where seeds are shared"
        caption = f"Difference to {short(against)}, {how} ({pairs} pairs), with 95 % t intervals, not corrected for "
        caption += "their number."
        if fewest == 1:
            caption += " One pair has no interval."
        hidden = max(0, len(frame) - MOST_ROWS)
        caption += f" The first {MOST_ROWS} rows; {hidden} more are in the CSV." * bool(hidden)
        axes = {"x": results.value.difference_title, "grouped": "yes" * grouped}
        yield FigureNumbers("effects", "forest", title, caption, frame, axes)


def scales(results: Results) -> Iterator[FigureNumbers]:
    """Accuracy against the decoupling scales, averaged over the other factors of a grid."""
    for factor in results.factors:
        frame = seed_frame(factor.values, "level") if factor.path == "method.scales" else pd.DataFrame()
        if not frame.empty:
            averaged = " Each dot is a seed's mean over the other factors." if results.design == "grid" else ""
            yield FigureNumbers(
                "scales",
                "columns",
                "Accuracy against the decoupling scales",
                _seeds_note(frame) + averaged,
                frame,
                {"x": "decoupling scales (windows of 1/k of the map)", "y": results.value.title, "group": "level"},
            )


def slices(results: Results) -> Iterator[FigureNumbers]:
    """One panel for each numeric factor: temperatures, weights and the like."""
    parts = []
    for factor in results.factors:
        numbers = {label: level for label, level in factor.levels.items() if _is_number(level)}
        if len(numbers) >= 2 and len(numbers) == len(factor.levels):
            frame = seed_frame(factor.values, "level")
            frame.insert(0, "factor", factor.name)
            frame.insert(2, "position", frame["level"].map(numbers).astype(float))
            parts.append(frame)
    if parts:
        frame = pd.concat(parts, ignore_index=True)
        if not frame.empty:
            yield FigureNumbers(
                "slices",
                "slices",
                f"Slices along {short(', '.join(dict.fromkeys(frame['factor'])), 60)}",
                _seeds_note(frame),
                frame,
                {"y": results.value.title},
            )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def interactions(results: Results) -> Iterator[FigureNumbers]:
    """Maps of two factors of a grid: means over seeds and the remaining factors; three maps at most."""
    if results.design != "grid" or len(results.factors) < 2:
        return
    pairs = [(a, b) for i, a in enumerate(results.factors) for b in results.factors[i + 1 :]][:3]
    for number, (first, second) in enumerate(pairs, 1):
        found: dict[tuple[str, str], dict[Replicate, list[float]]] = {}
        for cell in results.cells:
            at = (level_in(cell.config, first.path, first.levels), level_in(cell.config, second.path, second.levels))
            if at[0] is not None and at[1] is not None and cell.values:
                for key, score in cell.values.items():
                    found.setdefault((at[0], at[1]), {}).setdefault(key, []).append(score)
        rows = []
        for a in first.levels:
            for b in second.levels:
                of_seed = found.get((a, b), {})
                interval = mean_interval([float(np.mean(of_seed[key])) for key in sorted(of_seed, key=replicate_order)])
                rows.append((first.name, a, second.name, b, *interval))
        names = ["first", "first_level", "second", "second_level", "mean", "low", "high", "n"]
        frame = rounded_frame(pd.DataFrame(rows, columns=names))
        if frame["mean"].notna().any():
            yield FigureNumbers(
                f"interaction_{number}",
                "map",
                f"Together: {short(first.name, 30)} and {short(second.name, 30)}",
                "Means over seeds (of a seed's mean over any other factor) ± half of the 95 % t interval."
                + " An empty field has no finished trial." * bool(frame["mean"].isna().any()),
                frame,
                {"color": results.value.title},
            )


def learning_curves(results: Results) -> Iterator[FigureNumbers]:
    """Validation accuracy by epoch of each cell (training loss where nothing is held out), band over seeds."""
    history, trials = results.frames.history, results.frames.trials
    shown = trials[(trials["phase"] != "search") & (trials["state"] == "finished")]
    mine = history.merge(shown[["trial", "cell", "seed"]], on="trial")
    # Losses of different methods are sums of different terms, so they come last.
    names = (results.value.validation, "train_top1", "train_loss")
    wanted = [name for name in names if name in mine and mine[name].notna().any()]
    if not wanted:
        return
    name = wanted[0]
    labels = {cell.cell: cell.label for cell in results.cells if cell.cell}
    grouped = mine.groupby(["cell", "epoch"], sort=True)[name]
    frame = grouped.agg(value="mean", spread="std", n="count").reset_index()
    half = half_widths(frame["spread"], frame["n"])
    frame = frame.assign(low=frame["value"] - half, high=frame["value"] + half)
    frame.insert(0, "label", frame["cell"].map(labels))
    place = {cell.cell: index for index, cell in enumerate(results.cells)}
    frame = frame.sort_values(["cell", "epoch"], key=lambda c: c.map(place) if c.name == "cell" else c, kind="stable")
    frame = rounded_frame(frame[frame["value"].notna()].drop(columns=["spread", "cell"]).reset_index(drop=True))
    caption = "Mean over seeds by epoch, with 95 % t intervals as bands."
    if name != results.value.validation:
        caption += " Nothing is held out from these trials, so this is on the training images."
    if name == "train_loss":
        caption += " Losses of different methods have different terms: compare their course, not their height."
    named = _named(results, set(frame["label"]))
    frame["named"] = frame["label"].isin(named)
    if hidden := frame["label"].nunique() - len(named):
        caption += f" In grey the {hidden} cells that are neither the baseline nor among the best; the CSV has all."
    yield FigureNumbers(
        "learning_curves", "curves", "Learning curves", caption, frame, {"x": "epoch", "y": metric_title(name)}
    )


def _named(results: Results, labels: set[str]) -> list[str]:
    """The cells that get a colour of their own: the baseline and the best of the others, in the table's order."""
    sign = 1 if results.value.higher_is_better else -1
    measured = [cell for cell in results.cells if cell.label in labels]
    best = sorted(measured, key=lambda cell: (cell is not results.baseline, -sign * cell.interval.mean))
    chosen = {cell.label for cell in best[:MOST_NAMED]}
    return [cell.label for cell in measured if cell.label in chosen]


def _front_text(frame: pd.DataFrame) -> str:
    front = frame.loc[frame["pareto"], "label"].tolist()
    if len(front) == 1:
        return f"{short(front[0], 40)} is both the cheapest and the best cell, so it alone is the Pareto front."
    return f"The dashed line joins the {len(front)} cells of the Pareto front, which no other beats in both."


def costs(results: Results) -> Iterator[FigureNumbers]:
    """Accuracy against the seconds that a trial trained, with the cells that nobody beats in both."""
    table = results.table.frame
    frame = table.loc[table["seconds"].notna() & (table["n"] > 0), ["label", "seconds", "mean", "low", "high", "n"]]
    if len(frame) < 2:
        return
    frame = frame.reset_index(drop=True)
    frame["pareto"] = pareto_front(frame["seconds"], frame["mean"], results.value.higher_is_better)
    caption = (
        f"Mean training time of a trial on {results.frames.header.device or 'an unknown device'} against its result "
        f"with 95 % t interval. {_front_text(frame)} Trials that learn together are charged an equal share of their "
        "time."
    )
    yield FigureNumbers(
        "cost",
        "cost",
        "Accuracy against cost",
        caption,
        frame,
        {"x": "training time of a trial (s)", "y": results.value.title},
    )
