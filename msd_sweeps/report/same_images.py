"""What cells predicted for the same test images: agreement, calibration, and intervals that count images, too."""

import math
from functools import partial

import numpy as np
import pandas as pd

from msd_sweeps.report.beside import Beside
from msd_sweeps.report.cells import Cell
from msd_sweeps.report.document import Column, Table
from msd_sweeps.report.formats import rounded_frame, short
from msd_sweeps.report.images import Images, agreement, mcnemar, over_seeds_and_images
from msd_sweeps.report.results import Results
from msd_sweeps.report.stats import mean_interval
from msd_sweeps.report.tables import difference_text, mean_text, number_text

_MEANS = {"teacher": "agreement with the teacher (%)", "nll": "NLL (nats)", "calibration": "calibration error (%)"}
_COLUMNS = [f"{name}{end}" for name in _MEANS for end in ("", "_low", "_high")]
_COLUMNS = ["label", "n", *_COLUMNS, "seeds", "difference", "low", "high", "mcnemar"]


def same_images(results: Results) -> Beside:
    """A row a cell whose trials kept their predictions.

    Columns: label, n, then agreement with the teacher, negative log-likelihood and calibration error with `_low` and
    `_high`, seeds (how often two seeds of the cell predict the same class, percent), difference to the baseline in
    accuracy over seeds and images with low and high, and McNemar's p where both have one model.
    """
    found, trials = results.frames.predictions, results.frames.trials.set_index("trial")
    places = {
        (results.frames.records[trial].cell, results.frames.records[trial].seed): place
        for place, trial in enumerate(found.trials)
    }
    teachers = {
        one.model: found.teachers[one.key] for one in results.frames.header.teachers if one.key in found.teachers
    }
    rows = []
    for cell in results.cells:
        own = _of(cell, places)
        if not own or cell.trial is None:
            continue
        classes = [found.classes[place] for place in own.values()]
        teacher = teachers.get(cell.trial.teacher.model)
        same = [100 * float((one == teacher).mean()) for one in classes] if teacher is not None else []
        measured = trials.loc[[found.trials[place] for place in own.values()]]
        columns = [
            measured[name].dropna().tolist() for name in ("test_loss", "test_calibration_error") if name in measured
        ]
        means = [mean_interval(values)[:3] for values in (same, *columns, *[[]] * (2 - len(columns)))]
        rows.append(
            (cell.label, len(own), *np.ravel(means), agreement(classes), *_against(results, cell, places, found))
        )
    frame = rounded_frame(pd.DataFrame(rows, columns=_COLUMNS))
    return Beside("On the same images", frame, _shown(frame))


def _of(cell: Cell, places: dict[tuple[str, int], int]) -> dict[int, int]:
    """The row of each finished seed of a cell."""
    return {seed: places[cell.cell, seed] for seed in sorted(cell.values) if (cell.cell, seed) in places}


def _against(
    results: Results, cell: Cell, places: dict[tuple[str, int], int], found: Images
) -> tuple[float, float, float, float]:
    """Difference to the baseline with its interval, and McNemar's p."""
    ours, theirs = _of(cell, places), _of(results.baseline, places) if results.baseline else {}
    shared = sorted(set(ours) & set(theirs))
    if not shared or cell is results.baseline:
        return (math.nan,) * 4
    pair = [found.right[[places_of[seed] for seed in shared]] for places_of in (ours, theirs)]
    (told,) = results.family.differences([over_seeds_and_images(*pair)])
    p = mcnemar(pair[0][0], pair[1][0]) if len(ours) == len(theirs) == 1 else math.nan
    return *told.interval[:3], p


def _shown(frame: pd.DataFrame) -> Table:
    columns: list[Column] = [("", False, lambda row: short(row["label"])), ("n", True, "n")]
    columns += [
        (title, True, partial(mean_text, mean=n, low=f"{n}_low", high=f"{n}_high")) for n, title in _MEANS.items()
    ]
    columns.append(("agreement of seeds (%)", True, number_text("seeds", 2)))
    notes = [
        "Agreement: how often the same class is predicted for a test image, by students and their teacher, and by two "
        "seeds of a row. Calibration error: 15 bins (Guo et al., ICML 2017). ±: half of a row's own 95 % t "
        "interval over its seeds."
    ]
    if frame["difference"].notna().any():
        title = "difference in top-1 over seeds and images (points)"
        columns.append((title, True, lambda row: difference_text(row["difference"], row["low"], row["high"])))
        notes.append(
            "The difference is for other seeds and other images of the same kind (Dorfman, Berbaum and Metz 1992, "
            "with Hillis' degrees of freedom), at the level of the table of results. That table is for these images."
        )
    if frame["mcnemar"].notna().any():
        columns.append(("McNemar's p", True, number_text("mcnemar", 3)))
        notes.append(
            "McNemar's exact p compares two single models on these images, and is not adjusted for other rows."
        )
    return Table(frame.to_dict("records"), columns, notes if len(frame) else ())
