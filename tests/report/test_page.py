"""Pages and figures: the same bytes for the same ledger, nothing empty, nothing active, nothing from outside."""

import base64
import hashlib
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest

from msd_sweeps.report import document
from msd_sweeps.report.compiling import compile_report
from msd_sweeps.report.figures import plots_of
from msd_sweeps.report.figures.style import GREY, style
from msd_sweeps.report.frames import read
from msd_sweeps.report.page import command_text
from msd_sweeps.report.results import results_of, search_trials
from msd_sweeps.report.tables import result_table
from msd_sweeps.report.verdict import verdict
from tests.synthetic_ledger import HOSTILE, Recipe, every_third_stopped, make_sweep, records, write

TEMPLATES = Path(document.__file__).with_name("templates")
EXPECTED = {
    "search": {
        "seeds",
        "effects",
        "history",
        "confirmation",
        "slices",
        "interaction_1",
        "importances",
        "learning_curves",
        "search_curves",
        "cost",
    },
    "grid": {"seeds", "effects", "scales", "interaction_1", "learning_curves", "cost"},
    "one_at_a_time": {"seeds", "effects", "scales", "slices", "learning_curves", "cost"},
    "leave_one_out": {"seeds", "effects", "learning_curves", "cost"},
}


def results_in(folder, design, recipe=None, **changes):
    sweep = make_sweep(design, **changes)
    return results_of(read(write(folder, records(sweep, recipe or Recipe(stop=every_third_stopped)))))


@pytest.mark.parametrize("design", EXPECTED)
def test_every_design_has_its_figures_and_their_numbers(tmp_path, design):
    more = {"search": {"num_samples": 40, "val_fraction": 0.25}} if design == "search" else {}
    figures = plots_of(results_in(tmp_path, design, **more))
    assert {figure.slug for figure in figures} == EXPECTED[design]
    for figure in figures:
        assert len(figure.frame)
        assert figure.caption
        for low, high in (("low", "high"), ("q10", "q90")):
            if {low, high} <= set(figure.frame.columns):
                known = figure.frame.dropna(subset=[low, high])
                assert (known[low] <= known[high]).all()


def test_no_mean_is_drawn_without_its_interval_or_a_word_why(tmp_path):
    for seeds in ([0], [0, 1, 2]):
        for figure in plots_of(results_in(tmp_path / str(len(seeds)), "one_at_a_time", seeds=seeds)):
            if "kind" in figure.frame.columns:
                means = figure.frame[figure.frame["kind"] == "mean"]
                assert means["low"].isna().any() == (len(seeds) == 1)
                assert ("no interval" in figure.caption) == (len(seeds) == 1)


def looks_in_legend(figure):
    """Colour and marker of cells by label."""
    (axis,) = figure.axes
    looks = {}
    for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
        line = getattr(handle, "lines", [handle])[0]
        looks[label.replace("\n", " ")] = (line.get_color(), line.get_marker())
    looks.pop("others", None)
    return looks


def looks_of_rows(figure):
    """Colour and marker of the mean in each row by the row's label."""
    (axis,) = figure.axes
    means = {float(mean.lines[0].get_ydata()[0]): mean.lines[0] for mean in axis.containers}
    labels = {place: text.get_text().replace("\n", " ") for place, text in enumerate(axis.get_yticklabels())}
    return {labels[place]: (mean.get_color(), mean.get_marker()) for place, mean in means.items()}


@pytest.mark.parametrize("design", ["grid", "leave_one_out", "search"])
def test_a_cell_looks_the_same_in_every_figure(tmp_path, design):
    more = {"search": {"num_samples": 24, "val_fraction": 0.25}} if design == "search" else {}
    results = results_in(tmp_path, design, **more)
    plots = {plot.slug: plot for plot in plots_of(results)}
    with style():
        rows = {slug: looks_of_rows(plots[slug].draw(plots[slug].frame)) for slug in ("seeds", "effects")}
        named = {slug: looks_in_legend(plots[slug].draw(plots[slug].frame)) for slug in ("learning_curves", "cost")}
    seeds = rows["seeds"]
    coloured = {name: look for name, look in seeds.items() if look[0] != GREY}
    assert len(set(coloured.values())) == len(coloured) >= 4
    assert named["learning_curves"] == coloured
    assert named["cost"] == coloured
    if design != "grid":  # where the rows of effects are levels of factors, and no cells
        assert len(rows["effects"]) >= 3
        assert rows["effects"].items() <= seeds.items()


