"""Main effects and interactions of a screening design: least squares, with intervals that hold all together."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from msd_sweeps.report.cells import Cell, short_path, value_text
from msd_sweeps.report.document import Column, Table
from msd_sweeps.report.formats import capital, counted, short
from msd_sweeps.report.results import Results
from msd_sweeps.report.stats import Estimate, Family, Floats
from msd_sweeps.report.tables import difference_text, p_text, signed
from msd_sweeps.space.designs import Sweep
from msd_sweeps.space.levels import levels_of
from msd_sweeps.space.screening import interaction

_COLUMNS = ["kind", "effect", "change", "difference", "low", "high", "p", "seeds"]
_MOST_NAMED = 4


def effects(sweep: Sweep, cells: Sequence[Cell], family: Family) -> tuple[pd.DataFrame, list[str]]:
    """A row an effect with its interval, in the unit of the compared metric; and what has to be known of them.

    Columns: kind (main effect, or interactions), effect, change, difference, low, high, p, seeds. A main effect is the
    mean at a level minus the mean at the first. An interaction is half of how much the effect of one factor differs
    between the levels of the other; aliased ones are one row, which is their sum. The error is the spread of the trials
    around their cells and seeds; it needs no model of the effects. It is one for all of them, as each compares one half
    of the cells with the other, and cells of unlike spread count alike in each. Every trial counts, also where others
    have failed.
    """
    designed = [cell for cell in cells if cell.levels]
    trials = [(number, seed, value) for number, cell in enumerate(designed) for seed, value in cell.values.items()]
    names, columns = _columns(sweep, [_row(sweep, cell) for cell in designed])
    missing = len(designed) * max((cell.planned or 0 for cell in designed), default=0) - len(trials)
    notes = [f"{counted(missing, 'trial')} without a result; the effects are estimated from the others."] * (
        missing > 0
    )
    seeds = sorted({seed for _, seed, _ in trials})
    own_cell = np.array([[float(number == place) for place in range(len(designed))] for number, _, _ in trials])
    own_seed = np.array([[float(seed == one) for one in seeds] for _, seed, _ in trials])
    values = np.array([value for *_, value in trials])
    if not trials:
        return pd.DataFrame(columns=_COLUMNS), notes
    design = np.hstack([own_seed, own_cell @ columns])
    if np.linalg.matrix_rank(design) < design.shape[1]:
        mains = [place for place, (kind, *_) in enumerate(names) if kind == "main effect"]
        names, design = [names[place] for place in mains], np.hstack([own_seed, own_cell @ columns[:, mains]])
        notes.append("Interactions cannot be estimated without these trials, and main effects may be mixed with them.")
        if np.linalg.matrix_rank(design) < design.shape[1]:
            return pd.DataFrame(columns=_COLUMNS), [*notes, "Main effects cannot be told apart without them either."]
    found = np.linalg.lstsq(design, values, rcond=None)[0][len(seeds) :]
    around = np.hstack([own_seed, own_cell])
    residuals = values - around @ np.linalg.lstsq(around, values, rcond=None)[0]
    df = len(values) - int(np.linalg.matrix_rank(around))
    errors = np.full(len(found), math.nan)
    if df > 0 and (variance := float(residuals @ residuals) / df) > 1e-18:
        errors = np.sqrt(variance * np.diag(np.linalg.inv(design.T @ design))[len(seeds) :])
    else:
        notes.append("Without spread between seeds there is no interval.")
    told = family.differences([Estimate(*one, df, len(seeds), True) for one in zip(found, errors, strict=True)])
    rows = [(*name, *one.interval[:3], one.p, len(seeds)) for name, one in zip(names, told, strict=True)]
    return pd.DataFrame(rows, columns=_COLUMNS), notes


def _row(sweep: Sweep, cell: Cell) -> list[int]:
    """The place of each factor's level in a cell."""
    place = cell.levels[0]
    return [levels_of(parameter).index(place[name]) for name, parameter in sweep.space.parameters.items()]


