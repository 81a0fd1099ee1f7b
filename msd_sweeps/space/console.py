"""How commands print and end: lengths of time, bad input, and terminals or pipes that are gone."""

import functools
import os
import stat
import sys
from collections.abc import Callable
from contextlib import suppress

from msd_sweeps.catalog.datasets import DataError
from msd_sweeps.space.errors import InputError, printable


def duration(seconds: float) -> str:
    """A length of time in words, such as `42 s`, `58 min` or `3 h 20 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min"


def silence() -> None:
    """Send what would go to a terminal from now on to nowhere; files and pipes still get it."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # it is closed, or no file
            if stat.S_ISCHR(os.fstat(stream.fileno()).st_mode):  # isatty() is false for a terminal that is gone
                os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def refusing_bad_input(main: Callable[[list[str] | None], int]) -> Callable[..., int]:
    """A command that shows an InputError or DataError as one line, and gives the exit code 2."""

    @functools.wraps(main)
    def command(arguments: list[str] | None = None) -> int:
        try:
            return main(arguments)
        except (InputError, DataError) as error:
            print(f"error: {printable(str(error))}", file=sys.stderr)
            return 2

    return command


def run_command(main: Callable[[], int]) -> int:
    """Run a command; its exit code.

    What the terminal's encoding lacks is printed as "?". A reader that closes its pipe (`| head -1`) and Ctrl+C end
    the command without a traceback, with 141 and 130.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        code = main()
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at its end
        return 141
    except KeyboardInterrupt:
        with suppress(OSError):
            print("stopped by SIGINT", file=sys.stderr)
        return 130
