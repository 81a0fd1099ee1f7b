"""Two sweeps side by side, over the cells that both have."""

import pandas as pd

from msd_sweeps.report.cells import replicate_order
from msd_sweeps.report.comparisons import difference_columns, difference_of, with_holm
from msd_sweeps.report.escaping import short
from msd_sweeps.report.results import Results
from msd_sweeps.report.table_formats import Table
from msd_sweeps.report.tables import difference_text, mean_text, p_text


def compare_sweeps(ours: Results, theirs: Results) -> pd.DataFrame:
    """A row a cell that both sweeps have: both means and their difference, paired where seeds are shared.

    Cells are the same where their configurations are, seeds apart. Differences are `ours - theirs`.
    """
    other = {cell.cell: cell for cell in theirs.cells if cell.cell}
    rows = []
    for cell in ours.cells:
        if cell.cell in other:
            twin = other[cell.cell]
            mine, its = cell.interval, twin.interval
            shared = set(cell.values) & set(twin.values)
            same = sum(cell.values[key] == twin.values[key] for key in sorted(shared, key=replicate_order))
            rows.append(
                {
                    "label": cell.label,
                    "other_label": twin.label,
                    "cell": cell.cell,
                    "n": mine.n,
                    "mean": mine.mean,
                    "low": mine.low,
                    "high": mine.high,
                    "other_n": its.n,
                    "other_mean": its.mean,
                    "other_low": its.low,
                    "other_high": its.high,
                    "equal_runs": same,
                    **difference_columns(difference_of(cell, twin), ""),
                }
            )
    names = [
        "label",
        "other_label",
        "cell",
        "n",
        "mean",
        "low",
        "high",
        "other_n",
        "other_mean",
        "other_low",
        "other_high",
        "equal_runs",
        *difference_columns(None, ""),
    ]
    return with_holm(pd.DataFrame(rows, columns=names)).drop(columns="baseline")


def comparison_table(frame: pd.DataFrame, ours: Results, theirs: Results) -> Table:
    """The table of `compare_sweeps`."""
    names = [short(results.frames.header.name, 30) or "?" for results in (ours, theirs)]
    rows = []
    for row in frame.to_dict("records"):
        label = row["label"] if row["label"] == row["other_label"] else f"{row['label']} / {row['other_label']}"
        difference = difference_text(row["difference"], row["difference_low"], row["difference_high"])
        rows.append(
            [
                short(label),
                mean_text(row["mean"], row["low"], row["high"], row["n"]),
                str(row["n"]),
                mean_text(row["other_mean"], row["other_low"], row["other_high"], row["other_n"]),
                str(row["other_n"]),
                difference + " unpaired" * bool(row["pairs"] and not row["paired"]),
                p_text(row["p_holm"], bool(row["testable"]), row["pairs"]),
            ]
        )
    mine = sum(bool(cell.cell) for cell in ours.cells) - len(frame)
    its = sum(bool(cell.cell) for cell in theirs.cells) - len(frame)
    title = ours.value.title[:1].upper() + ours.value.title[1:]
    notes = [
        f"{title}, last epoch. Only cells that both sweeps have; {mine} of {names[0]} and {its} of "
        f"{names[1]} have no counterpart. Paired where two seeds or more are shared, else Welch's interval."
    ]
    if same := int(frame["equal_runs"].sum()):
        pairs = "1 pair of runs" if same == 1 else f"{same} pairs of runs"
        notes.append(f"{pairs} with one seed gave exactly the same result in both.")
    columns = ["", names[0], "n", names[1], "n", f"difference ({ours.value.unit})", "p (Holm)"]
    return Table(columns, rows, [False, *[True] * 6], notes=notes)