def _columns(sweep: Sweep, rows: list[list[int]]) -> tuple[list[tuple[str, str, str]], Floats]:
    """Kind, name and change of each effect, and its column: [cells, effects]."""
    layout, place = sweep.layout, np.array(rows).reshape(len(rows), -1)
    titles = [short_path(name) for name in sweep.space.parameters]
    names: list[tuple[str, str, str]] = []
    columns: list[Floats] = []
    for factor, parameter in enumerate(sweep.space.parameters.values()):
        first, *others = map(value_text, levels_of(parameter))
        for level, text in enumerate(others, 1):
            names.append(("main effect", titles[factor], f"{text} instead of {first}"))
            columns.append((place[:, factor] == level) * 1.0)
    for group in layout.estimable:
        one, other = group[0]
        names.append(("interactions", interaction(group, titles), ""))
        columns.append((place[:, one] - 0.5) * (place[:, other] - 0.5) * 2)
    return names, np.array(columns).T


def tables(results: Results) -> Iterator[tuple[str, Table]]:
    """The tables of a screening design, each with its title."""
    frame, notes = effects(results.frames.sweep, results.cells, results.family)
    layout, names = results.frames.sweep.layout, [short_path(name) for name in results.frames.sweep.space.parameters]
    columns: list[Column] = [
        (results.value.difference_title, True, lambda row: difference_text(row["difference"], row["low"], row["high"])),
        ("p", True, p_text),
    ]
    mains: list[Column] = [
        ("choice", False, "effect"),
        ("change", False, lambda row: short(row["change"], 60)),
        *columns,
    ]
    pairs: list[Column] = [
        ("interaction, or sum of aliased ones", False, lambda row: short(row["effect"], 200)),
        *columns,
    ]
    clear = (
        "No interaction of two choices can feign them." if not layout.shared else "They hold if no interaction does."
    )
    rule = f"All {results.family.size} intervals and p of this page hold together at 95 %."
    for kind, title, of_kind, note in (
        ("main effect", "Main effects", mains, f"The mean at a level minus the mean at the first. {clear} {rule}"),
        ("interactions", "Interactions of two choices", pairs, "Half of how much one effect differs between the levels "
         "of the other. Joined by =: this design cannot tell them apart, and the value is their sum."),
    ):  # fmt: skip
        rows = frame[frame["kind"] == kind]
        lost = [f"Aliased: {line}." for line in layout.aliases(names) if kind == "interactions" or layout.shared]
        more = [*notes, *(line for line in lost if " × " not in line or kind == "main effect")]
        if len(rows):
            yield title, Table(rows.to_dict("records"), of_kind, [note, *more])


def answer(results: Results) -> str:
    """Which choices matter, in two sentences."""
    frame, _ = effects(results.frames.sweep, results.cells, results.family)
    if frame.empty:
        return "Too few trials have finished for the effects of this design to be told apart."
    clear = frame[(frame["low"] > 0) | (frame["high"] < 0)]
    clear = clear.reindex(clear["difference"].abs().sort_values(ascending=False, kind="stable").index)
    mains, pairs = clear[clear["kind"] == "main effect"], clear[clear["kind"] == "interactions"]
    count = len(results.frames.sweep.space.parameters)
    unit = results.value.unit
    told = [f"{row.effect} {row.change} {_words(row, unit)}" for row in mains.head(_MOST_NAMED).itertuples()]
    more = f"; and {len(mains) - _MOST_NAMED} more" if len(mains) > _MOST_NAMED else ""
    matter = mains["effect"].nunique()
    first = f"{matter} of {count} choices matter{'s' * (matter == 1)}: {'; '.join(told)}{more}."
    if mains.empty:
        first = f"No main effect of the {count} choices can be told from zero."
    every = int((frame["kind"] == "interactions").sum())
    second = f"Of {every} estimable interactions or sums of them, {len(pairs) or 'none'} can be told from zero"
    if len(pairs):
        second += f": {'; '.join(f'{row.effect} {_words(row, unit)}' for row in pairs.head(2).itertuples())}"
    return capital(f"{first} {second}." if every else first)


def _words(row: "tuple[object, ...]", unit: str) -> str:
    low, high = signed(row.low), signed(row.high)  # type: ignore[attr-defined]
    return f"({signed(row.difference)} {unit} [{low}, {high}])"  # type: ignore[attr-defined]
