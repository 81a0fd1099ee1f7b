"""The tables of a report: numbers as texts. The numbers stand in frames, here and in the CSV files."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from msd_sweeps.records.fingerprint import mixtures
from msd_sweeps.report.cells import PRIVATE, changes_text, metric_title, value_text
from msd_sweeps.report.comparisons import BETTER, WORSE
from msd_sweeps.report.document import Column, Table
from msd_sweeps.report.formats import capital, counted, short
from msd_sweeps.report.results import NO_RESULT, Results, front_of
from msd_sweeps.space.settings import flatten
from msd_sweeps.space.trial import Trial

NOTHING = "–"
METHOD = (
    "Method: moderated t (Smyth 2004), Sidak's correction for the comparisons; 4 of the 5 % error are spent at the "
    "planned looks, half a per cent on which row is the best (Hsu 1981); the rest is kept for seeds added later."
)
MOST_OF_FRONT = 30
"""Trials of the front that the page lists; the figure's CSV has them all."""
Row = Mapping[Any, Any]
"""A row of a frame."""


def signed(value: float) -> str:
    """Two decimals with a minus sign that is as wide as a plus; a zero has none."""
    return f"{value:z.2f}".replace("-", "−")


def mean_text(row: Row, mean: str = "mean", low: str = "low", high: str = "high") -> str:
    """`71.30 ± 0.24`; a single value without interval stands alone. mean, low, high: the columns."""
    if math.isnan(row[mean]):
        return NOTHING
    half = "" if math.isnan(row[low]) else f" ± {(row[high] - row[low]) / 2:.2f}"
    return f"{row[mean]:.2f}{half}"


def difference_text(difference: float, low: float = math.nan, high: float = math.nan) -> str:
    """`+0.61 [0.22, 1.00]`."""
    if math.isnan(difference):
        return NOTHING
    mean = "+" * (round(difference, 2) > 0) + signed(difference)
    return mean if math.isnan(low) else f"{mean} [{signed(low)}, {signed(high)}]"


def difference_cell(row: Row) -> str:
    """The difference of a row; one that is not paired by seed is named so."""
    text = difference_text(row["difference"], row["difference_low"], row["difference_high"])
    return text if row["paired"] or text == NOTHING else f"{text} unpaired"


def number_text(name: str, digits: int) -> Callable[[Row], str]:
    """The text of a number in the column `name`."""
    return lambda row: NOTHING if math.isnan(row[name]) else f"{row[name]:.{digits}f}"


def p_text(row: Row) -> str:
    """The adjusted p-value of a row's difference."""
    return "<0.001" if row["p"] < 0.001 else number_text("p", 3)(row)


def excluding_zero(rows: Sequence[Row], column: int) -> set[tuple[int, int]]:
    """The cells to emphasise: differences whose interval excludes zero."""
    return {(place, column) for place, row in enumerate(rows) if row["decision"] in (BETTER, WORSE)}


def family_notes(results: Results, frame: pd.DataFrame) -> list[str]:
    """What the intervals and p-values of a table of differences hold over."""
    if not (frame["pairs"] > 1).any():
        return ["One pair of runs gives a difference no interval."] * bool((frame["pairs"] > 0).any())
    family = results.family
    where = "of the table" if results.effects.empty or results.effects_are_rows else "of the tables Results and Effects"
    which = "The interval holds" if family.size == 1 else f"All {family.size} intervals {where} hold together"
    later = [f"{n} seeds" for n in family.further]
    looks = [f"planned at {', '.join(map(str, family.looks))} seeds"] * (len(family.looks) > 1)
    looks += [f"added after that at {', '.join(later)}"] * bool(later)
    note = f"Differences are paired by seed. {which} at 95 %"
    note += f", at all looks at the data ({'; '.join(looks)})" * bool(looks)
    note += "; p is adjusted alike, and bold differences exclude zero."
    return [note, METHOD]


