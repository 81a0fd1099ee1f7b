"""The report command: finds a sweep, writes its folder and the index, answers bad input with exit code 2."""

import json
import re
import sys
from pathlib import Path

import pandas
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from msd_sweeps.report import __main__ as report  # noqa: E402
from msd_sweeps.report.formats import for_markdown, short  # noqa: E402
from tests.synthetic_ledger import make_sweep, records, write  # noqa: E402


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A working directory with two small sweeps under runs."""
    monkeypatch.chdir(tmp_path)
    for name in ("ablation", "grid"):
        design = "leave_one_out" if name == "ablation" else name
        write(tmp_path / "runs" / name, records(make_sweep(design, name=name, seeds=[0, 1])))
    return tmp_path


def test_a_sweep_is_found_compiled_and_listed(store, capsys):
    assert report.main(["ablation"]) == 0
    told = capsys.readouterr().out
    assert "without multiple scales" in told
    assert "reports/ablation/report.html" in told
    assert (store / "reports/ablation/table.csv").is_file()
    index = (store / "reports/README.md").read_text()
    assert "[ablation](ablation/report.md)" in index
    assert "KD" in index


def test_a_sweep_is_found_by_folder_and_by_file_too(store):
    assert report.main(["runs/ablation", "--out", "one"]) == 0
    assert report.main([str(store / "runs/ablation/ledger.jsonl"), "--storage", "nowhere", "--out", "two"]) == 0
    assert (store / "one/table.csv").read_bytes() == (store / "two/table.csv").read_bytes()
    assert not (store / "reports").exists()


def test_the_ledger_that_is_kept_beside_a_report_makes_it_again(store, capsys):
    assert report.main(["ablation", "--keep-ledger"]) == 0
    folder = store / "reports/ablation"
    whole = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    (store / "runs/ablation/ledger.jsonl").unlink()
    assert report.main(["reports/ablation", "--keep-ledger"]) == 0
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == whole
    packed = folder / "ledger.jsonl.gz"
    packed.write_bytes(packed.read_bytes()[:-20])
    assert report.main(["reports/ablation"]) == 2
    assert "ledger.jsonl.gz: cannot be read" in capsys.readouterr().err


def test_what_is_asked_for_is_on_the_page(store, capsys):
    arguments = ["ablation", "--compare", "grid", "--published", str(ROOT / report.PUBLISHED)]
    assert report.main(arguments) == 0
    page = (store / "reports/ablation/report.md").read_text()
    assert "## Beside grid" in page
    assert "## Beside published figures" in page
    assert (store / "reports/ablation/compared.csv").is_file()
    assert report.main(["ablation"]) == 0
    assert not (store / "reports/ablation/compared.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ablatoin"], "did you mean 'ablation'?"),
        (["zzz"], "known: ablation, grid"),
        (["x", "--storage", "empty"], "there are none"),
        (["ablation", "--compare", "gird"], "did you mean 'grid'?"),
        (["ablation", "--published", "absent.csv"], "absent.csv"),
        (["ablation", "--out", "runs/ablation/ledger.jsonl"], "ledger.jsonl"),
        (["ablation", "--published", "runs/ablation/ledger.jsonl"], "ledger.jsonl: expected CSV with the columns"),
        (["ablation", "--published", "."], "directory"),
        (["x\0y"], "no such sweep"),
        (["x" * 300], "no such sweep"),
    ],
)
def test_bad_input_is_answered_with_its_reason_and_code_2(store, capsys, arguments, words):
    assert report.main(arguments) == 2
    told = capsys.readouterr().err
    assert words in told
    assert told.startswith("error: ")


@pytest.mark.parametrize("event", ["sweep", "start"])
def test_a_ledger_of_an_older_layout_is_refused_with_what_to_do(store, capsys, event):
    every = list(records(make_sweep("leave_one_out", name="old")))
    for record in every:
        if event == "sweep":
            record.pop("layout", None)
        else:
            record.pop("levels", None)
    path = write(store / "runs" / "old", every)
    assert report.main(["old"]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"error: {path.relative_to(store)}: written by an older msd_sweeps")
    assert "choose another --name, or remove its folder" in told
    assert report.main(["ablation", "--compare", "old"]) == 2
    assert not (store / "reports").exists()


def test_a_ledger_in_which_no_launch_is_recorded_is_refused(store, capsys):
    write(store / "runs" / "begun", [])
    assert report.main(["begun"]) == 2
    assert "the sweep stopped before it began" in capsys.readouterr().err


def test_names_never_leave_the_reports_folder(store):
    for name in ("../../x", "a/../../b", "...", "-x", "a" * 300, "späße"):
        out = report.default_out(Path("runs") / name / "ledger.jsonl")
        assert out.parent == Path("reports")
        assert out.name not in ("", ".", "..")
        assert len(out.name) <= 100


def test_a_broken_summary_does_not_break_the_index(store):
    folder = store / "reports" / "old"
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text("{")
    assert report.main(["ablation"]) == 0
    assert "cannot be read" in (store / "reports/README.md").read_text()


@pytest.mark.parametrize(
    "summary", sorted((ROOT / "reports").glob("*/summary.json")), ids=lambda path: path.parent.name
)
def test_a_committed_report_is_whole_listed_and_tells_no_place(summary):
    folder = summary.parent
    told = json.loads(summary.read_text())
    index = (ROOT / "reports/README.md").read_text()
    assert f"({folder.name}/report.md)" in index
    assert for_markdown(short(told["verdict"], 500)) in index
    for name in ("report.html", "table.csv", "table.tex", "trials.parquet", "history.parquet", "figures/seeds.svg"):
        assert (folder / name).stat().st_size
    text = pandas.read_parquet(folder / "trials.parquet").to_csv()
    text += "".join(path.read_text() for path in folder.rglob("*") if path.suffix in (".html", ".md", ".csv", ".tex"))
    assert not re.findall(r"/(?:home|root|tmp|mnt|Users|work)/\S*", text)
    assert sum(path.stat().st_size for path in folder.rglob("*")) < 1_500_000


@pytest.mark.parametrize(
    "packed", sorted((ROOT / "reports").glob("*/ledger.jsonl.gz")), ids=lambda path: path.parent.name
)
def test_a_committed_ledger_makes_its_report_again(packed, tmp_path):
    """The texts; `python -m msd_sweeps.report reports/NAME` gives the same bytes of every file on one machine."""
    assert report.main([str(packed), "--out", str(tmp_path)]) == 0
    for name in ("report.md", "table.md", "table.tex"):
        assert (tmp_path / name).read_text() == (packed.parent / name).read_text()
