"""What every test needs."""

import pytest

from msd_sweeps.catalog import file_hashes


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """No test writes into the user's cache."""
    file_hashes.CACHE = tmp_path_factory.mktemp("cache") / "hashes.sqlite"


@pytest.fixture(autouse=True)
def _own_store(monkeypatch):
    """No test inherits a store of MLflow: a server that an earlier test started names its own for all."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
