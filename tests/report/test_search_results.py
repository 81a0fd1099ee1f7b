"""What a search is said to have found."""

import pandas as pd
import pytest

from msd_sweeps.catalog.datasets import DATASETS
from msd_sweeps.catalog.networks import NETWORKS
from msd_sweeps.report.compiling import compile_report
from msd_sweeps.report.frames import read
from msd_sweeps.report.results import FEWEST, front_of, importances, results_of
from tests.synthetic_ledger import Recipe, every_third_stopped, make_sweep, records, write


def searched(folder, samples=60, recipe=None):
    sweep = make_sweep("search", search={"num_samples": samples, "val_fraction": 0.25})
    return read(write(folder, records(sweep, recipe or Recipe())))


def test_the_parameter_that_decides_is_the_most_important(tmp_path):
    decides = Recipe(score=lambda config: 70.0 + 20.0 * config["method"].get("sample_weight", 0), spread=0.01)
    frame = importances(searched(tmp_path, 200, decides))
    assert frame["parameter"].iloc[0] == "method.sample_weight"
    assert frame["importance"].iloc[0] > 0.6
    assert frame["importance"].sum() == pytest.approx(1, abs=1e-5)
    assert frame["importance"].is_monotonic_decreasing


def test_importances_need_enough_finished_trials(tmp_path):
    assert importances(searched(tmp_path / "few", FEWEST - 1)).empty
    assert len(importances(searched(tmp_path / "enough", FEWEST))) == 4
    stopped = searched(tmp_path / "stopped", 3 * FEWEST, Recipe(stop=lambda p: 2 if p.phase == "search" else None))
    assert importances(stopped).empty


def test_the_winners_curse_is_the_score_then_less_the_score_on_fresh_seeds(tmp_path):
    lucky = Recipe(score=lambda config: 80.0, spread=2.0)
    results = results_of(searched(tmp_path, 60, lucky))
    table = results.table.set_index("label")
    for row in results.confirmation.to_dict("records"):
        assert row["drop"] == pytest.approx(row["search_score"] - table.loc[row["label"], "mean"])
    # All configurations are equal here, so the best of sixty is luck that fresh seeds do not repeat.
    assert (results.confirmation["drop"] > 0.5).all()


def test_stopped_trials_never_count_as_scores(tmp_path):
    results = results_of(searched(tmp_path, 30, Recipe(stop=every_third_stopped)))
    winners = results.confirmation["search_score"]
    trials = results.frames.trials
    finished = trials[(trials["phase"] == "search") & (trials["state"] == "finished")]["val_top1"]
    assert winners.max() == finished.max()


SIZES = ["resnet8", "resnet14", "resnet20", "resnet32"]
SEVERAL = {
    "metric": [{"name": "val_top1"}, {"name": "student_multiply_adds"}],
    "scheduler": {"type": "none"},
    "parameters": {"student.model": {"choices": SIZES}, "method.sample_weight": {"low": 0.1, "high": 4.0, "log": True}},
}


def searched_by_several(folder):
    sweep = make_sweep("search", search={"num_samples": 24, "val_fraction": 0.25}, **SEVERAL)
    bigger_is_better = Recipe(score=lambda config: 60.0 + 5 * SIZES.index(config["student"]["model"]), spread=1.0)
    return write(folder, records(sweep, bigger_is_better))


def test_the_front_is_of_finished_search_trials_that_no_other_beats(tmp_path):
    frames = read(searched_by_several(tmp_path))
    trials = frames.trials
    assert [*trials["student_multiply_adds"]] == [
        NETWORKS[model].multiply_adds_at(DATASETS["digits"].image_size) for model in trials["student.model"]
    ]
    frame = front_of(frames)
    assert sorted(frame["trial"]) == sorted(trials.loc[trials["phase"] == "search", "trial"])
    front, rest = frame[frame["front"]], frame[~frame["front"]]
    assert front["val_top1"].is_monotonic_decreasing
    assert front["student_multiply_adds"].is_monotonic_decreasing
    assert 1 < len(front) < len(frame)
    for row in rest.itertuples():
        better = (front["val_top1"] >= row.val_top1) & (front["student_multiply_adds"] <= row.student_multiply_adds)
        assert better.any()


def test_a_report_of_several_metrics_shows_the_front(tmp_path):
    path = searched_by_several(tmp_path / "sweep")
    compile_report(path, tmp_path / "report")
    page = (tmp_path / "report" / "report.md").read_text()
    assert "the search looks for their Pareto front" in page
    table = page.partition("Pareto front of the search")[2].partition("\n#")[0]
    frame = front_of(read(path))
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert [row.split("|")[1].strip() for row in rows] == [str(n) for n in frame.loc[frame["front"], "number"]]
    assert [row.split("|")[-2].strip() for row in rows[:2]] == ["winner 1", "winner 2"]
    written = pd.read_csv(tmp_path / "report" / "figures" / "pareto.csv")
    assert written["front"].tolist() == frame["front"].tolist()
    assert (tmp_path / "report" / "figures" / "pareto.svg").stat().st_size > 1000
    assert "Pareto front of the search" in (tmp_path / "report" / "report.html").read_text()


def test_a_search_by_one_metric_has_no_front(tmp_path):
    assert front_of(searched(tmp_path)).empty
