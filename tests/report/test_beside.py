"""Another sweep and published figures beside ours: only what is comparable, and said so."""

import csv
import dataclasses
import math
from pathlib import Path

import pandas as pd
import pytest

from msd_sweeps.report.__main__ import PUBLISHED as SHIPPED
from msd_sweeps.report.beside import beside_published, compare_sweeps, read_published
from msd_sweeps.report.frames import read
from msd_sweeps.report.results import results_of
from msd_sweeps.space.trial import changed
from tests.synthetic_ledger import Recipe, make_sweep, records, write


def results(folder, design="leave_one_out", recipe=None, seed=0, edit=lambda record: record, **changes):
    every = [edit(record) for record in records(make_sweep(design, **changes), recipe, seed)]
    return results_of(read(write(folder, every)))


def test_two_sweeps_meet_in_the_cells_they_share(tmp_path):
    ours = results(tmp_path / "a")
    theirs = results(tmp_path / "b", "one_at_a_time", seed=1, seeds=[0, 1, 2])
    shown = compare_sweeps(ours, theirs)
    frame = shown.frame.set_index("label")
    # The full method is the base; scales [1] and no feature loss are cells of both; so is KD under another label.
    assert set(frame.index) == {"full", "without multiple scales", "without feature-wise loss", "KD"}
    assert (frame["pairs"] == 3).all()
    assert frame["paired"].all()
    assert (frame["n"] == 5).all()
    assert (frame["other_n"] == 3).all()
    assert "3 of leave_one_out" in shown.table.text(200)


def test_a_sweep_beside_itself_differs_by_nothing(tmp_path):
    ours = results(tmp_path / "a")
    _, frame, table = compare_sweeps(ours, ours)
    assert (frame["difference"] == 0).all()
    assert (frame["equal_runs"] == 5).all()
    assert "35 pairs of runs" in " ".join(table.notes)


def test_sweeps_without_shared_seeds_are_compared_unpaired(tmp_path):
    frame = compare_sweeps(results(tmp_path / "a"), results(tmp_path / "b", seeds=[10, 11, 12])).frame
    assert not frame["paired"].any()
    assert frame["difference_low"].notna().all()
    assert compare_sweeps(results(tmp_path / "c"), results(tmp_path / "d", "search")).frame.columns.tolist()


PUBLISHED = [
    ["dataset", "teacher", "student", "method", "top1", "std", "epoch_rule", "source"],
    ["digits", "resnet20", "resnet8", "KD", "80.5", "0.24", "last", "A paper"],
    ["digits", "resnet20", "resnet8", "student_scratch", "70.0", "", "best", "A repository"],
    ["digits", "resnet20", "resnet8", "teacher_alone", "99.0", "", "last", "A paper"],
    ["digits", "resnet56", "resnet8", "KD", "1.0", "", "last", "another pair"],
    ["cifar100", "resnet20", "resnet8", "KD", "2.0", "", "last", "another data set"],
    ["digits", "resnet20", "resnet8", "CRD", "3.0", "", "last", "a method that did not run"],
]


def test_published_figures_stand_beside_the_same_pair_and_method_only(tmp_path):
    with (tmp_path / "published.csv").open("w", newline="") as file:
        csv.writer(file).writerows(PUBLISHED)
    ours = results(tmp_path / "a")
    _, frame, table = beside_published(ours, read_published(tmp_path / "published.csv"))
    assert frame[["label", "method"]].values.tolist() == [
        ["KD", "KD"],
        ["no teacher", "student_scratch"],
        ["teacher resnet20", "teacher_alone"],
    ]
    assert frame["epoch_rule"].tolist() == ["last", "best", "last"]
    mean = next(cell for cell in ours.cells if cell.label == "KD").interval.mean
    assert frame["difference"].iloc[0] == pytest.approx(mean - 80.5)
    assert math.isnan(frame["published_std"].iloc[1])
    text = table.text(200)
    assert "80.50 (std 0.24)" in text
    assert "A repository" in text


def test_a_method_that_also_distils_the_logits_is_another_method(tmp_path):
    figure = dict(zip(PUBLISHED[0], PUBLISHED[1], strict=True)) | {"top1": 80.5, "std": 0.24}
    figures = pd.DataFrame([figure | {"method": method} for method in ("CRD", "CRD+KD", "KD", "SDD")])
    ours = results(tmp_path)
    cell = next(cell for cell in ours.cells if cell.label == "KD")

    def found(name: str, **method: object) -> list[str]:
        trial = changed(cell.trial, {"method": {"name": name, **method}})
        one = dataclasses.replace(ours, cells=[dataclasses.replace(cell, trial=trial)])
        return beside_published(one, figures).frame["method"].tolist()

    assert found(name="crd", kd_weight=0.0) == ["CRD"]
    assert found(name="crd", kd_weight=1.0) == ["CRD+KD"]
    assert found(name="kd", kd_weight=0.9) == ["KD"]
    assert found(name="sdd", kd_weight=0.9) == ["SDD"]
    assert found(name="msd", kd_weight=0.9) == []


def test_the_shipped_published_figures_are_read():
    rows = read_published(Path(__file__).resolve().parents[2] / SHIPPED)
    assert len(rows) > 500
    assert rows["top1"].between(0, 100, inclusive="neither").all()
    assert (rows[["source", "epoch_rule"]] != "").all(axis=None)


def test_recipes_of_the_synthetic_ledger_are_deterministic(tmp_path):
    first = write(tmp_path / "a", records(make_sweep("grid"), Recipe())).read_bytes()
    assert write(tmp_path / "b", records(make_sweep("grid"), Recipe())).read_bytes() == first
