"""The MLflow mirror of a ledger: a background thread sends records; a failure delays nobody and loses nothing.

One parent run per sweep and one nested run per trial. Every record can be sent twice without harm, so whatever a
server missed is sent again. The thread reads the ledger's file: a server that is away for days costs no memory.
"""

import contextlib
import os
import shlex
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from msd_sweeps.records import ledger
from msd_sweeps.records.ledger import Record
from msd_sweeps.records.mlflow_writer import Writer

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
    """Sends the records of the ledger in `folder` to MLflow from a thread of its own; `more` never waits nor raises."""

    def __init__(self, uri: str, experiment: str, sweep: str, folder: Path, records: int = 0):
        """records: how many the ledger has already."""
        self.uri, self.experiment, self.sweep, self.folder = uri, experiment, sweep, folder
        self.trouble: str | None = None
        """Why the store does not take records at present."""
        self.refused: list[str] = []
        """Why single records were not taken, and never will be."""
        self._grown, self._closing = threading.Event(), threading.Event()
        self._records, self._sent = records, 0
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
        while sent != self._sent and self._thread.is_alive():
            sent = self._sent
            self._thread.join(timeout)
            if not while_it_takes:
                break
        left = self._records - self._sent
        if left > 0 or self._thread.is_alive():
            return max(1, left)  # at least the end of the sweep
        if not self.refused:
            with contextlib.suppress(OSError):  # without it all is sent again, which does no harm
                (self.folder / _CURSOR).write_text(_cursor(self._sent, self.uri))
        return len(self.refused)

    def _work(self) -> None:
        records = self._follow()
        writer: Writer | None = None
        wait = _CLOSING_WAIT_SECONDS
        record = next(records, None)
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
            record = next(records, None)

    def _follow(self) -> Iterator[Record]:
        """The ledger's records as they come, until nothing more will."""
        records = None
        while True:
            self._grown.clear()
            is_closing = self._closing.is_set()
            if records is None and self._records:  # only now there is a file
                records = ledger.follow(self.folder / ledger.FILE_NAME)
            try:
                record = next(records) if records is not None else None
            except OSError as error:
                self.trouble = f"{self.folder / ledger.FILE_NAME}: cannot be read: {error.strerror}"
                return
            if record is not None:
                yield record
            elif is_closing:
                return
            else:
                self._grown.wait()

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
    return getattr(error, "error_code", None) in _REFUSALS or isinstance(error, LookupError | TypeError | ValueError)


def is_synced(folder: Path, records: int, uri: str) -> bool:
    """Whether the MLflow store at `uri` has taken that many records of the sweep in `folder`."""
    try:
        return (folder / _CURSOR).read_text() == _cursor(records, uri)
    except (OSError, UnicodeDecodeError):
        return False


def _cursor(records: int, uri: str) -> str:
    return f"{records} {without_secrets(uri)}\n"
