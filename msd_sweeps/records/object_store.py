"""Folders in object stores, named by a URI such as `s3://bucket/runs`.

The only home of pyarrow's file systems; nothing of it is loaded before a store is asked for something.
"""

import argparse
import functools
import hashlib
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from urllib.parse import quote, unquote, urlsplit

from msd_sweeps.space.secrets import secrets_in, without_secrets

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|(s3|gs|gcs|abfss?|hdfs|viewfs|file):")
_PAUSES_SECONDS = (1.0, 5.0, 20.0)
_EXPECTED = (
    "expected a folder, or a URI such as s3://BUCKET/FOLDER, gs://BUCKET/FOLDER, "
    "abfs://CONTAINER@ACCOUNT.dfs.core.windows.net/FOLDER, hdfs://HOST:PORT/FOLDER, file:///FOLDER"
)

Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")


class StoreError(OSError):
    """An object store fails, or its URI is not valid; the message names the URI without secrets."""


@dataclass(frozen=True, order=True, repr=False)
class StorePath:
    """A file or folder in an object store: the part of pathlib's Path that is used here.

    Its methods raise StoreError where the store fails, and FileNotFoundError for an absent file. In most stores a file
    appears whole when `write_bytes` returns.
    """

    uri: str

    def __post_init__(self) -> None:
        path, question, query = self.uri.partition("?")
        object.__setattr__(self, "uri", (path if path.endswith("://") else path.rstrip("/")) + question + query)

    def __str__(self) -> str:
        return self.uri

    def __repr__(self) -> str:
        return f"StorePath({without_secrets(self.uri)!r})"

    def __truediv__(self, name: str) -> "StorePath":
        folder, question, query = self.uri.partition("?")
        return StorePath(f"{folder}/{quote(name)}{question}{query}")

    @property
    def name(self) -> str:
        return unquote(self.uri.partition("?")[0].rpartition("/")[2])

    def checked(self) -> "StorePath":
        """This path. Raises StoreError where it is not a valid URI or holds secrets; the store is not asked."""
        secrets = secrets_in(self.uri)
        try:
            parts = urlsplit(self.uri)
        except ValueError as error:
            raise StoreError(f"{without_secrets(self.uri)}: {error}; {_EXPECTED}") from error
        if secrets:
            raise StoreError(
                f"{without_secrets(self.uri)}: holds {' and '.join(secrets)}, which would be written to the ledger and "
                "shown to every worker; give credentials by the store's environment variables, configuration files or "
                "the machines' roles, on every node"
            )
        if "://" not in self.uri or (not parts.netloc and parts.scheme not in ("file", "hdfs", "viewfs")):
            raise StoreError(f"{self}: no URI of a folder; {_EXPECTED}")
        return self

    def size(self) -> int | None:
        """Bytes of a file; None where there is no file."""
        with self._opened("looked at") as (store, path):
            return store.get_file_info(path).size

    def read_bytes(self) -> bytes:
        with self._opened("read") as (store, path), store.open_input_stream(path, compression=None) as stream:
            return bytes(stream.read())

    def write_bytes(self, content: bytes) -> None:
        """Write a file, and the folders above it where the store has folders."""
        with self._opened("written") as (store, path):
            try:
                stream = store.open_output_stream(path, compression=None)
            except FileNotFoundError:
                store.create_dir(path.rpartition("/")[0], recursive=True)
                stream = store.open_output_stream(path, compression=None)
            with stream:
                stream.write(content)

    def glob(self, pattern: str) -> "list[StorePath]":
        """Files and folders directly in this folder whose name fits the pattern; none where there is no folder."""
        from pyarrow.fs import FileSelector

        with self._opened("listed") as (store, path):
            found = store.get_file_info(FileSelector(path, recursive=False, allow_not_found=True))
        return [self / info.base_name for info in found if fnmatchcase(info.base_name, pattern)]

    def unlink(self, missing_ok: bool = False) -> None:
        with suppress(*[FileNotFoundError] * missing_ok), self._opened("deleted") as (store, path):
            store.delete_file(path)

    def rename(self, target: str) -> None:
        """target: a URI of the same store."""
        with self._opened("renamed") as (store, path), StorePath(target)._opened("renamed") as (_, new):
            store.move(path, new)

    def remove_folder(self) -> None:
        """Delete this folder with its content; nothing where there is none."""
        with suppress(FileNotFoundError), self._opened("deleted") as (store, path):
            store.delete_dir(path)

    @contextmanager
    def _opened(self, what: str) -> Iterator[tuple[Any, str]]:
        """pyarrow's file system, and the path in it. An error within the context becomes a StoreError.

        what: names the action, as "cannot be written" does.
        """
        parts = urlsplit(self.checked().uri)
        store, root = _file_system(parts.scheme, parts.netloc, parts.query)
        below = unquote(parts.path).strip("/")
        try:
            yield store, f"{root}/{below}" if below else root or "/"
        except Exception as error:  # stores and networks raise errors of all kinds
            if isinstance(error, StoreError) or (isinstance(error, FileNotFoundError) and what != "written"):
                raise
            raise StoreError(f"{self}: cannot be {what}: {_first_line(error)}") from error


