"""The result table: every number is in the ledger, nothing is silently missing, names are only names."""

import csv
import io
import math
import re
import shutil
import statistics
import subprocess
from dataclasses import replace

import pandas as pd
import pytest
from scipy import stats as scipy_stats

from msd_sweeps.records import ledger
from msd_sweeps.records.files import write_whole
from msd_sweeps.records.trial_record import trials_of
from msd_sweeps.report.compiling import plain_text, table_files
from msd_sweeps.report.frames import read
from msd_sweeps.report.results import results_of
from msd_sweeps.report.tables import confirmation_table, difference_text, effects_table, result_table
from tests.synthetic_ledger import HOSTILE, Recipe, every_third_stopped, make_sweep, records, write


def compiled(folder, sweep, recipe=None, seed=0):
    """The ledger's path, the table as text, and its frame as read back from the written file."""
    path = write(folder / "run", records(sweep, recipe, seed))
    results = results_of(read(path))
    for name, content in table_files(results).items():
        write_whole(folder / "report" / name, content)
    return path, plain_text(results), pd.read_parquet(folder / "report" / "table.parquet")


def finished_values(path):
    """label -> {seed: test_top1} straight from the records."""
    values = {}
    for trial in trials_of(ledger.read(path)).values():
        if trial.state == "finished" and trial.phase != "search":
            values.setdefault(trial.label, {})[trial.seed] = trial.metrics["test_top1"]
    return values


@pytest.mark.parametrize("design", ["search", "grid", "one_at_a_time", "leave_one_out"])
def test_every_number_can_be_found_in_the_ledger(tmp_path, design):
    path, text, table = compiled(tmp_path, make_sweep(design), Recipe(stop=every_third_stopped))
    values = finished_values(path)
    rows = table.set_index("label").drop(index="teacher resnet20")
    assert set(rows.index) == set(values)
    baseline = values["KD" if design == "leave_one_out" else "kd"]
    for label, of_seed in values.items():
        row = rows.loc[label]
        scores = list(of_seed.values())
        assert row["n"] == len(scores)
        assert row["mean"] == pytest.approx(statistics.mean(scores))
        half = scipy_stats.t.ppf(0.975, len(scores) - 1) * statistics.stdev(scores) / math.sqrt(len(scores))
        assert (row["high"] - row["low"]) / 2 == pytest.approx(half)
        if of_seed is not baseline:
            expected = statistics.mean(of_seed[seed] - baseline[seed] for seed in of_seed)
            assert row["difference"] == pytest.approx(expected)
        assert f"{row['mean']:.2f} ± {half:.2f}" in text
    assert all(len(line) <= 100 for line in text.splitlines())


@pytest.mark.parametrize("design", ["search", "grid"])
def test_every_table_of_rows_that_mix_says_which(tmp_path, design):
    """The search and some rows ran with an older torch; methods differ in what is their own."""

    def with_facts(record):
        if record["event"] == "start":
            is_old = record["phase"] == "search" or (design == "grid" and record["seed"] == 3)
            name = record["config"]["method"]["name"]
            facts = {"torch": "2.7" if is_old else "2.8", f"method {name}": name, "device": "cpu"}
            record["fingerprint"] = facts
        return record

    every = [with_facts(record) for record in records(make_sweep(design), Recipe(), 0)]
    results = results_of(read(write(tmp_path / "mixed", every)))
    shown = [
        table for table in (result_table(results), effects_table(results), confirmation_table(results)) if table.rows
    ]
    assert len(shown) == 2
    for table in shown:
        (note,) = [note for note in table.notes if note.startswith("Rows mix")]
        assert re.search("torch: .*2.7 in ", note)
        assert ("the search" in note) == (design == "search")
        assert "method" not in note.replace("method=", "")
    alike = [{**record, "fingerprint": {"torch": "2.8"}} if record["event"] == "start" else record for record in every]
    assert "Rows mix" not in plain_text(results_of(read(write(tmp_path / "alike", alike))))


