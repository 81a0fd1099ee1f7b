"""What one's own loss prints in a worker: kept by the trial that printed it, for the driver to show."""

import io
import sys
import threading
from collections import defaultdict
from typing import Any

from torch import nn

_MOST = 2_000
"""Characters of a trial and epoch that are kept; a loss that prints at every step would flood the screen."""


class Printing(io.TextIOBase):
    """Stands in place of `sys.stdout` in a worker. What is printed outside a loss goes to the worker's own output.

    Students step side by side in threads, so it is the thread that tells whose loss prints.
    """

    def __init__(self) -> None:
        self._through, self._here = sys.stdout, threading.local()
        self._texts: defaultdict[str, str] = defaultdict(str)

    def listen(self, trial: str, loss: nn.Module) -> None:
        """From now on, what this loss prints is the trial's."""

        def begin(*_: Any) -> None:
            self._here.trial = trial

        def end(*_: Any) -> None:
            self._here.trial = None

        loss.register_forward_pre_hook(begin)
        loss.register_forward_hook(end, always_call=True)

    def write(self, text: str) -> int:
        trial = getattr(self._here, "trial", None)
        if trial is None:
            return self._through.write(text)
        self._texts[trial] = (self._texts[trial] + text)[: _MOST + 1]
        return len(text)

    def flush(self) -> None:
        self._through.flush()

    def take(self, trial: str) -> str:
        """What the trial has printed since it was asked last."""
        text = self._texts.pop(trial, "")
        return text if len(text) <= _MOST else f"{text[:_MOST]} ... (more is not shown)"
