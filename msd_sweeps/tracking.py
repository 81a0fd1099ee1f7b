"""The MLflow mirror of a ledger: a background thread sends records; a failure delays nobody and loses nothing.

One parent run per sweep and one nested run per trial. Every record can be sent twice without harm, so whatever a
server missed is sent again from the ledger.
"""

import contextlib
import os
import queue
import shlex
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from msd_sweeps.ledger import Record
from msd_sweeps.mlflow_writer import Writer

DATABASE = "mlflow.db"
_REFUSALS = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "INVALID_STATE")
_LONGEST_WAIT_SECONDS = 30.0
_CLOSING_WAIT_SECONDS = 0.5
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
    if urlsplit(uri).scheme in ("http", "https"):
        return shown
    return f"mlflow ui --backend-store-uri {shlex.quote(shown)}"


def without_secrets(uri: str) -> str:
    """A URI without user, password and query."""
    scheme, slashes, rest = uri.partition("://")
    if not slashes:
        return uri
    place, slash, path = rest.partition("/")
    return f"{scheme}://{place.rpartition('@')[2]}{slash}{path.partition('?')[0]}"


def hidden(text: str, uri: str) -> str:
    """A text, such as an error that quotes the address of a store, without the secrets of that address."""
    text = text.replace(uri, without_secrets(uri))
    parts = urlsplit(uri)
    values = [value for _, value in parse_qsl(parts.query)]
    for secret in filter(None, [parts.password, parts.query, *values]):
        text = text.replace(secret, "***")
    return text


class Mirror:
    """Sends ledger records to MLflow from a thread of its own; `put` never waits and never raises."""

    def __init__(self, uri: str, experiment: str, sweep: str, folder: Path):
        self.uri, self.experiment, self.sweep, self.folder = uri, experiment, sweep, folder
        self.trouble: str | None = None
        """Why the store does not take records at present."""
        self.refused: list[str] = []
        """Why single records were not taken, and never will be."""
        self._queue: queue.Queue[Record | None] = queue.Queue()
        self._closing = threading.Event()
        self._sent = 0
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def put(self, record: Record) -> None:
        """Queue one record of the ledger."""
        self._queue.put(record)

    def replay(self, records: Iterable[Record]) -> None:
        """Queue the records that were there before this process."""
        for record in records:
            self._queue.put(record)

    def close(self, timeout: float, while_it_takes: bool = False) -> int:
        """Wait for the queue to drain; the number of records that could not be sent.

        timeout: seconds in all, or since the store last took a record with `while_it_takes`.
        """
        self._closing.set()
        self._queue.put(None)
        sent = -1
        while sent != self._sent and self._thread.is_alive():
            sent = self._sent
            self._thread.join(timeout)
            if not while_it_takes:
                break
        if self._thread.is_alive():
            # The record in hand is out of the queue already, and the end mark is in it.
            return max(1, self._queue.qsize())
        if not self.refused:
            with contextlib.suppress(OSError):  # without it all is sent again, which does no harm
                (self.folder / _CURSOR).write_text(_cursor(self._sent, self.uri))
        return len(self.refused)

    def _work(self) -> None:
        writer: Writer | None = None
        wait = _CLOSING_WAIT_SECONDS
        record = self._queue.get()
        while True:
            if record is None and not self._sent:
                return
            try:
                if writer is None:
                    writer = Writer(self.uri, self.experiment, self.sweep, self.folder)
                if record is None:
                    writer.end_sweep()
                    return
                writer.write(record)
            except Exception as error:  # whatever a store or a network raises
                self.trouble = self._told(error)
                if writer is None or record is None or not _is_refusal(error):
                    # What the store took of the record is not known: look again before it is sent again.
                    writer = None
                    wait = self._pause(wait)
                    continue
                self.refused.append(self.trouble)
            self.trouble, wait = None, _CLOSING_WAIT_SECONDS
            self._sent += 1
            record = self._queue.get()

    def _pause(self, wait: float) -> float:
        """Wait until the store is tried again, for as long as the process lives; the wait after this one."""
        if self._closing.is_set():
            time.sleep(_CLOSING_WAIT_SECONDS)
            return wait
        self._closing.wait(wait)
        return min(2 * wait, _LONGEST_WAIT_SECONDS)

    def _told(self, error: Exception) -> str:
        text = hidden(str(error), self.uri).strip() or "no reason given"
        return f"{type(error).__name__}: {text.splitlines()[0]}"[:200]


def _is_refusal(error: Exception) -> bool:
    """Whether the store understood the record and does not want it; sent again it would be refused again."""
    if isinstance(error, OSError):  # a network's errors are among them, also those that are values
        return False
    return getattr(error, "error_code", None) in _REFUSALS or isinstance(
        error, LookupError | TypeError | ValueError
    )


def is_synced(folder: Path, records: int, uri: str) -> bool:
    """Whether the MLflow store at `uri` has taken that many records of the sweep in `folder`."""
    try:
        return (folder / _CURSOR).read_text() == _cursor(records, uri)
    except (OSError, UnicodeDecodeError):
        return False


def _cursor(records: int, uri: str) -> str:
    return f"{records} {without_secrets(uri)}\n"
