"""Hashes of the contents of many files, kept in the user's cache, so that a second look reads no file."""

import contextlib
import hashlib
import os
import sqlite3
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "msd_sweeps" / "hashes.sqlite"


def file_hashes(paths: Sequence[Path]) -> list[str]:
    """The SHA-256 of each file, which is read only where size, times or inode are not those that the cache knows.

    A cache that cannot be read or written is done without. Raises OSError for a file that cannot be read.
    """
    names = [os.path.abspath(path) for path in paths]
    found = dict(zip(names, map(_status, names), strict=True))
    known: dict[str, tuple[str, str]] = {}
    with contextlib.suppress(OSError, sqlite3.Error), _cache() as cache:
        for name in names:
            row = cache.execute("SELECT status, sha256 FROM hashes WHERE path = ?", (_text(name),)).fetchone()
            if row is not None:
                known[name] = row
    fresh = [name for name, status in found.items() if known.get(name, ("", ""))[0] != status]
    with ThreadPoolExecutor(8) as pool:
        hashes = dict(zip(fresh, pool.map(_sha256, fresh), strict=True))
    if hashes:
        with contextlib.suppress(OSError, sqlite3.Error), _cache() as cache:
            rows = [(_text(name), found[name], sha256) for name, sha256 in hashes.items()]
            cache.executemany("INSERT OR REPLACE INTO hashes VALUES (?, ?, ?)", rows)
    return [hashes.get(name) or known[name][1] for name in names]


@contextlib.contextmanager
def _cache() -> Iterator[sqlite3.Connection]:
    """A connection whose changes are kept when the context ends. Raises OSError, sqlite3.Error."""
    CACHE.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(sqlite3.connect(CACHE, timeout=10.0)) as connection, connection:
        connection.execute("CREATE TABLE IF NOT EXISTS hashes (path BLOB PRIMARY KEY, status TEXT, sha256 TEXT)")
        yield connection


def _status(name: str) -> str:
    """What changes whenever a file is written to or replaced."""
    status = os.stat(name)
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"


def _text(name: str) -> bytes:
    return os.fsencode(name)  # a name may be no text


def _sha256(name: str) -> str:
    with open(name, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