def test_the_table_says_how_many_images_each_row_saw(tmp_path):
    _, text, _ = compiled(tmp_path / "search", make_sweep("search"))
    assert "Images trained on: 400 in all rows; 300 in the search, which held 100 out." in text.replace("\n", " ")
    sweep = make_sweep("one_at_a_time")
    fewer = {"data.train_samples": 128}
    sweep = replace(sweep, space=sweep.space.model_copy(update={"also": {"fewer": fewer}}))
    _, text, _ = compiled(tmp_path / "fewer", sweep)
    assert "; 128 in fewer." in text.replace("\n", " ")


def test_winners_carry_the_search_score_they_were_chosen_by(tmp_path):
    path, _, table = compiled(tmp_path, make_sweep("search"), Recipe(stop=every_third_stopped))
    searched = [
        trial.metrics["val_top1"]
        for trial in trials_of(ledger.read(path)).values()
        if trial.phase == "search" and trial.state == "finished"
    ]
    best = sorted(searched, reverse=True)
    scores = table.set_index("label")["search_score"]
    assert [scores["winner 1"], scores["winner 2"]] == best[:2]
    assert math.isnan(scores["kd"])


def test_failed_and_unbegun_cells_stand_in_the_table_with_their_reason(tmp_path):
    recipe = Recipe(
        fail=lambda planned: ("diverged", "loss is inf") if planned.label == "without categorisation" else None,
        skip=lambda planned: planned.label == "no teacher" or (planned.label == "full" and planned.trial.seed == 3),
    )
    _, text, table = compiled(tmp_path, make_sweep("leave_one_out"), recipe)
    rows = table.set_index("label")
    assert rows.loc["without categorisation", "n"] == rows.loc["no teacher", "n"] == 0
    assert math.isnan(rows.loc["without categorisation", "mean"])
    assert "seed 0 diverged: loss is inf" in rows.loc["without categorisation", "note"]
    assert rows.loc["no teacher", "note"] == "not run"
    assert (rows.loc["full", "n"], rows.loc["full", "planned"]) == (4, 5)
    assert "4 of 5" in text
    assert "no teacher: not run" in text


def test_one_seed_gets_no_interval_and_says_so(tmp_path):
    _, text, table = compiled(tmp_path, make_sweep("leave_one_out", seeds=[7]))
    assert table["low"].isna().all()
    assert table["difference_low"].isna().all()
    assert "n = 1" in text
    assert "±" not in text.replace("mean ± half", "")


def test_p_bold_and_decision_say_what_the_interval_says(tmp_path):
    recipe = Recipe(score=lambda config: 90.0 + 0.6 * (config["method"]["name"] == "kd"))
    kinds = set()
    for seed in range(12):
        path = write(tmp_path / str(seed), records(make_sweep("leave_one_out"), recipe, seed))
        results = results_of(read(path))
        for frame, table in ((results.table, result_table(results)), (results.effects, effects_table(results))):
            for place, row in enumerate(frame.to_dict("records")):
                excludes = row["difference_low"] > 0 or row["difference_high"] < 0
                assert excludes == (row["p"] <= 0.05) == (row["decision"] in ("better", "worse"))
                assert any(at == place for at, _ in table.bold) == excludes
                kinds.add(row["decision"])
    assert kinds >= {"", "worse", "undecided"}


def test_the_family_is_named_and_counts_every_comparison_once(tmp_path):
    _, text, _ = compiled(tmp_path, make_sweep("leave_one_out"))
    # full, four without a part and no teacher against KD; four without a part against full.
    assert "All 10 intervals of the tables Results and Effects hold together at 95 %" in " ".join(text.split())
    every = list(records(make_sweep("leave_one_out", seeds=list(range(8)))))
    first = every[0] | {"space": every[0]["space"] | {"seeds": [0, 1, 2, 3, 4]}}
    once = results_of(read(write(tmp_path / "once", every)))
    twice = results_of(read(write(tmp_path / "twice", [first, *every])))
    assert (once.family.looks, once.family.further) == ((8,), ())
    assert (twice.family.looks, twice.family.further) == ((5,), (8,))
    wider = twice.table["difference_high"] - once.table["difference_high"]
    assert (wider.dropna() > 0).all()
    assert "added after that at 8 seeds" in plain_text(twice).replace("\n  ", " ")


