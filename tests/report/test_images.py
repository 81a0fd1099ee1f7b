"""Predictions are kept bit for bit, and intervals over seeds and images cover what they say."""

import base64

import numpy as np
import pytest
from scipy import stats as scipy_stats

from msd_sweeps.records.predictions import predictions_of
from msd_sweeps.report.compiling import compile_report
from msd_sweeps.report.frames import read
from msd_sweeps.report.images import agreement, images_of, mcnemar, over_seeds_and_images
from msd_sweeps.report.results import results_of
from msd_sweeps.report.same_images import same_images
from tests.synthetic_ledger import make_sweep, records, write


def test_ten_thousand_images_take_1250_bytes_and_come_back():
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 100, 10_000)
    predicted = np.where(draw.random(10_000) < 0.7, labels, draw.integers(0, 100, 10_000))
    kept = predictions_of(predicted.tolist(), labels.tolist())
    assert len(base64.b64decode(kept["right"])) == 1250
    assert len(kept["classes"]) < 16_000
    found = images_of({"a": kept, "b": kept}, {"t": kept})
    assert found.trials == ["a", "b"]
    assert (found.right == (predicted == labels)).all()
    assert (found.classes == predicted).all()
    assert (found.teachers["t"] == predicted).all()


@pytest.mark.parametrize("images", [0, 1, 7, 8, 9])
def test_any_number_of_images_comes_back(images):
    predicted, labels = [300] * images, [300, 1] * images
    found = images_of({"a": predictions_of(predicted, labels[:images])}, {})
    assert found.right.tolist() == [[place % 2 == 0 for place in range(images)]]
    assert found.classes.tolist() == [predicted]


def test_a_crossed_design_is_worked_by_hand():
    """Two seeds, four images: the three mean squares of a two-way table."""
    ours = np.array([[1, 1, 1, 0], [1, 1, 0, 0]])
    theirs = np.array([[0, 1, 1, 0], [0, 0, 0, 0]])
    difference = 100.0 * (ours - theirs)  # [[100, 0, 0, 0], [100, 100, 0, 0]]
    mean, of_seeds, of_images = 37.5, np.array([25.0, 50.0]), np.array([100.0, 50.0, 0.0, 0.0])
    between_seeds = 4 * ((of_seeds - mean) ** 2).sum()
    between_images = 2 * ((of_images - mean) ** 2).sum() / 3
    rest = ((difference - of_seeds[:, None] - of_images + mean) ** 2).sum() / 3
    found = over_seeds_and_images(ours, theirs)
    together = between_seeds + max(0, between_images - rest)
    assert found.mean == mean
    assert found.error == pytest.approx(np.sqrt(together / 8))
    assert found.freedom == pytest.approx(together**2 / between_seeds**2)


@pytest.mark.parametrize(("seeds", "shift"), [(3, 0.0), (5, 0.3), (10, 0.0), (1, 0.0)])
def test_intervals_cover_the_difference_of_other_seeds_and_images(seeds, shift):
    """Two methods on images that are harder for one or the other, whatever the seed."""
    draw, covered, sweeps, wider = np.random.default_rng(seeds), 0, 400, 0
    truth = 100 * (1 - 2 * scipy_stats.norm.cdf(0))  # both are right equally often in the long run
    for _ in range(sweeps):
        hard, own = draw.normal(size=400), draw.normal(size=(2, 400), scale=0.7)
        luck = draw.normal(size=(seeds, 1, 1), scale=0.2) if seeds > 1 else np.zeros((1, 1, 1))
        own_luck = draw.normal(size=(seeds, 2, 1), scale=0.1) if seeds > 1 else np.zeros((1, 2, 1))
        ease = 1.2 + shift + luck + own_luck - hard - own + draw.normal(size=(seeds, 2, 400), scale=0.5)
        found = over_seeds_and_images(ease[:, 0] > 0, ease[:, 1] > 0)
        half = found.error * scipy_stats.t.ppf(0.975, found.freedom)
        covered += abs(found.mean - truth) <= half
        alone = 100 * ((ease[:, 0] > 0).mean(axis=1) - (ease[:, 1] > 0).mean(axis=1))
        wider += seeds > 1 and half > scipy_stats.t.ppf(0.975, seeds - 1) * alone.std(ddof=1) / np.sqrt(seeds)
    assert 0.91 < covered / sweeps < 0.985
    assert seeds < 5 or wider / sweeps > 0.8  # three seeds say too little of themselves


def test_two_single_models_are_compared_by_mcnemars_exact_test():
    ours = np.array([True] * 9 + [False] * 1 + [True] * 50)
    theirs = np.array([False] * 9 + [True] * 1 + [True] * 50)
    assert mcnemar(ours, theirs) == pytest.approx(2 * (1 + 10) / 2**10)
    assert mcnemar(ours, ours) == 1.0


def test_agreement_is_over_all_pairs():
    one, two, three = np.array([[1, 2, 3, 4], [1, 2, 3, 0], [1, 2, 0, 0]])
    assert agreement([one, two, three]) == pytest.approx(100 * (0.75 + 0.5 + 0.75) / 3)
    assert np.isnan(agreement([one]))


def with_predictions(sweep, draw):
    """A synthetic ledger in which the teacher and every trial that is no search's kept what they predicted."""
    labels = draw.integers(0, 10, 400)
    for record in records(sweep):
        if record["event"] == "teacher":
            record["predictions"] = predictions_of(labels.tolist(), labels.tolist())
        if "test_top1" in record.get("metrics", {}):
            wrong = draw.random(400) > record["metrics"]["test_top1"] / 100
            predicted = np.where(wrong, (labels + 1) % 10, labels)
            record["metrics"]["test_calibration_error"] = 5.0
            record["predictions"] = predictions_of(predicted.tolist(), labels.tolist())
        yield record


@pytest.mark.parametrize("seeds", [[0], [0, 1, 2]])
def test_the_page_shows_what_was_predicted_for_the_same_images(tmp_path, seeds):
    sweep = make_sweep("leave_one_out", seeds=seeds)
    path = write(tmp_path / "a", with_predictions(sweep, np.random.default_rng(0)))
    results = results_of(read(path))
    frame = same_images(results).frame.set_index("label")
    assert set(frame.index) == {cell.label for cell in results.cells}
    predictions = results.frames.predictions
    accuracy = dict(zip(predictions.trials, 100 * predictions.right.mean(axis=1), strict=True))
    of_kd = [accuracy[trial] for trial, one in results.frames.records.items() if one.label == "KD"]
    assert frame.loc["KD", "teacher"] == pytest.approx(np.mean(of_kd))  # the teacher is always right here
    assert frame.loc["KD", "calibration"] == 5.0
    assert np.isnan(frame.loc["KD", "difference"])
    assert frame["mcnemar"].notna().sum() == (6 if len(seeds) == 1 else 0)
    assert frame["seeds"].notna().all() == (len(seeds) > 1)
    compile_report(path, tmp_path / "out")
    page = (tmp_path / "out" / "report.md").read_text()
    assert "## On the same images" in page
    assert ("McNemar" in page) == (len(seeds) == 1)
    assert (tmp_path / "out" / "images.csv").exists()


def test_a_ledger_without_predictions_has_no_such_table(tmp_path):
    results = results_of(read(write(tmp_path / "a", records(make_sweep("grid")))))
    assert results.frames.predictions.right.shape == (0, 0)
    table = same_images(results).table
    assert table.rows == table.notes == []
