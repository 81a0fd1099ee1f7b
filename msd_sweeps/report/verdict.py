"""The question of a sweep and its answer, made from the claims that the tables make and from no others."""

import math
from collections.abc import Iterable, Sequence

import pandas as pd

from msd_sweeps.report import screening
from msd_sweeps.report.cells import Cell, metric_title, progress_of
from msd_sweeps.report.comparisons import BETTER, UNDECIDED, WORSE
from msd_sweeps.report.formats import capital, short
from msd_sweeps.report.results import Results
from msd_sweeps.report.tables import Row, difference_text
from msd_sweeps.space.compared import REFERENCES
from msd_sweeps.space.designs import Sweep

MOST_NAMED = 6
"""Rows of one kind that a sentence names; the table has them all."""


def question(sweep: Sweep) -> str:
    """What the sweep asks."""
    space, base = sweep.space, sweep.base
    where = f" ({base.teacher.model} to {base.student.model}, {base.data.name})"
    names = [path.rpartition(".")[2].replace("_", " ") for path in space.parameters]
    varied = short(" and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names), 160)
    if space.search.each is not None:
        compared = " and ".join(map(short, sweep.searches))
        return f"How do {compared} compare when each is searched with the same budget{where}?"
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
    """The answer: what the design asks first, then the rows beside the baseline, then what cannot be said."""
    measured = results.table[results.table["n"].gt(0) & results.table["cell"].ne("")]
    sentences = _unfinished(results)
    if measured.empty:
        return " ".join([*sentences, "No trial of the table has finished, so nothing can be said yet."])
    if results.design == "screening":
        return " ".join([*sentences, screening.answer(results)])
    if len(results.effects) and not results.effects_are_rows:
        sentences += _about_effects(results)
    sentences += [*_about_best(results, measured), *_about_rows(results, measured)]
    if results.design == "search":
        sentences += _about_search(results)
    return " ".join(sentences)


def difference_words(row: Row, unit: str = "") -> str:
    """`+0.61 points [0.22, 1.00]`."""
    numbers = difference_text(row["difference"], row["difference_low"], row["difference_high"])
    mean, _, interval = numbers.partition(" ")
    return mean + f" {unit}" * bool(unit) + (f" {interval}" if interval else ", no interval")


def _joined(texts: Iterable[str]) -> str:
    """`a, b and c`, of many the first."""
    every = list(texts)
    if len(every) > MOST_NAMED + 1:
        every = [*every[:MOST_NAMED], f"{len(every) - MOST_NAMED} more"]
    return " and ".join([", ".join(every[:-1]), every[-1]] if len(every) > 1 else every)


def _told(rows: Sequence[Row], name: str, unit: str) -> str:
    """Names with their differences, the first with its unit, and the settings of winners."""
    words = (difference_words(row, "" if place else unit) for place, row in enumerate(rows))
    details = (f"; {row['settings']}" if row.get("settings") else "" for row in rows)
    return _joined(f"{row[name]} ({text}{more})" for row, text, more in zip(rows, words, details, strict=True))


def _groups(results: Results, rows: pd.DataFrame) -> dict[str, list[Row]]:
    """Rows by what their intervals say, the largest difference first."""
    ordered = rows.reindex(rows["difference"].abs().sort_values(ascending=False, kind="stable").index)
    found: dict[str, list[Row]] = {}
    for row in ordered.to_dict("records"):
        found.setdefault(row["decision"], []).append(row)
    return found


def _unfinished(results: Results) -> list[str]:
    """A page of a sweep that has not ended is an unplanned look."""
    progress = progress_of(results.frames, results.cells)
    state = "Running or killed" if results.frames.header.is_open else "Stopped"
    return [] if progress.is_whole else [f"{state}, {progress}: no answer holds before that."]


def _about_effects(results: Results) -> list[str]:
    """What the levels of the factors change, or the parts that are left out."""
    effects, is_left_out = results.effects[results.effects["pairs"] > 0], results.design == "leave_one_out"
    if effects.empty:
        return ["No effect of a single change could be measured."]
    if is_left_out:
        names = ["leaving out " + short(level) for level in effects["level"]]
    else:
        changes = zip(effects["factor"], effects["level"], effects["reference"], strict=True)
        names = [f"{short(factor)} {short(level)} instead of {short(other)}" for factor, level, other in changes]
    groups = _groups(results, effects.assign(name=names))
    what = f"{len(effects)} {'part' if is_left_out else 'change'}{'s' * (len(effects) > 1)}"
    parts = []
    for kind, words in ((WORSE, "makes the result worse"), (BETTER, "makes it better")):
        if rows := groups.pop(kind, []):
            words = words.replace("makes", "make") if len(rows) > 1 else words
            parts.append(f"{_told(rows, 'name', results.value.unit)} {words}")
    if "" in groups and len(groups) == 1 and not parts:
        return [f"Of {what}, none can be judged: one seed shows no difference."]
    return [f"Of {what}, {'; '.join([*parts, *_rest(groups, bool(parts), 'zero')])}."]


def _rest(groups: dict[str, list[Row]], is_more: bool, reference: str) -> list[str]:
    """What is said of the rows that are neither better nor worse."""
    parts: list[str] = []
    for kind, rows in groups.items():
        count = f"the other {len(rows)}" if is_more or parts else "none" if len(groups) == 1 else f"{len(rows)}"
        if kind == UNDECIDED:
            count = rows[0]["name"] if len(rows) == 1 else count
            parts.append(f"{count} {'can' if count == 'none' else 'cannot'} be told from {reference}")
        elif kind:
            verb = "is" if len(rows) == 1 else "are"
            parts.append(f"{_joined(row['name'] for row in rows)} {verb} {kind} points")
        else:
            parts.append(f"{len(rows)} with one seed cannot be judged")
    return parts


def _about_best(results: Results, measured: pd.DataFrame) -> list[str]:
    """Which row is best, where that leaves out at least half of the rows of a grid or search."""
    names = [_name(results, cell) for cell in results.cells if cell.label in results.best]
    if results.design not in ("grid", "search") or not 0 < 2 * len(names) <= len(measured):
        return []
    return [f"Best of {len(measured)} rows: {'one of ' * (len(names) > 1)}{_joined(names)}."]


def _about_rows(results: Results, measured: pd.DataFrame) -> list[str]:
    """The rows beside the baseline: every one of a comparison, and of a single method the method itself."""
    baseline, unit = results.baseline, results.value.unit
    if baseline is None or not baseline.values:
        best = measured.loc[(results.value.sign * measured["mean"]).idxmax()]
        half = "" if math.isnan(best["low"]) else f" ± {(best['high'] - best['low']) / 2:.2f}"
        reached = f"{best['mean']:.2f}{half} {results.value.title}"
        which = f"the highest mean of {len(measured)} rows, which flatters it, is {short(best['label'])}'s: {reached}"
        why = f"the baseline {short(baseline.label)} has no finished trial" if baseline else "no row is the baseline"
        return [f"{capital(why)}, so rows are not compared; {which}."]
    rows = measured[measured["pairs"] > 0]
    if named := REFERENCES.get(results.design):
        own = rows[[named in label.split(" = ") for label in rows["label"]]]
        rows = own if len(own) else rows
    if rows.empty:
        return [f"No row could be compared with {short(baseline.label)}."]
    of_cell = {cell.label: cell for cell in results.cells}
    rows = rows.assign(
        name=[_name(results, of_cell[label]) for label in rows["label"]],
        settings=[short(of_cell[label].summary, 110) * bool(of_cell[label].search_trial) for label in rows["label"]],
    )
    against, groups, sentences = short(baseline.label), _groups(results, rows), list[str]()
    if BETTER not in groups and WORSE in groups and len(rows) > 1:
        sentences.append(f"no row is shown to beat {against}")
    for kind, one, many in ((BETTER, "beats", "beat"), (WORSE, "falls behind", "fall behind")):
        if found := groups.pop(kind, []):
            sentences.append(f"{_told(found, 'name', unit)} {one if len(found) == 1 else many} {against}")
    if "" in groups and len(groups) == 1 and not sentences:
        return [f"{capital(_told(groups[''], 'name', unit))} against {against}: one seed shows no difference."]
    if not sentences and len(groups) == 1 and len(rows) <= 2 and UNDECIDED in groups:
        return [f"{capital(_told(groups[UNDECIDED], 'name', unit))} cannot be told from {against}, n = {_n(rows)}."]
    sentences += _rest(groups, bool(sentences), against)
    return [f"{capital('; '.join(sentences))}; n = {_n(rows)}."]


def _n(rows: pd.DataFrame) -> str:
    low, high = rows["pairs"].min(), rows["pairs"].max()
    return f"{low}" if low == high else f"{low} to {high}"


def _name(results: Results, cell: Cell) -> str:
    """A row in the question's own terms: a level by itself where one parameter varies."""
    named = {"full": "the full method", "base": "the base"}
    if found := [text for name, text in named.items() if name in cell.names and results.design != "grid"]:
        return found[0]
    if len(results.factors) == 1 and results.design == "grid":
        return short(cell.label.removeprefix(f"{results.factors[0].title}="))
    return short(cell.label)


def _about_search(results: Results) -> list[str]:
    """What the search chose by, which is no result."""
    tried = (results.frames.trials["phase"] == "search").sum()
    name, _, unit = metric_title(results.frames.metric.name).partition(" (")
    scores = [f"{row['label']} {row['search_score']:.2f}" for row in results.confirmation.to_dict("records")]
    chosen = f", by {name} on held-out images ({unit.rstrip(')')}): {_joined(scores)}" if scores else ""
    count = len(results.frames.sweep.searches)
    chose = "The search chose" if count == 1 else f"The {count} searches chose"
    return [f"{chose} among {tried} configurations{chosen}."]