def result_table(results: Results, for_paper: bool = False) -> Table:
    """A row a teacher and a cell. for_paper: without validation scores and times, as its lines are short."""
    frame, value, baseline = results.table, results.value, results.baseline
    columns: list[Column] = [
        ("", False, lambda row: short(row["label"])),
        ("n", True, _n_text),
        (value.title, True, mean_text),
    ]
    if baseline is not None:
        columns += _difference_columns(results, f"difference to {short(baseline.label, 24)}")
    if not for_paper and (frame["validation"].notna().any() or frame["search_score"].notna().any()):
        columns.append((metric_title(value.validation), True, _validation_text))
    if not for_paper:
        columns.append(("s/trial", True, number_text("seconds", 1)))
    rows = frame.to_dict("records")
    return Table(rows, columns, _notes(results, for_paper), excluding_zero(rows, 3))


def _difference_columns(results: Results, title: str) -> list[Column]:
    columns: list[Column] = [(title, True, difference_cell), ("adjusted p", True, p_text)]
    decision: Column = ("decision", False, lambda row: row["decision"] or NOTHING)
    return [*columns, decision] if results.frames.sweep.space.race else columns


def _n_text(row: Row) -> str:
    planned = row["planned"]
    return str(row["n"]) if pd.isna(planned) or planned == row["n"] else f"{row['n']} of {planned}"


def _validation_text(row: Row) -> str:
    if math.isnan(row["validation"]) and not math.isnan(row["search_score"]):
        return f"{row['search_score']:.2f} (search)"
    return mean_text(row, "validation", "validation_low", "validation_high")


def _notes(results: Results, for_paper: bool) -> list[str]:
    frame, title = results.table, capital(results.value.title)
    notes = [f"{title} after the last epoch: mean ± half of its own 95 % t interval over n seeds."]
    if any(len(cell.values) == 1 for cell in results.cells):
        notes.append("n = 1: one seed gives no interval.")
    if (frame["low"] == frame["high"]).any():
        notes.append("± 0.00: the seeds gave equal values; that shows no spread, and no certainty either.")
    if not for_paper and (frame["search_score"].notna() & frame["validation"].isna()).any():
        notes.append("(search): the one score on held-out images by which the search chose the row.")
    if results.baseline is None:
        notes.append("No baseline is among the cells, so no differences are shown.")
    elif (frame["pairs"] > 0).any():
        notes += family_notes(results, frame)
    charged = [f"s/trial: {what_is_charged(results)}"] * (not for_paper)
    notes += [_images_text(results), *charged, *mixture_notes(results)]
    for cell in results.cells:
        for sweep, count in sorted(cell.sources.items()):
            of = f"{count} of its {counted(cell.states.total(), 'trial')}"
            notes.append(f"{short(cell.label)}: {of} taken over from the sweep {short(sweep)}, not trained again.")
    return notes + [
        f"{short(cell.label)}: {short('; '.join(cell.faults), 200)}." for cell in results.cells if cell.faults
    ]


def what_is_charged(results: Results) -> str:
    """What the time of a trial holds."""
    if any(facts.get("device") == "cuda" for one in results.frames.records.values() for facts in one.fingerprints):
        return "an equal part of the time of those that trained together, because a GPU's is not told apart."
    return "a trial's own steps and evaluation, the batches, and the teacher where its method needs it, as if alone."


def _images_text(results: Results) -> str:
    """How many images each row, and the search, trained on."""
    rows: dict[int, list[str]] = {}
    for cell in results.cells:
        if cell.trial is not None:
            rows.setdefault(cell.trial.train_images, []).append(short(cell.label))
    parts = [f"{count:,} in {'all rows' if len(rows) == 1 else ', '.join(labels)}" for count, labels in rows.items()]
    searched = {record.cell: record for record in results.frames.records.values() if record.phase == "search"}
    found = {(trial.train_images, trial.val_images) for trial in (one.configuration for one in searched.values())}
    parts += [f"{train:,} in the search, which held {val:,} out" for train, val in sorted(found)[:3]]
    return f"Images trained on: {'; '.join(parts) or 'none yet'}."


def mixture_notes(results: Results) -> list[str]:
    """What the trials of the rows, and of the search, did not have in common although they should have."""
    trials = results.frames.records.values()
    rows = ((trial.label or "the search", trial.fingerprints) for trial in trials)
    return [f"Rows mix {short(text, 2000)}: their differences hold this one too." for text in mixtures(rows)]


