"""Two hosts for the tests of this folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.hosts import Network, network, permitted
from tests.cluster.losing import start_ray, stop_ray
from tests.sweep.conftest import Workplace, swept, toy_teachers  # noqa: F401  fixtures


@pytest.fixture(scope="session")
def hosts() -> Iterator[Network]:
    """Two hosts without Ray; skips where namespaces are not permitted."""
    if not permitted():
        pytest.skip("network namespaces need root, ip and a kernel that allows them")
    with network(2) as made:
        yield made


@pytest.fixture
def cluster(hosts: Network) -> Iterator[Network]:
    """Ray on both hosts."""
    start_ray(hosts)
    yield hosts
    stop_ray(hosts)


@pytest.fixture
def place(tmp_path: Path, toy_teachers: Path) -> Workplace:  # noqa: F811
    return Workplace(tmp_path, toy_teachers)
