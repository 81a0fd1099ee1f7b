"""How a sweep ends early: by a signal, or by a failure that every trial would meet."""

import contextlib
import os
import re
import signal
import threading
from collections.abc import Iterator, Sequence
from typing import Any

ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
SAME_FAILURES = 3
"""The sweep stops when this many trials, the first to end, fail in the same way."""
_PLACE = re.compile(r'^  File "(.+)", line (\d+)', re.MULTILINE)


class Interrupted(Exception):
    """A signal ended the sweep; it can be resumed."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.signal_number = number


class SweepStopped(Exception):
    """The sweep cannot go on as it is; the message says why and what to do."""


class Signals:
    """The signals that have come to this process."""

    def __init__(self) -> None:
        self.received: list[int] = []
        self._held = False

    def note(self, number: int, frame: Any) -> None:
        """Handle a signal. A second one ends the process at once; the sweep can be resumed all the same."""
        if self.received:
            os._exit(128 + number)
        self.received.append(number)
        if not self._held:
            raise Interrupted(number)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Inside, a signal is only noted; outside, it raises Interrupted in the main thread."""
        self._held = True
        try:
            yield
        finally:
            self._held = False


@contextlib.contextmanager
def noted_signals() -> Iterator[Signals]:
    """Note the signals that end a sweep for as long as the context lasts, in the main thread alone."""
    signals = Signals()
    is_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, signals.note) for number in ENDING_SIGNALS} if is_main else {}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def common_failure(ends: Sequence[tuple[str, str, str]]) -> str | None:
    """The message for the user where the first SAME_FAILURES ends are failures of one kind; None otherwise.

    ends: state, reason and traceback of each trial that has ended, in order.
    """
    first = ends[:SAME_FAILURES]
    ways = {way(*end) for end in first}
    if len(first) < SAME_FAILURES or len(ways) > 1 or "" in ways:
        return None
    _, reason, traceback = first[0]
    return (
        f"the first {SAME_FAILURES} trials failed in the same way, so the sweep was stopped; they stay failed "
        f"under this name. The first of them:\n{(traceback or reason).rstrip()}"
    )


def way(state: str, reason: str, traceback: str) -> str:
    """The exception of a failure and where it was raised; empty for an end that is no failure."""
    if state not in ("failed", "out_of_memory"):
        return ""
    places = _PLACE.findall(traceback)
    if not places:
        return reason
    kind = traceback.strip().splitlines()[-1].partition(":")[0]
    return f"{kind} {places[-1]}"