def summary_table(results: Results, title: str) -> Table:
    """What each row of the result table changes in the base, under a title."""
    pairs = [(short(cell.label), short(cell.summary, 300)) for cell in results.rows]
    return Table(pairs, [("row", False, 0), (title, False, 1)])


def base_table(base: Trial) -> Table:
    """A row a part of the base. Places of the machine that ran are left out."""
    parts: dict[str, list[str]] = {}
    for path, value in flatten(base.model_dump(mode="json")).items():
        part, _, name = path.partition(".")
        if name and path not in PRIVATE:
            parts.setdefault(part, []).append(f"{name}={value_text(value)}")
    pairs = [(part, ", ".join(texts)) for part, texts in parts.items()]
    return Table(pairs, [("part", False, 0), ("settings", False, 1)])


def effects_table(results: Results) -> Table:
    """A row an effect of the design."""
    left_out = results.design == "leave_one_out"

    def change(row: Row) -> str:
        level = f"without {row['level']}"
        return short(level if left_out else f"{row['factor']}: {row['level']} instead of {row['reference']}", 90)

    columns: list[Column] = [
        ("change", False, change),
        ("pairs", True, "pairs"),
        *_difference_columns(results, results.value.difference_title),
    ]
    against = "the full method" if left_out else "the level named"
    notes = [f"Differences to {against}.", *family_notes(results, results.effects)]
    if results.design == "grid" and any(" × " in factor for factor in results.effects["factor"]):
        notes.append(
            "×: an interaction, how much the effect of a level differs between the levels of the other factor."
        )
    if results.design == "grid":
        notes.append("Each seed's mean over the blocks (levels of the other factors) in which both levels finished.")
    rows = [] if results.effects_are_rows else results.effects.to_dict("records")
    return Table(rows, columns, notes + mixture_notes(results), excluding_zero(rows, 2))


def front_table(results: Results) -> Table:
    """The trials of the front: their values, their settings, and as what they were confirmed. No rows: no front."""
    every = front_of(results.frames)
    front = every[every["front"]]
    confirmed = {cell.search_trial: cell.label for cell in results.cells if cell.search_trial}

    def score(name: str) -> Callable[[Row], str]:
        return lambda row: f"{row[name]:,.0f}" if name == "student_parameters" else f"{row[name]:.2f}"

    columns: list[Column] = [
        ("search trial", True, "number"),
        *((metric_title(metric.name), True, score(metric.name)) for metric in results.frames.sweep.space.metrics),
        ("settings", False, lambda row: short(changes_text(results.frames.records[row["trial"]].values), 160)),
        ("confirmed as", False, lambda row: short(confirmed.get(row["trial"], ""))),
    ]
    notes = [
        f"{len(front)} of {len(every)} finished search trials are on the front: no other is as good in every metric "
        f"and better in one. {NO_RESULT}"
    ]
    if len(front) > MOST_OF_FRONT:
        notes.append(f"{len(front) - MOST_OF_FRONT} more are in figures/pareto.csv.")
    return Table(front.head(MOST_OF_FRONT).to_dict("records"), columns, notes + mixture_notes(results))


def confirmation_table(results: Results) -> Table:
    """A row a winner: its search score beside what it reached on fresh seeds."""
    columns: list[Column] = [
        ("", False, lambda row: short(row["label"])),
        (f"search: {metric_title(results.frames.metric.name)}", True, lambda row: f"{row['search_score']:.2f}"),
        (f"confirmed: {results.value.title}", True, mean_text),
        ("n", True, "n"),
        ("search minus confirmed", True, lambda row: difference_text(row["drop"])),
    ]
    note = (
        "The search's score is the best of many on one seed and on held-out images; the confirmed one is on fresh "
        "seeds and the test set, after training on the held-out images too. Their gap holds selection, other images to "
        "test on and more to train on together. Intervals are those of the chosen settings: another search may choose "
        "others."
    )
    return Table(results.confirmation.to_dict("records"), columns, [note, *mixture_notes(results)])
