"""The question of a sweep and its answer in two sentences, made from the numbers alone."""

import math

import pandas as pd

from msd_sweeps.report import screening
from msd_sweeps.report.cells import Cell, metric_title
from msd_sweeps.report.comparisons import cell_named, difference_of
from msd_sweeps.report.formats import capital, short
from msd_sweeps.report.results import Results
from msd_sweeps.report.stats import Interval
from msd_sweeps.report.tables import signed
from msd_sweeps.space.designs import Sweep


def question(sweep: Sweep) -> str:
    """What the sweep asks."""
    space, base = sweep.space, sweep.base
    where = f" ({base.teacher.model} to {base.student.model}, {base.data.name})"
    names = [path.rpartition(".")[2].replace("_", " ") for path in space.parameters]
    varied = short(" and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names), 160)
    if space.design == "search":
        return f"Which {varied} serve{'s' * (len(names) == 1)} best{where}?"
    if names == ["method"]:
        return f"How do the methods compare{where}?"
    if space.design == "leave_one_out":
        return f"What does each part of the method contribute{where}?"
    if space.design == "screening":
        return f"Which of {varied} matter{where}?"
    return f"What {'do' if len(names) > 1 else 'does'} {varied} change{where}?"


def verdict(results: Results) -> str:
    """Two sentences: the main comparison, and what else the numbers say or cannot say."""
    measured = [cell for cell in results.cells if cell.values]
    if not measured:
        return "No trial of the table has finished, so nothing can be said yet. The ledger holds what has run so far."
    if results.design == "screening":
        return screening.answer(results)
    subject = _subject(results, measured)
    return f"{_against_baseline(results, subject)} {_second(results, subject)}"


def _subject(results: Results, measured: list[Cell]) -> Cell:
    """The cell that the sweep is about, chosen without looking at the test scores wherever the design allows."""
    named = {"search": "winner 1", "leave_one_out": "full", "one_at_a_time": "base"}.get(results.design)
    if named and (cell := cell_named(measured, named)):
        return cell
    others = [cell for cell in measured if cell is not results.baseline] or measured
    return max(others, key=lambda cell: results.value.sign * cell.interval.mean)


def _told(cell: Cell) -> str:
    """A cell by its label, and a winner by what it is too."""
    if cell.search_trial and cell.summary:
        return f"{short(cell.label)} ({short(cell.summary, 110)})"
    return "the full method" if "full" in cell.names else "the base" if "base" in cell.names else short(cell.label)


def difference_words(interval: Interval, unit: str) -> str:
    """`0.61 points [0.22, 1.00], n = 5`."""
    if math.isnan(interval.low):
        return f"{signed(interval.mean)} {unit}, n = {interval.n}, no interval"
    return f"{signed(interval.mean)} {unit} [{signed(interval.low)}, {signed(interval.high)}], n = {interval.n}"


def _score(metric: str, value: float) -> str:
    """`test top-1 of 71.30 %`."""
    name, _, unit = metric_title(metric).partition(" (")
    return f"{name} of {value:.2f} {unit.rstrip(')')}".rstrip()


def _against_baseline(results: Results, subject: Cell) -> str:
    baseline = results.baseline
    own, told = subject.interval, capital(_told(subject))
    half = "" if math.isnan(own.low) else f" ± {own.half_width:.2f}"
    reached = f"{told} reaches {own.mean:.2f}{half} {results.value.title}"
    if baseline is None or subject is baseline:
        return f"{reached}, n = {own.n}; there is no finished baseline beside it."
    if not baseline.values:
        return f"{reached}, n = {own.n}; the baseline {short(baseline.label)} has no finished trial."
    interval = difference_of(subject.values, baseline.values).interval
    words = difference_words(interval, results.value.unit)
    if math.isnan(interval.low):
        return f"{reached}, against {short(baseline.label)} {words}: one seed shows no difference."
    if not interval.excludes_zero:
        return f"{reached}, which cannot be told from {short(baseline.label)} ({words})."
    how = "beats" if interval.mean * results.value.sign > 0 else "falls behind"
    if interval.mean < 0:
        interval = Interval(-interval.mean, -interval.high, -interval.low, interval.n)
    return f"{told} {how} {short(baseline.label)} by {difference_words(interval, results.value.unit)}."


def _second(results: Results, subject: Cell) -> str:
    if results.design == "search":
        return _about_search(results, subject)
    parts = []
    if results.design == "grid" and subject is not results.baseline:
        count = sum(bool(cell.values) for cell in results.cells)
        parts.append(f"it is the best of {count} cells on these same runs, which flatters it")
    effects = results.effects[results.effects["difference"].notna()]
    if len(effects):
        parts.append(_largest_effect(results, effects))
    return f"{capital('; '.join(parts))}." if parts else "No effect of a single change could be measured."


def _largest_effect(results: Results, effects: pd.DataFrame) -> str:
    is_left_out = results.design == "leave_one_out"
    what = f"{len(effects)} {'parts' if is_left_out else 'changes'}"
    low, high = effects["difference_low"], effects["difference_high"]
    clear = effects[(high > low) & ((low > 0) | (high < 0))]
    if clear.empty:
        return f"none of the {what} has an effect that its interval can tell from zero"
    row = clear.loc[clear["difference"].abs().idxmax()]
    interval = Interval(row["difference"], row["difference_low"], row["difference_high"], int(row["pairs"]))
    factor, level, reference = (short(row[name]) for name in ("factor", "level", "reference"))
    how = f"leaving out {level}" if is_left_out else f"{factor} {level} instead of {reference}"
    many = "its interval alone excludes" if len(clear) == 1 else f"the intervals of {len(clear)} exclude"
    words = difference_words(interval, results.value.unit)
    return f"of {what}, {how} has the largest effect ({words}), and {many} zero"


def _about_search(results: Results, subject: Cell) -> str:
    tried = (results.frames.trials["phase"] == "search").sum()
    winner = results.confirmation[results.confirmation["label"] == subject.label]
    if winner.empty:
        return f"The search tried {tried} configurations."
    row = winner.iloc[0]
    return (
        f"The search chose it among {tried} configurations by its "
        f"{_score(results.frames.metric.name, row['search_score'])} on held-out images; on fresh seeds it reaches a "
        f"{_score(results.value.name, row['mean'])}, n = {row['n']}."
    )
