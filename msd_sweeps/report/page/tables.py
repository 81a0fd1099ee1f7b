"""Tables of the page beside the result table: the base, effects, the Pareto front, what search scores were worth."""

from msd_sweeps.report.cells import PRIVATE, metric_title, short_path, value_text
from msd_sweeps.report.comparisons import test_notes
from msd_sweeps.report.escaping import short
from msd_sweeps.report.figures.cost import front_of
from msd_sweeps.report.figures.search import NO_RESULT
from msd_sweeps.report.results import Results
from msd_sweeps.report.search import chosen
from msd_sweeps.report.table_formats import Table
from msd_sweeps.report.tables import difference_text, mean_text, p_text
from msd_sweeps.space.overrides import flatten
from msd_sweeps.space.trial import Trial

MOST_OF_FRONT = 30
"""Trials of the front that the page lists; the figure's CSV has them all."""


def base_table(base: Trial) -> Table:
    """A row a part of the base. Places of the machine that ran are left out."""
    parts: dict[str, list[str]] = {}
    for path, value in flatten(base.model_dump(mode="json")).items():
        part, _, name = path.partition(".")
        if name and path not in PRIVATE:
            parts.setdefault(part, []).append(f"{name}={value_text(value)}")
    return Table(["part", "settings"], [[part, ", ".join(told)] for part, told in parts.items()], [False, False])


def effects_table(results: Results) -> Table:
    """A row an effect of the design."""
    rows = []
    left_out = results.design == "leave_one_out"
    for row in results.effects.to_dict("records"):
        difference = difference_text(row["difference"], row["difference_low"], row["difference_high"])
        p = p_text(row["p_holm"], bool(row["testable"]), row["pairs"])
        change = f"{row['factor']}: {row['level']} instead of {row['reference']}"
        change = f"without {row['level']}" if left_out else change
        rows.append([short(change, 90), str(row["pairs"]), difference, p])
    against = "the full method" if left_out else "the level named"
    notes = [f"Differences to {against}, paired by seed; 95 % t intervals, not corrected for their number."]
    notes += test_notes(results.effects)
    if results.design == "grid":
        notes.append("Each seed's mean over the blocks (levels of the other factors) in which both levels finished.")
    columns = ["change", "pairs", results.value.difference_title, "p (Holm)"]
    return Table(columns, rows, [False, True, True, True], notes=notes)


def front_table(results: Results) -> Table | None:
    """The trials of the front: their values, their settings, and as what they were confirmed; None where none."""
    every = front_of(results.frames)
    if every.empty:
        return None
    front = every[every["front"]]
    names = list(front.columns[2:-1])
    confirmed = {cell.search_trial: cell.label for cell in results.cells if cell.search_trial}
    values = chosen(results.frames, front["trial"])
    rows = []
    for place, row in enumerate(front.head(MOST_OF_FRONT).to_dict("records")):
        settings = {short_path(name): column[place] for name, column in values.items() if column[place] is not None}
        told = ", ".join(f"{name}={value_text(value)}" for name, value in settings.items())
        scores = [f"{row[name]:,.0f}" if name == "student_parameters" else f"{row[name]:.2f}" for name in names]
        rows.append([str(row["number"]), *scores, short(told, 160), short(confirmed.get(row["trial"], ""))])
    notes = [
        f"{len(front)} of {len(every)} finished search trials are on the front: no other is as good in every metric "
        f"and better in one. {NO_RESULT}"
    ]
    if len(front) > MOST_OF_FRONT:
        notes.append(f"{len(front) - MOST_OF_FRONT} more are in figures/pareto.csv.")
    columns = ["search trial", *map(metric_title, names), "settings", "confirmed as"]
    return Table(columns, rows, [True, *(True for _ in names), False, False], notes=notes)


def confirmation_table(results: Results) -> Table:
    """A row a winner: its search score beside what it reached on fresh seeds."""
    rows = []
    for row in results.confirmation.to_dict("records"):
        confirmed = mean_text(row["mean"], row["low"], row["high"], row["n"])
        gap = difference_text(row["drop"], float("nan"), float("nan"))
        rows.append([short(row["label"]), f"{row['search_score']:.2f}", confirmed, str(row["n"]), gap])
    note = (
        "The search's score is the best of many on one seed and on held-out images; the confirmed one is on fresh "
        "seeds and the test set, after training on all images. Their gap holds selection, other images and more data "
        "together."
    )
    score = metric_title(results.frames.metric.name)
    columns = ["", f"search: {score}", f"confirmed: {results.value.title}", "n", "search minus confirmed"]
    return Table(columns, rows, [False, True, True, True, True], notes=[note])
