"""A report compiled from MLflow is the one compiled from the ledger, and a store is only read."""

import pandas
import pytest

from msd_sweeps.records import ledger
from msd_sweeps.records.ledger import LedgerError
from msd_sweeps.records.mlflow_runs import read_back
from msd_sweeps.records.mlflow_sync import Mirror, default_uri
from msd_sweeps.report import command as report
from tests import synthetic_ledger


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A search, its ledger and an MLflow store. One trial was taken over, one was stopped, one failed."""
    folder = tmp_path_factory.mktemp("store")
    sweep = synthetic_ledger.make_sweep(
        "search", "one", search={"num_samples": 3, "val_fraction": 0.25}, confirm={"top_k": 1, "seeds": [1, 2]}
    )
    stopped = next(r["trial"] for r in synthetic_ledger.records(sweep) if r["event"] == "start")
    recipe = synthetic_ledger.Recipe(
        epochs=2,
        stop=lambda planned: 1 if planned.trial.id == stopped else None,
        fail=lambda planned: (
            ("failed", "invented: <trouble>") if planned.label == "kd" and planned.trial.seed == 1 else None
        ),
    )
    records = list(synthetic_ledger.records(sweep, recipe))
    first = next(record for record in records if record["event"] == "start" and record["phase"] == "confirm")
    first["source"] = "elsewhere"
    synthetic_ledger.write(folder / "one", records)
    mirror = Mirror(default_uri(folder), "tests", "one", folder / "one", len(records))
    assert mirror.close(500) == 0
    return folder


def test_every_number_of_the_report_is_the_same(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["--from-mlflow", default_uri(store), "--experiment", "tests"]
    assert report.main(["one", *arguments, "--out", "restored"]) == 0
    report.compile_report(store / "one" / ledger.FILE_NAME, tmp_path / "original")
    for file in ("table.csv", "table.md", "table.tex", "report.md", "report.html", "summary.json"):
        assert (tmp_path / "restored" / file).read_text() == (tmp_path / "original" / file).read_text(), file
    for file in ("trials.parquet", "history.parquet"):
        one, other = (pandas.read_parquet(tmp_path / folder / file) for folder in ("restored", "original"))
        pandas.testing.assert_frame_equal(one, other)


def test_the_report_lies_where_that_of_the_ledger_would(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert report.main(["one", "--from-mlflow", default_uri(store), "--experiment", "tests"]) == 0
    assert (tmp_path / "reports" / "one" / "report.html").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["reports"]


def test_what_is_not_there_is_said(store, tmp_path):
    uri = default_uri(store)
    with pytest.raises(LedgerError, match="no experiment 'test' in this store; did you mean 'tests'"):
        list(read_back(uri, "test", "one"))
    with pytest.raises(LedgerError, match="no sweep 'onne' in the experiment 'tests'; did you mean 'one'"):
        list(read_back(uri, "tests", "onne"))
    with pytest.raises(LedgerError, match="no such file"):
        list(read_back(f"sqlite:///{tmp_path}/nowhere.db", "tests", "one"))
    assert list(tmp_path.iterdir()) == []


def test_no_password_is_shown(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    uri = "http://user:s3cret@127.0.0.1:9/path?token=s3cret"  # nobody listens there
    assert report.main(["one", "--from-mlflow", uri, "--experiment", "tests"]) == 2
    told = "".join(capsys.readouterr())
    assert "the MLflow store cannot be read" in told
    assert "s3cret" not in told
