"""Object stores for tests: a folder behind a URI that can be cut off, or whose writers die within a file."""

from pathlib import Path
from typing import Any

import pytest
from pyarrow.fs import LocalFileSystem

from msd_sweeps.records import object_store
from msd_sweeps.records.object_store import StorePath


class Flaky:
    """pyarrow's local file system behind a wire that a test can cut."""

    def __init__(self) -> None:
        self.is_down = False
        self.tears = False
        """Whether the next file that is written stays empty, as its writer dies."""
        self.asked = 0
        self._inner = LocalFileSystem()

    def __getattr__(self, name: str) -> Any:
        self.asked += 1
        if self.is_down:
            raise OSError("the wire is cut")
        if name == "open_output_stream" and self.tears:
            return self._torn
        return getattr(self._inner, name)

    def _torn(self, path: str, **options: Any) -> Any:
        self._inner.open_output_stream(path).close()
        raise OSError("the writer died")


def flaky_store(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[StorePath, Flaky]:
    """A store that keeps its files in a folder, and the wire to it."""
    wire = Flaky()
    monkeypatch.setattr(object_store, "_file_system", lambda scheme, host, query: (wire, str(folder)))
    monkeypatch.setattr(object_store, "_PAUSES_SECONDS", ())
    return StorePath("flaky://store/runs"), wire
