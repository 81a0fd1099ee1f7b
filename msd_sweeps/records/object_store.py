"""Folders in object stores, named by a URI such as `s3://bucket/runs`: the part of pathlib's Path that is used here.

The only home of pyarrow's file systems; nothing of it is loaded before a store is asked for something.
"""

import argparse
import functools
import hashlib
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl, quote, unquote, urlsplit

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|(s3|gs|gcs|abfss?|hdfs|viewfs|file):")
_SECRET = re.compile("key|secret|token|password|signature|sas|credential", re.IGNORECASE)
_PAUSES_SECONDS = (1.0, 5.0, 20.0)
_EXPECTED = "a folder, or a URI such as s3://BUCKET/FOLDER, gs://BUCKET/FOLDER, abfs://CONTAINER@ACCOUNT.dfs.core.windows.net/FOLDER, hdfs://HOST:PORT/FOLDER, file:///FOLDER"  # noqa: E501

Answer = TypeVar("Answer")


class StoreError(OSError):
    """An object store refuses, does not answer, or its URI is none; the message names the URI, without secrets."""


class StorePath:
    """A file or folder in an object store. What its store refuses is raised as StoreError, an absent file as
    FileNotFoundError. A file appears whole when `write_bytes` returns, where the store is one that publishes so."""

    def __init__(self, uri: str):
        """uri: with its query, if it has one, at the end."""
        start, question, query = uri.partition("?")
        self._place, self._query = start.rstrip("/") if start[-3:] != "://" else start, question + query

    def __str__(self) -> str:
        return self._place + self._query

    def __repr__(self) -> str:
        return f"StorePath({shown(str(self))!r})"

    def __truediv__(self, name: str) -> "StorePath":
        return StorePath(f"{self._place}/{quote(name)}{self._query}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StorePath) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __lt__(self, other: "StorePath") -> bool:
        return str(self) < str(other)

    @property
    def name(self) -> str:
        return unquote(self._place.rpartition("/")[2])

    def with_suffix(self, suffix: str) -> "StorePath":
        return StorePath(self._place.removesuffix(Path(self.name).suffix) + suffix + self._query)

    def checked(self) -> "StorePath":
        """This one. Raises StoreError for what is no usable URI, or holds secrets; the store is not asked."""
        try:
            parts = urlsplit(str(self))
            secrets = [name for name, _ in parse_qsl(parts.query, keep_blank_values=True) if _SECRET.search(name)]
            password = parts.password
        except ValueError as error:
            raise StoreError(f"{shown(str(self))}: {error}; expected {_EXPECTED}") from error
        if secrets or password is not None:
            raise StoreError(
                f"{shown(str(self))}: holds {' and '.join(secrets) or 'a password'}, which would be written to the "
                "ledger and shown to every worker; give credentials by the store's environment variables, "
                "configuration files or the machines' roles, on every node"
            )
        if "://" not in self._place or (not parts.netloc and parts.scheme not in ("file", "hdfs", "viewfs")):
            raise StoreError(f"{self}: no URI of a folder; expected {_EXPECTED}")
        return self

    def size(self) -> int | None:
        """Bytes of a file; None where there is no file."""
        with self._answers("looked at") as (store, path):
            return store.get_file_info(path).size

    def read_bytes(self) -> bytes:
        with self._answers("read") as (store, path), store.open_input_stream(path, compression=None) as stream:
            return bytes(stream.read())

    def write_bytes(self, content: bytes) -> None:
        """Write a file, and the folders above it where the store has such."""
        with self._answers("written") as (store, path):
            try:
                stream = store.open_output_stream(path, compression=None)
            except FileNotFoundError:
                store.create_dir(path.rpartition("/")[0], recursive=True)
                stream = store.open_output_stream(path, compression=None)
            with stream:
                stream.write(content)

    def glob(self, pattern: str) -> "list[StorePath]":
        """Files and folders directly in this folder whose name fits; none where there is no folder."""
        from pyarrow.fs import FileSelector

        with self._answers("listed") as (store, path):
            found = store.get_file_info(FileSelector(path, recursive=False, allow_not_found=True))
        return [self / info.base_name for info in found if fnmatchcase(info.base_name, pattern)]

    def unlink(self, missing_ok: bool = False) -> None:
        try:
            with self._answers("deleted") as (store, path):
                store.delete_file(path)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def rename(self, target: str) -> None:
        """target: a URI of the same store."""
        with self._answers("renamed") as (store, path):
            store.move(path, _opened(StorePath(target))[1])

    def remove_folder(self) -> None:
        """Delete this folder with all that is in it; nothing where there is none."""
        try:
            with self._answers("deleted") as (store, path):
                store.delete_dir(path)
        except FileNotFoundError:
            return

    @contextmanager
    def _answers(self, what: str) -> Iterator[tuple[Any, str]]:
        """The store and the path in it; what it raises becomes a StoreError that says what could not be done."""
        try:
            yield _opened(self)
        except (FileNotFoundError, StoreError) as error:
            if what == "written" and not isinstance(error, StoreError):
                raise StoreError(f"{self}: cannot be written: {_first_line(error)}") from error
            raise
        except Exception as error:  # whatever a store or a network raises
            raise StoreError(f"{self}: cannot be {what}: {_first_line(error)}") from error


Place = Path | StorePath
"""A file or folder on a disk that is there, or in an object store."""


def place(text: str) -> Place:
    """What a text names: a path, or a URI, which is not checked yet."""
    return StorePath(text) if _URI.match(text) else Path(text)


def local_folder(text: str) -> Path:
    """A path from a command line, where a URI is refused. Raises argparse.ArgumentTypeError."""
    if _URI.match(text):
        raise argparse.ArgumentTypeError(f"{shown(text)}: expected a folder; a URI goes to --storage of run and report")
    return Path(text)


def working_folder(store: StorePath, below: Path = Path("runs")) -> Path:
    """Where this machine keeps what it works with of a store: a folder of its own for each URI."""
    readable = re.sub(r"[^\w.-]+", "-", store._place.partition("://")[2]).strip("-.")[-60:]
    return below / "copies" / f"{readable}-{hashlib.sha256(str(store).encode()).hexdigest()[:8]}"


def shown(uri: str) -> str:
    """A URI without its secrets: passwords, and the values of query parameters that are called like one."""
    text = re.sub(r"(?<=://)([^/?@]*):[^/?]*@", r"\1:***@", uri)
    return re.sub(
        r"([?&])([^=&]*)=[^&]*",
        lambda found: found[0] if not _SECRET.search(found[2]) else f"{found[1]}{found[2]}=***",
        text,
    )


def patiently(action: Callable[[], Answer]) -> Answer:
    """Do something with a store, again after pauses where it does not answer, for about half a minute.

    Raises the last StoreError.
    """
    began = time.monotonic()
    for pause in _PAUSES_SECONDS:
        try:
            return action()
        except StoreError:
            # One that accepts a connection and then is silent is waited for by pyarrow itself, for longer than this.
            if time.monotonic() - began > sum(_PAUSES_SECONDS):
                raise
            time.sleep(pause)
    return action()


def _opened(path: StorePath) -> tuple[Any, str]:
    """pyarrow's file system of a URI, and the path in it. Raises StoreError."""
    path.checked()
    parts = urlsplit(str(path))
    store, root = _file_system(parts.scheme, parts.netloc, parts.query)
    below = unquote(parts.path).strip("/")
    return store, f"{root}/{below}" if below else root or "/"


@functools.lru_cache
def _file_system(scheme: str, host: str, query: str) -> tuple[Any, str]:
    """One connection for everything in a store, and what stands before every path in it."""
    from pyarrow.fs import FileSystem

    uri = f"{scheme}://{host}/" + (f"?{query}" if query else "")
    try:
        store, root = FileSystem.from_uri(uri)
    except Exception as error:  # whatever a URI, a library or a network raises
        raise StoreError(f"{uri}: cannot be opened: {_first_line(error)}; expected {_EXPECTED}") from error
    return store, root.rstrip("/")


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0][:300]