def test_without_shared_seeds_a_difference_is_called_unpaired(tmp_path):
    odd = Recipe(skip=lambda planned: (planned.label == "KD") == (planned.trial.seed % 2 == 0))
    _, text, table = compiled(tmp_path, make_sweep("leave_one_out"), odd)
    row = table.set_index("label").loc["full"]
    assert not row["paired"]
    assert not math.isnan(row["difference_low"])
    assert "unpaired" in text


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ((0.614, 0.22, 1.0), "+0.61 [0.22, 1.00]"),
        ((-0.614, -1.0, -0.22), "−0.61 [−1.00, −0.22]"),
        ((-0.004, -0.3, 0.3), "0.00 [−0.30, 0.30]"),
        ((0.004, -0.001, 0.3), "0.00 [0.00, 0.30]"),
        ((0.5, math.nan, math.nan), "+0.50"),
    ],
)
def test_a_difference_has_a_sign_unless_it_is_shown_as_zero(numbers, text):
    assert difference_text(*numbers) == text


def test_bold_only_where_an_interval_says_so(tmp_path):
    clear = Recipe(score=lambda config: 90.0 if config["method"]["name"] == "kd" else 80.0)
    compiled(tmp_path / "clear", make_sweep("leave_one_out"), clear)
    lines = (tmp_path / "clear/report/table.tex").read_text().splitlines()
    assert [line.split(" & ")[0] for line in lines if "\\textbf{$-$" in line] == [
        "full",
        "without multiple scales",
        "without sample-wise loss",
        "without feature-wise loss",
        "without categorisation",
        "no teacher",
    ]
    compiled(tmp_path / "same", make_sweep("leave_one_out"), Recipe(score=lambda config: 80.0))
    assert "\\textbf" not in (tmp_path / "same/report/table.tex").read_text()


def test_hostile_names_survive_in_every_format(tmp_path):
    without = {name: {"method.scales": [1], "method.sample_weight": 0.1 * i} for i, name in enumerate(HOSTILE)}
    _, text, table = compiled(tmp_path, make_sweep("leave_one_out", without=without))
    folder = tmp_path / "report"
    labels = table["label"].tolist()
    assert all(f"without {name}" in labels for name in HOSTILE)

    markdown = (folder / "table.md").read_text().split("\n\n")[0].splitlines()
    assert len(markdown) == 2 + len(labels)
    columns = {len(line.replace("\\|", "").strip("|").split("|")) for line in markdown}
    assert len(columns) == 1
    assert "<script" not in "".join(markdown)

    rows = list(csv.reader(io.StringIO((folder / "table.csv").read_text())))
    assert len(rows) == 1 + len(labels)
    assert not any(field[:1] in "=+@" and field for row in rows for field in row)

    latex = (folder / "table.tex").read_text()
    assert "\\input" not in latex.replace("\\textbackslash{}input", "")
    assert latex.isascii()
    assert len([line for line in latex.splitlines() if line.endswith(r"\\")]) == 1 + len(labels)

    assert "\x1b" not in text


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex with booktabs")
def test_the_latex_table_compiles_whatever_the_names(tmp_path):
    without = {name: {"method.scales": [1], "method.sample_weight": 0.1 * i} for i, name in enumerate(HOSTILE)}
    compiled(tmp_path, make_sweep("leave_one_out", without=without, seeds=[0, 1]))
    document = (
        "\\documentclass{article}\\usepackage[T1]{fontenc}\\usepackage{booktabs,threeparttable}"
        "\\usepackage[paperwidth=60in]{geometry}"
        "\\begin{document}\\input{report/table.tex}\\end{document}"
    )
    (tmp_path / "paper.tex").write_text(document)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "paper.tex"]
    told = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert told.returncode == 0, told.stdout[-2000:]
    assert "Missing character" not in told.stdout
    assert "root:" not in told.stdout
