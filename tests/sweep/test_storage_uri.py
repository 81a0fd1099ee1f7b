"""The commands with a URI as --storage, as far as they go without Ray."""

import shutil
from pathlib import Path

import pytest

from msd_sweeps import run, teach
from msd_sweeps.records.object_store import StorePath
from msd_sweeps.records.stored_ledger import StoredLedger
from msd_sweeps.report import __main__ as report
from tests.synthetic_ledger import make_sweep, records, write


@pytest.fixture
def uri(tmp_path, monkeypatch) -> str:
    """A store that holds the sweep 'grid', seen from a machine with an empty disk."""
    ledger = write(tmp_path / "made" / "grid", records(make_sweep("grid", name="grid", seeds=[0, 1])))
    StoredLedger(StorePath(f"file://{tmp_path}/store") / "grid").begin(ledger.read_bytes())
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    return f"file://{tmp_path}/store"


@pytest.mark.parametrize(
    ("storage", "says"),
    [
        ("s4://bucket/runs", "s4://bucket/: cannot be opened: Unrecognized filesystem type"),
        ("s3:/bucket/runs", "s3:/bucket/runs: no URI of a folder; expected a folder, or a URI such as s3://"),
        ("s3://bucket/runs?access_key=AAA&secret_key=SSS", "s3://bucket/runs: holds access_key and secret_key"),
    ],
)
@pytest.mark.parametrize("more", [[], ["--dry-run"], ["--resume", "--name", "grid"], ["--sync-mlflow"]])
def test_a_store_that_cannot_be_is_bad_input_before_anything_starts(uri, storage, says, more, capsys):
    assert run.main(["--storage", storage, *(more or ["--space", "scales"])]) == 2
    told = capsys.readouterr()
    assert says in told.err
    assert "SSS" not in told.err + told.out
    assert list(Path().iterdir()) == []


def test_a_store_that_does_not_answer_is_bad_input(uri, monkeypatch, capsys):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    nobody = "s3://bucket/runs?endpoint_override=127.0.0.1:9&scheme=http&region=us-east-1"
    assert run.main(["--space", "scales", "--storage", nobody]) == 2
    assert f"{nobody}: cannot be looked at: " in capsys.readouterr().err
    assert list(Path().iterdir()) == []


def test_a_sweep_is_resumed_from_the_store_alone(uri, capsys):
    assert run.main(["--resume", "--name", "gird", "--storage", uri]) == 2
    assert f"--resume: no sweep 'gird' in {uri}/; did you mean 'grid'?" in capsys.readouterr().err
    assert run.main(["--resume", "--name", "grid", "--storage", uri, "--dry-run"]) == 0
    assert "grid: grid by " in capsys.readouterr().out


def test_a_plan_takes_no_claim(uri, tmp_path):
    assert run.main(["--space", "scales", "--storage", uri, "--dry-run"]) == 0
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == ["grid"]


@pytest.mark.slow
def test_a_report_is_compiled_from_the_store_and_gives_the_same(uri, tmp_path, capsys):
    assert report.main(["grid", "--storage", uri]) == 0
    shutil.copytree(tmp_path / "made", tmp_path / "empty" / "runs")
    assert report.main(["grid", "--out", "here"]) == 0
    names = [path.name for path in Path("here").glob("table.*")]
    assert names
    for name in names:
        assert (Path("here") / name).read_bytes() == (Path("reports/grid") / name).read_bytes()
    next((tmp_path / "store" / "grid").glob("ledger.*.1.jsonl")).unlink()
    assert report.main(["grid", "--storage", uri, "--out", "second"]) == 0
    capsys.readouterr()
    assert report.main(["gird", "--storage", uri]) == 2
    assert f"'gird': no such sweep in {uri}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("main", "arguments"),
    [(run.main, ["--space", "scales", "--reports"]), (teach.main, ["--base", "digits", "--storage"])],
)
def test_other_folders_are_no_uris(main, arguments, uri, capsys):
    with pytest.raises(SystemExit) as done:
        main([*arguments, "s3://bucket/x"])
    assert done.value.code == 2
    assert "s3://bucket/x: expected a folder; a URI goes to --storage" in capsys.readouterr().err
