"""The best test epoch beside the last, on request only: it is chosen on the test set and so stands too high."""

import math

from msd_sweeps.report.results import Results
from msd_sweeps.report.stats import mean_interval
from msd_sweeps.report.tables import NOTHING, mean_text
from msd_sweeps.report.writing import rounded


def add_best_epoch(results: Results) -> None:
    """Add the mean over seeds of each cell's best test epoch to the result table, marked for what it is.

    Where the ledger has the test metric at the last epoch alone, as this project measures it, only a note is added.
    """
    name, history = results.value.name, results.frames.history
    shown, frame = results.table.shown, results.table.frame
    measured = history[history[name].notna()] if name in history.columns else history.iloc[:0]
    if not measured.groupby("trial").size().gt(1).any():
        shown.notes.append("Best epoch: not known, because the test set was measured at the last epoch alone.")
        return
    trials = results.frames.trials
    finished = trials.loc[(trials["state"] == "finished") & (trials["phase"] != "search"), ["trial", "cell"]]
    of_trial = measured.merge(finished, on="trial").groupby(["cell", "trial"], sort=True)[name]
    best = of_trial.max() if results.value.higher_is_better else of_trial.min()
    texts, means = [], []
    for cell in frame["cell"]:
        values = best.loc[cell].tolist() if cell and cell in best.index.get_level_values("cell") else []
        interval = mean_interval(values)
        texts.append(mean_text(*interval) if values else NOTHING)
        means.append(rounded(interval.mean) if values else math.nan)
    frame["best_epoch_mean"] = means
    place = len(shown.columns) - 1
    shown.columns.insert(place, "best epoch †")
    shown.numeric.insert(place, True)
    for row, text in zip(shown.rows, texts, strict=True):
        row.insert(place, text)
    shown.notes.append("† the best epoch of each run, selected on the test set: not comparable with the last epoch.")
