"""The benchmark of MLflow's records: both ways leave the same in the store. How fast anything is, no test says."""

from mlflow import MlflowClient

from msd_sweeps.bench import mlflow_records
from msd_sweeps.records.mlflow_store import default_uri


def test_both_ways_leave_the_same_runs(tmp_path):
    records = mlflow_records.records_of(50)
    assert len(records) == 50
    for key, batch in (("a", 1), ("b", 50)):
        assert mlflow_records.seconds_of(tmp_path, records, key, batch) > 0
    client = MlflowClient(default_uri(tmp_path))
    experiment = client.get_experiment_by_name("bench").experiment_id
    found = []
    for key in "ab":
        runs = client.search_runs([experiment], f"tags.`msd.sweep_id` = '{key}'")
        assert len(runs) == 11
        trials = {run.data.tags["msd.trial"]: run for run in runs if "msd.trial" in run.data.tags}
        found.append({name: (run.info.status, run.data.params, run.data.metrics) for name, run in trials.items()})
    assert found[0] == found[1]


def test_the_ratio_is_printed(capsys):
    assert mlflow_records.main(["--records", "30", "--rounds", "1"]) == 0
    out = capsys.readouterr().out
    assert "30 records of 10 trials" in out
    assert "in batches ÷ one by one" in out