class _Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.outside = [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        for name, value in attributes:
            if name.startswith("on"):
                self.outside.append((tag, name))
            if name in ("src", "href", "xlink:href") and value and not value.startswith(("#", "data:image/png")):
                self.outside.append((tag, value))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A report whose every name is hostile: cells, parts, levels, the sweep, reasons."""
    folder = tmp_path_factory.mktemp("hostile")
    without = {name: {"method.scales": [1], "method.sample_weight": 0.1 * i} for i, name in enumerate(HOSTILE)}
    sweep = make_sweep("leave_one_out", name="../../x<script>", without=without, seeds=[0, 1])
    bad = Recipe(fail=lambda planned: ("failed", HOSTILE[0] + HOSTILE[1]) if planned.trial.seed == 1 else None)
    path = write(folder / "run", records(sweep, bad))
    return folder, compile_report(path, folder / "reports" / "one")


def test_a_page_runs_nothing_and_loads_nothing(hostile):
    folder, report = hostile
    text = report.paths[0].read_text()
    page = _Page()
    page.feed(text)
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert scripts == [(TEMPLATES / "sort.js").read_text()]  # it sorts tables, and the browser runs no other
    assert page.tags.count("script") == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text
    files = {str(path.relative_to(folder / "reports/one")) for path in report.paths}
    assert page.outside
    assert all(tag == "a" and place in files for tag, place in page.outside)
    assert {"table", "svg", "figure", "details"} <= set(page.tags)
    assert "http" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", text.replace("http-equiv", ""))
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', text)) <= set(ids)
    assert "<script" not in (folder / "reports/one/report.md").read_text()


def test_names_never_leave_the_report_folder(hostile):
    folder, report = hostile
    assert {path.name for path in folder.iterdir()} == {"run", "reports"}
    assert [path.name for path in (folder / "reports").iterdir()] == ["one"]
    home = (folder / "reports" / "one").resolve()
    for path in report.paths:
        assert home in path.resolve().parents
        assert re.fullmatch(r"[a-z0-9_.]+", path.name)
        assert path.stat().st_size


def test_figures_are_well_formed_and_have_their_numbers_beside_them(hostile):
    _, report = hostile
    drawn = [path for path in report.paths if path.suffix == ".svg"]
    assert drawn
    for path in drawn:
        ElementTree.parse(path)
        assert len(pd.read_csv(path.with_suffix(".csv")))
        assert path.with_suffix(".pdf").read_bytes().startswith(b"%PDF")


def test_the_same_ledger_gives_the_same_bytes_in_another_process(tmp_path):
    sweep = make_sweep("search", search={"num_samples": 24, "val_fraction": 0.25})
    path = write(tmp_path / "run", records(sweep, Recipe(stop=every_third_stopped)))
    mine = compile_report(path, tmp_path / "mine")
    code = "import sys; from pathlib import Path; from msd_sweeps.report.compiling import compile_report; "
    code += "compile_report(Path(sys.argv[1]), Path(sys.argv[2]))"
    other, root = tmp_path / "other", Path(__file__).resolve().parents[2]
    settings = tmp_path / "settings"  # another machine's own look
    settings.mkdir()
    (settings / "matplotlibrc").write_text("font.size: 20\nlines.linewidth: 5\naxes.facecolor: red\n")
    environment = {
        **os.environ,
        "PYTHONHASHSEED": "1",
        "TZ": "Asia/Tokyo",
        "SOURCE_DATE_EPOCH": "9",
        "LANG": "tr_TR.UTF-8",
        "LC_ALL": "C",
        "HOME": str(tmp_path),
        "MPLCONFIGDIR": str(settings),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-c", code, str(path), str(other)]
    subprocess.run(command, check=True, env=environment, cwd=root, capture_output=True)
    files = {str(file.relative_to(tmp_path / "mine")) for file in mine.paths}
    assert {str(file.relative_to(other)) for file in other.rglob("*") if file.is_file()} == files
    for name in files:
        assert (other / name).read_bytes() == (tmp_path / "mine" / name).read_bytes(), name


def test_a_ledger_of_a_sweep_that_has_hardly_begun_compiles(tmp_path):
    every = list(records(make_sweep("search")))
    for length in (1, 60):
        report = compile_report(write(tmp_path / str(length), every[:length]), tmp_path / "report")
        assert all(path.stat().st_size for path in report.paths)
        assert "nothing can be said yet" in report.paths[0].read_text()


def test_figures_of_an_earlier_ledger_do_not_stay(tmp_path):
    stale = tmp_path / "report" / "figures" / "stale.svg"
    stale.parent.mkdir(parents=True)
    stale.write_text("old")
    compile_report(write(tmp_path / "run", records(make_sweep("leave_one_out", seeds=[0]))), tmp_path / "report")
    assert not stale.exists()


def test_the_verdict_claims_only_what_an_interval_shows(tmp_path):
    def of(name, recipe, **changes):
        return verdict(results_in(tmp_path / name, "leave_one_out", recipe, **changes))

    clear = of("clear", Recipe())
    assert re.search(r"The full method \(\+\d+\.\d\d points \[\d+\.\d\d, \d+\.\d\d\]\) beats KD; n = 5", clear)
    assert re.search(r"leaving out sample-wise loss \(−[^()]*\) and leaving out multiple scales \(−", clear)
    assert "make the result worse; the other 2 cannot be told from zero" in clear
    worse = of("worse", Recipe(score=lambda config: 90.0 if config["method"]["name"] == "kd" else 80.0))
    assert re.search(r"The full method \(−\d[^()]*\) falls behind KD", worse)
    same = of("same", Recipe(score=lambda config: 80.0))
    assert "cannot be told from KD" in same
    assert "Of 4 parts, none can be told from zero" in same
    assert "one seed shows no difference" in of("one", Recipe(), seeds=[0])
    assert "nothing can be said" in of("none", Recipe(skip=lambda planned: True))
    waiting = of("some", Recipe(skip=lambda planned: planned.trial.seed == 4))
    assert waiting.startswith("Stopped, 28 of 35 trials have ended: no answer holds before that.")


def test_every_row_of_a_comparison_is_named(tmp_path):
    methods = {
        "none": {"method": {"name": "none"}},
        "kd": {"method": {"name": "kd"}},
        "msd": {},
        "crd": {"method": {"name": "crd"}},
    }
    worth = {"none": 70.0, "kd": 80.0, "msd": 90.0, "crd": 92.0}
    recipe = Recipe(score=lambda config: worth[config["method"]["name"]])
    changes = {"parameters": {"method": {"choices": methods}}, "also": {}, "report": {"baseline": "method=kd"}}
    results = results_in(tmp_path, "grid", recipe, **changes)
    assert re.fullmatch(
        r"Best of 4 rows: crd\. Crd \(\+1[^()]* points [^()]*\) and msd \(\+[^()]*\) beat method=kd; "
        r"none \(−[^()]*\) falls behind method=kd; n = 5\.",
        verdict(results),
    )
    # With one factor the effects are the rows' own differences, so they are counted and shown once.
    assert results.effects_are_rows
    assert results.family.size == 3


def test_a_recorded_command_tells_no_place_and_no_secret():
    command = ["/home/me/.venv/bin/python", "/home/me/msd_sweeps/run.py", "--space", "a b.yaml"]
    assert command_text(command) == "python -m msd_sweeps.run --space 'a b.yaml'"
    assert command_text(["/home/me/msd_sweeps/run.py", "--dry-run"]) == "python -m msd_sweeps.run --dry-run"
    places = ["python", "-m", "msd_sweeps.run", "--set", "data.root=/home/me/cifar", "--storage", "/mnt/a b/runs/"]
    assert command_text(places) == "python -m msd_sweeps.run --set data.root=.../cifar --storage .../runs"
    secret = command_text(["python", "-m", "msd_sweeps.run", "--set", "tracking.uri=https://me:word@host/x"])
    assert "word" not in secret
    assert "host/x" in secret


def test_a_row_leads_to_its_base_file_and_to_its_runs_in_mlflow(tmp_path):
    results = results_in(tmp_path / "run", "leave_one_out")
    compile_report(tmp_path / "run" / "ledger.jsonl", tmp_path / "out")
    text = (tmp_path / "out" / "report.html").read_text()
    for cell in results.cells:
        (place,) = re.findall(rf'href="(rows/[a-z0-9_.]+)">file</a></td>\s*<td class="t">{cell.cell}</td>', text)
        assert f"The row '{cell.label}'" in (tmp_path / "out" / place).read_text()
    assert "msd.sweep = leave_one_out and msd.cell" in text


def test_launches_that_differ_are_told(tmp_path):
    first, *rest = records(make_sweep("leave_one_out", seeds=[0, 1]))
    other = first | {"versions": first["versions"] | {"torch": "9.9"}, "device": "another"}
    for name, every, told in (("same", [first, first, *rest], False), ("other", [first, other, *rest], True)):
        compile_report(write(tmp_path / name, every), tmp_path / name / "out")
        text = (tmp_path / name / "out" / "report.md").read_text()
        assert ("Warning: these launches differ in device (" in text) == told
        assert (f"torch ({first['versions']['torch']}, 9.9)" in text) == told


def test_the_table_for_a_paper_fits_its_lines_and_carries_its_notes(tmp_path):
    results = results_in(tmp_path, "search", search={"num_samples": 24, "val_fraction": 0.25})
    text = result_table(results, for_paper=True).latex()
    assert text.index("\\begin{threeparttable}") < text.index("\\begin{tabular}") < text.index("\\begin{tablenotes}")
    assert text.count("\\item") == len(result_table(results, for_paper=True).notes) > 1
    assert "s/trial" not in text
    if shutil.which("pdflatex"):
        packages = "\\usepackage{booktabs,threeparttable}\\usepackage[T1]{fontenc}"
        paper = f"\\documentclass{{article}}{packages}\\begin{{document}}{text}\\end{{document}}"
        (tmp_path / "paper.tex").write_text(paper)
        command = ["pdflatex", "-interaction=nonstopmode", "paper.tex"]
        done = subprocess.run(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
        assert done.returncode == 0, done.stdout[-2000:]
        assert b"Overfull" not in done.stdout
    boxes = sum(map(int, re.findall(r"(?:parbox\[b\]\{|p\{)(\d+)pt", text)))
    columns = len(re.search(r"\\begin\{tabular\}\{(.*)\}", text)[1].replace("p{", "").replace("pt}", ""))
    assert boxes + 6 * columns <= 345 + 20  # TeX's line of the article class, with the digits of widths as columns


def test_search_figures_show_scores_of_the_last_epoch_alone_and_say_what_is_left_out(tmp_path):
    recipe = Recipe(stop=every_third_stopped)
    results = results_in(tmp_path, "search", recipe, search={"num_samples": 24, "val_fraction": 0.25})
    plots = {plot.slug: plot for plot in plots_of(results)}
    left_out = int((search_trials(results.frames)["state"] != "finished").sum())
    assert left_out
    for slug in ("history", "slices"):
        assert set(plots[slug].frame["state"]) == {"finished"}
        assert f"{left_out} trials that did not finish are left out" in plots[slug].caption
    bands = plots["learning_curves"].frame
    assert bands["low"].dropna().ge(0).all()
    assert bands["high"].dropna().le(100).all()


def test_noise_has_no_importance_and_a_parameter_that_decides_has(tmp_path):
    def of(name, score):
        recipe = Recipe(score=score, spread=0.5)
        more = {"search": {"num_samples": 100, "val_fraction": 0.25}, "scheduler": {"type": "none"}}
        return results_in(tmp_path / name, "search", recipe, **more).importances

    told = of("told", lambda config: 70.0 + 20.0 * (config["method"].get("sample_weight", 0.0) > 0.6))
    assert told.loc[0, "parameter"] == "method.sample_weight"
    assert told.loc[0, "p"] <= 0.05
    assert (told["p"][1:] > 0.05).all()
    assert (of("noise", lambda config: 70.0)["p"] > 0.05).all()
