"""The MLflow mirror of a ledger: a background thread sends records; a failure delays no training and loses nothing.

Every record can be sent twice without harm, so what a server missed is sent again. The thread reads the ledger's file:
a server that is away for days costs no memory.
"""

import os
import shlex
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from msd_sweeps.records import ledger
from msd_sweeps.records.ledger import Record
from msd_sweeps.records.mlflow_writer import Writer
from msd_sweeps.space.secrets import hidden, without_secrets

DATABASE = "mlflow.db"
_REFUSALS = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "INVALID_STATE")
_CURSOR = "mlflow.synced"


def default_uri(folder: Path) -> str:
    """The SQLite store in a sweep's folder."""
    return f"sqlite:///{(folder / DATABASE).resolve()}"


def choose_uri(folder: Path, configured: str | None) -> str:
    """The environment's store, else the space's, else the one in the sweep's folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or configured or default_uri(folder)


def how_to_open(uri: str) -> str:
    """The command that shows the runs, or the address of the page that does."""
    shown = without_secrets(uri)
    return shown if uri.startswith(("http:", "https:")) else f"mlflow ui --backend-store-uri {shlex.quote(shown)}"


class Mirror:
    """Sends the records of the ledger in `folder` to MLflow from a thread of its own; `more` never waits nor raises."""

    def __init__(
        self,
        uri: str,
        experiment: str,
        sweep: str,
        folder: Path,
        records: int = 0,
        pauses_seconds: tuple[float, float] = (0.5, 30.0),
    ):
        """records: how many the ledger has already. pauses_seconds: the first and the longest between two tries."""
        self.uri, self.experiment, self.sweep, self.folder = uri, experiment, sweep, folder
        self.trouble: str | None = None
        """Why the store does not take records at present."""
        self.refused: list[str] = []
        """Why single records were not taken, and never will be."""
        self.sent = 0
        """Records that the store has taken or refused."""
        self._writer: Writer | None = None
        self._records, self._pauses_seconds = records, pauses_seconds
        self._grown, self._closing = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def more(self) -> None:
        """The ledger has one more record."""
        self._records += 1
        self._grown.set()

    def close(self, timeout: float, while_it_takes: bool = False) -> int:
        """Wait until all is sent; the number of records that could not be.

        timeout: seconds in all, or since the store last took a record with `while_it_takes`.
        """
        self._closing.set()
        self._grown.set()
        sent = -1
        while sent != self.sent and self._thread.is_alive() and (while_it_takes or sent < 0):
            sent = self.sent
            self._thread.join(timeout)
        left = self._records - self.sent
        if left > 0 or self._thread.is_alive():
            return max(1, left)  # at least the end of the sweep
        if not self.refused:
            with suppress(OSError):  # without it all is sent again, which does no harm
                (self.folder / _CURSOR).write_text(_cursor(self.sent, self.uri))
        return len(self.refused)

    def _work(self) -> None:
        first, longest = self._pauses_seconds
        for record in self._follow():
            pause = first
            while not self._is_sent(record):
                if self._closing.is_set():
                    time.sleep(first)
                self._closing.wait(pause)
                pause = min(2 * pause, longest)

    def _is_sent(self, record: Record | None) -> bool:
        """Send a record, or after the last one the end of the sweep; False where it has to be sent again."""
        try:
            self._writer = self._writer or Writer(self.uri, self.experiment, self.sweep, self.folder)
            if record is None:
                self._writer.end_sweep()
                return True
            self._writer.write(record)
        except Exception as error:  # stores and networks raise errors of all kinds
            lines = hidden(str(error), self.uri).strip().splitlines() or ["no reason given"]
            self.trouble = f"{type(error).__name__}: {lines[0]}"[:200]
            if self._writer is None or record is None or not _is_refusal(error):
                # The store may have taken the record all the same; a new writer looks before sending it again.
                self._writer = None
                return False
            self.refused.append(self.trouble)
        self.trouble = None
        self.sent += 1
        return True

    def _follow(self) -> Iterator[Record | None]:
        """The ledger's records as they come; after the last one None, unless there was none at all."""
        while not self._records and not self._closing.is_set():  # there is no file yet
            self._grown.wait()
        path, is_closing = self.folder / ledger.FILE_NAME, False
        try:
            for record in ledger.follow(path) if self._records else ():
                if record is not None:
                    yield record
                elif is_closing:
                    break
                else:  # what was written before the closing is read once more
                    is_closing = self._closing.is_set()
                    if not is_closing:
                        self._grown.wait()
                        self._grown.clear()
        except OSError as error:
            self.trouble = f"{path}: cannot be read: {error.strerror}"
        if self.sent:
            yield None


def _is_refusal(error: Exception) -> bool:
    """Whether the store understood the record and rejected it; sent again it would be rejected again."""
    if isinstance(error, OSError):  # a network's errors are among them, also those that are values
        return False
    return getattr(error, "error_code", None) in _REFUSALS or isinstance(error, LookupError | TypeError | ValueError)


def is_synced(folder: Path, records: int, uri: str) -> bool:
    """Whether the MLflow store at `uri` has taken that many records of the sweep in `folder`."""
    with suppress(OSError, UnicodeDecodeError):
        return (folder / _CURSOR).read_text() == _cursor(records, uri)
    return False


def _cursor(records: int, uri: str) -> str:
    return f"{records} {without_secrets(uri)}\n"
