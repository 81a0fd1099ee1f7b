"""The MLflow mirror of a ledger: a background thread sends records; a failure delays no training and loses nothing.

Every record can be sent twice without harm, so what a server missed is sent again. The thread reads the ledger's file:
a server that is away for days costs no memory.
"""

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from msd_sweeps.records import ledger
from msd_sweeps.records.ledger import Record
from msd_sweeps.records.mlflow_store import artifacts_of
from msd_sweeps.records.mlflow_writer import Writer
from msd_sweeps.space.secrets import hidden, without_secrets

_REFUSALS = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "INVALID_STATE")
_CURSOR = "mlflow.synced"
_MOST_RECORDS = 1000
"""Sent together at most."""
_HOPELESS = re.compile(
    r"error code 40[134]|UNAUTHENTICATED|PERMISSION_DENIED|authentication failed|out-of-date database|No module named|"
    r"[Cc]onnection refused|resolve host|Name or service not known|No address associated|not a database|malformed|"
    r"unable to open database|readonly database|No such file|File exists|Permission denied|Not a directory|Read-only"
)
"""In errors that trying again for a minute does not mend."""


class Mirror:
    """Sends the records of the ledger in `folder` to MLflow from a thread of its own; `more` never waits nor raises."""

    def __init__(
        self,
        uri: str,
        experiment: str,
        sweep: str,
        folder: Path,
        records: int = 0,
        key: str = "",
        say: Callable[[str], None] = lambda text: None,
        pauses_seconds: tuple[float, float] = (0.5, 30.0),
    ):
        """records: how many the ledger has already. key: the id of the sweep; its name where that is empty.

        say: shows the user, from the thread, why records are not taken. pauses_seconds: the first and the longest
        between two tries.
        """
        self.uri, self.folder = uri, folder
        self.trouble: str | None = None
        """Why the store does not take records at present."""
        self.refused: list[str] = []
        """Why single records were not taken, and never will be."""
        self.sent = 0
        """Records that the store has taken or refused."""
        self.is_hopeless = False
        """Whether trying again soon would not mend the trouble."""
        self._writer: Writer | None = None
        self._at_once = _MOST_RECORDS
        self._names = uri, experiment, sweep, key or sweep, artifacts_of(uri, folder.parent)
        self._records, self._say, self._pauses_seconds = records, say, pauses_seconds
        self._grown, self._closing = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    @property
    def why(self) -> str:
        """Why records are missing; empty where that is not known."""
        return self.trouble or next(iter(self.refused), "")

    def more(self) -> None:
        """The ledger has one more record."""
        self._records += 1
        self._grown.set()

    def close(self, timeout: float, while_it_takes: bool = False) -> int:
        """Wait until all is sent, or what hinders it cannot be mended by waiting; the number of records left.

        timeout: seconds in all, or since the store last took a record with `while_it_takes`.
        """
        self._closing.set()
        self._grown.set()
        sent = -1
        while sent != self.sent and self._thread.is_alive() and (while_it_takes or sent < 0):
            sent = self.sent
            self._thread.join(timeout)
        left = self._records - self.sent
        if left > 0 or self._thread.is_alive() or self.trouble:
            return max(1, left)  # at least the end of the sweep
        if not self.refused:
            with suppress(OSError):  # without it all is sent again, which does no harm
                (self.folder / _CURSOR).write_text(_cursor(self.sent, self.uri))
        return len(self.refused)

    def _work(self) -> None:
        first, longest = self._pauses_seconds
        for batch in self._batches():
            pause, was_closing = first, self._closing.is_set()
            while not self._is_sent(batch):
                if self.trouble is None:
                    continue
                if was_closing and self.is_hopeless:
                    return
                if self._closing.is_set():
                    time.sleep(first)
                was_closing = self._closing.wait(pause)
                pause = min(2 * pause, longest)

    def _is_sent(self, batch: list[Record]) -> bool:
        """Send the first records of a batch and take them out, or with none the end of the sweep; whether all is sent.

        A batch that is refused is halved until the record is found that the store does not take.
        """
        some, was_made = batch[: self._at_once], self._writer is not None
        try:
            self._writer = self._writer or Writer(*self._names)
            was_made = True
            if some:
                self._writer.write(some)
            else:
                self._writer.end_sweep()
        except Exception as error:  # stores and networks raise errors of all kinds
            # The store may have taken a part all the same; a new writer looks before sending it again.
            self._writer = None
            if not (some and was_made and _is_refusal(error)):
                self._tell(error)
                return False
            if len(some) > 1:
                self._at_once = len(some) // 2
                return False
            self.refused.append(reason_of(error, self.uri))
            self._say(f"MLflow refuses a record: {self.refused[-1]}")
        if self.trouble is not None:
            self._say("MLflow takes records again")
        self.trouble, self.is_hopeless = None, False
        self.sent += len(some)
        self._at_once = min(2 * self._at_once, _MOST_RECORDS)
        del batch[: len(some)]
        return not batch

    def _tell(self, error: Exception) -> None:
        """Note why nothing is taken, and show it the first time."""
        reason = reason_of(error, self.uri)
        if reason != self.trouble:
            self._say(f"MLflow at {without_secrets(self.uri)} takes no records: {reason}")
        self.trouble, self.is_hopeless = reason, _HOPELESS.search(f"{reason} {error}") is not None

    def _batches(self) -> Iterator[list[Record]]:
        """What has gathered of the ledger, again and again; in the end an empty list, unless there was no record."""
        batch: list[Record] = []
        for record in self._follow():
            if record is not None:
                batch.append(record)
            if batch and (record is None or len(batch) == _MOST_RECORDS):
                yield batch
                batch = []
        if self.sent:
            yield []

    def _follow(self) -> Iterator[Record | None]:
        """The ledger's records as they come, None whenever there is none yet."""
        while not self._records and not self._closing.is_set():  # there is no file yet
            self._grown.wait()
        path, is_closing = self.folder / ledger.FILE_NAME, False
        try:
            for record in ledger.follow(path) if self._records else ():
                yield record
                if record is not None:
                    continue
                if is_closing:
                    break
                is_closing = self._closing.is_set()  # what was written before the closing is read once more
                if not is_closing:
                    self._grown.wait()
                    self._grown.clear()
        except OSError as error:
            self.trouble = f"{path}: cannot be read: {error.strerror}"


def reason_of(error: Exception, uri: str) -> str:
    """Why the store at `uri` failed, in one line without its secrets: what the innermost error says."""
    inner: BaseException = error
    while (below := inner.__cause__ or inner.__context__) is not None and str(below).strip():
        inner = below
    lines = hidden(str(inner), uri).strip().splitlines() or ["no reason given"]
    return f"{type(inner).__name__}: {lines[0]}"[:300]


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
