"""The error for bad input, and the hint for a misspelt name."""

import re
from collections.abc import Iterable
from difflib import SequenceMatcher

KeyPath = tuple[str | int, ...]
"""The keys and list positions that lead to a value in nested dictionaries and lists."""

_MOST_LISTED = 30
_NO_BLANK = re.compile(r"(?:^|[{,]|- )\s*[A-Za-z_][\w.]*:(?=[^\s:/\\])")


class InputError(Exception):
    """Input of the user that cannot be used. The message says where it stands, what was found and what to do."""

    def __init__(self, message: str):
        # Text from a file or an argument must not send control sequences to the terminal.
        super().__init__(printable(message))


def printable(text: str) -> str:
    """A text for the terminal: control characters, line feeds apart, are shown as escapes."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


def blank_missing(text: str) -> str:
    """The advice for a `key:value` without the blank that YAML needs after the colon; empty where there is none."""
    return "; a blank is missing after the colon" if _NO_BLANK.search(text) else ""


def nearest(word: str, known: Iterable[str], only_close: bool = False) -> str:
    """`did you mean 'x'?` with the one or two names most like a word; else a list of them, or "" with `only_close`."""
    names = list(dict.fromkeys(known))
    likeness = {name: _likeness(word.lower(), name.lower()) for name in names}
    best = sorted(names, key=likeness.__getitem__, reverse=True)[:2]
    close = [name for name in best if likeness[name] >= max(0.5, likeness[best[0]] - 0.15)]
    if close:
        return "did you mean " + " or ".join(f"'{name}'" for name in close) + "?"
    if only_close:
        return ""
    if not names:
        return "there are none"
    return "known: " + ", ".join(sorted(names)[:_MOST_LISTED]) + ", ..." * (len(names) > _MOST_LISTED)


def _likeness(word: str, name: str) -> float:
    """From 0 to 1 how alike the spelling is; above 1 where the name is a path that ends in the same key."""
    ratio = SequenceMatcher(None, name, word).ratio()
    last = name.rsplit(".", 1)[-1]
    return 1 + ratio / 2 if last.isidentifier() and last == word.rsplit(".", 1)[-1] else ratio
