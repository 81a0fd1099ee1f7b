"""Another sweep and published figures beside ours: only what is comparable, and said so."""

import csv
import dataclasses
import math
from pathlib import Path

import pandas as pd

from msd_sweeps.report.__main__ import PUBLISHED as SHIPPED
from msd_sweeps.report.beside import beside_published, compare_sweeps, read_published
from msd_sweeps.report.frames import read
from msd_sweeps.report.published import UNKNOWN, what_differs
from msd_sweeps.report.results import results_of
from msd_sweeps.space.load import load, load_base
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
    ["dataset", "teacher", "student", "method", "top1", "std", "epoch_rule", "source", "settings"],
    ["digits", "resnet20", "resnet8", "KD", "80.5", "0.24", "last", "A paper", ""],
    ["digits", "resnet20", "resnet8", "student_scratch", "70.0", "", "best", "A repository", ""],
    ["digits", "resnet20", "resnet8", "teacher_alone", "99.0", "", "last", "A paper", ""],
    ["digits", "resnet56", "resnet8", "KD", "1.0", "", "last", "another pair", ""],
    ["cifar100", "resnet20", "resnet8", "KD", "2.0", "", "last", "another data set", ""],
    ["digits", "resnet20", "resnet8", "CRD", "3.0", "", "last", "a method that did not run", ""],
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
    assert frame["difference"].isna().all()  # of digits no recipe is published
    assert frame["differs"].tolist() == [
        "train_samples 400 (all), no published recipe of this pair is known here",
        "train_samples 400 (all), no published recipe of this pair is known here, last epoch (best)",
        "no published recipe of this pair is known here",
    ]
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


def test_a_difference_to_a_published_figure_needs_its_settings_images_and_recipe():
    base = changed(load_base("cifar100_resnet56_resnet20"), {"recipe.precision": "float32"})
    base = changed(base, {"teacher.recipe.precision": "float32"})
    dkd = changed(base, {"method": {"name": "dkd", "non_target_weight": 2.0}})
    assert what_differs(dkd, "{non_target_weight: 2.0}", "last") == ""
    assert what_differs(dkd, "", "last") == "non_target_weight 2 (8)"
    assert what_differs(dkd, "{non_target_weight: 2.0}", "best") == "last epoch (best)"
    assert what_differs(dkd, UNKNOWN, "last") == "the published settings are not known"
    for change, said in (
        ({"recipe.epochs": 2}, "epochs 2 (240)"),
        ({"recipe.precision": "bfloat16"}, "precision bfloat16 (float32)"),
        ({"data.train_samples": 10000}, "train_samples 10000 (all)"),
        ({"data.val_fraction": 0.1}, "val_fraction 0.1 (0)"),
        ({"teacher.recipe.epochs": 3}, "teacher's epochs 3 (240)"),
    ):
        assert what_differs(changed(dkd, change), "{non_target_weight: 2.0}", "last") == said
    none = changed(base, {"method": {"name": "none"}, "teacher.recipe.epochs": 3})
    assert what_differs(none, "", "last") == ""  # it has no teacher


def test_every_pair_runs_with_its_published_settings():
    rows = read_published(Path(__file__).resolve().parents[2] / SHIPPED)
    known = {(row.method.casefold(), row.teacher, row.student): row.settings for row in rows.itertuples()}
    names = {"shufflenetv1": "ShuffleV1", "shufflenetv2": "ShuffleV2"}
    checked = []
    for cell in load("pairs").cells():
        trial = changed(cell.trial, {"recipe.precision": "float32", "teacher.recipe.precision": "float32"})
        student = names.get(trial.student.model.lower(), trial.student.model)
        settings = known.get((trial.method.name, trial.teacher.model, student), UNKNOWN)
        if settings != UNKNOWN:
            assert what_differs(trial, settings, "last") == "", cell.label
            checked.append(trial.method.name)
    assert {name: checked.count(name) for name in ("kd", "crd", "dkd", "reviewkd")} == {
        "kd": 13,
        "crd": 13,
        "dkd": 11,
        "reviewkd": 8,
    }


def test_the_shipped_published_figures_are_read():
    rows = read_published(Path(__file__).resolve().parents[2] / SHIPPED)
    assert len(rows) > 500
    assert rows["top1"].between(0, 100, inclusive="neither").all()
    assert (rows[["source", "epoch_rule"]] != "").all(axis=None)


def test_recipes_of_the_synthetic_ledger_are_deterministic(tmp_path):
    first = write(tmp_path / "a", records(make_sweep("grid"), Recipe())).read_bytes()
    assert write(tmp_path / "b", records(make_sweep("grid"), Recipe())).read_bytes() == first