Place = Path | StorePath
"""A file or folder on a mounted disk, or in an object store."""


def place(text: str) -> Place:
    """The path or the URI that a text names; a URI is not checked yet."""
    return StorePath(text) if _URI.match(text) else Path(os.path.expanduser(text))


def local_folder(text: str) -> Path:
    """A path from a command line, where a URI is refused. Raises argparse.ArgumentTypeError."""
    if _URI.match(text):
        uri = without_secrets(text)
        raise argparse.ArgumentTypeError(f"{uri}: expected a folder; a URI goes to --storage of run and report")
    return Path(os.path.expanduser(text))


def working_folder(store: StorePath) -> Path:
    """The folder on this machine for the working files of a store: another one for each URI."""
    readable = re.sub(r"[^\w.-]+", "-", store.uri.partition("?")[0].partition("://")[2]).strip("-.")[-60:]
    return Path("runs/copies") / f"{readable}-{hashlib.sha256(store.uri.encode()).hexdigest()[:8]}"


def patient(action: Callable[Arguments, Answer]) -> Callable[Arguments, Answer]:
    """An action that is tried again where a store does not answer, after pauses of about half a minute in all.

    It raises the last StoreError.
    """

    @functools.wraps(action)
    def tried(*arguments: Arguments.args, **options: Arguments.kwargs) -> Answer:
        began = time.monotonic()
        for pause in _PAUSES_SECONDS:
            try:
                return action(*arguments, **options)
            except StoreError:
                # For a store that accepts a connection and is silent, pyarrow itself has waited longer than this.
                if time.monotonic() - began > sum(_PAUSES_SECONDS):
                    raise
                time.sleep(pause)
        return action(*arguments, **options)

    return tried


@contextmanager
def local_file(source: str) -> Iterator[Path]:
    """A file by its path or URI, as a file on this machine for as long as the context lasts. Raises StoreError."""
    file = place(source)
    if isinstance(file, Path):
        yield file
        return
    with tempfile.TemporaryDirectory(prefix="msd_sweeps-") as folder:
        path = Path(folder) / file.name
        path.write_bytes(patient(file.read_bytes)())
        yield path


@functools.lru_cache
def _file_system(scheme: str, host: str, query: str) -> tuple[Any, str]:
    """The one connection to a store, and the prefix of every path in it. Raises StoreError."""
    from pyarrow.fs import FileSystem

    uri = f"{scheme}://{host}/" + (f"?{query}" if query else "")
    try:
        store, root = FileSystem.from_uri(uri)
    except Exception as error:  # URIs, libraries and networks raise errors of all kinds
        raise StoreError(f"{uri}: cannot be opened: {_first_line(error)}; {_EXPECTED}") from error
    return store, root.rstrip("/")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
