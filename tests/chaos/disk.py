"""A disk that refuses an operation, or on which a process dies at one, or that loses what was not synced.

For processes that are forked from this one. An operation is what changes files: to open one for writing, to write, to
sync, to rename, to delete. Lost is what POSIX allows to be lost in a power cut: content that was not synced since it
was written, and names in folders that were not synced since.
"""

import contextlib
import errno
import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

EXIT_CODE = 99
"""Of a process that died at its operation."""


class Operations:
    """Counts the operations of this process below a folder; at the n-th, something happens once."""

    def __init__(self, root: Path, at: int, fails: bool, synced: "Synced | None" = None):
        """at: the number of the operation, from 1. fails: whether it is refused; otherwise the process dies at it."""
        self.root, self.at, self.fails, self.synced, self.count = str(root), at, fails, synced, 0

    def install(self) -> None:
        """Watch this process until it ends."""
        os.fsync = self._on_fsync(os.fsync)
        for name in ("replace", "unlink"):
            setattr(os, name, self._counted(getattr(os, name)))
        io.open = self._on_open(io.open)

    def step(self) -> bool:
        """One operation more. Whether it is the one at which the process dies; raises OSError if it is refused."""
        self.count += 1
        if self.count == self.at and self.fails:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return self.count == self.at

    def _counted(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(path: Any, *more: Any, **options: Any) -> Any:
            if str(path).startswith(self.root) and self.step():
                os._exit(EXIT_CODE)
            return call(path, *more, **options)

        return counted

    def _on_fsync(self, fsync: Callable[[int], None]) -> Callable[[int], None]:
        def synced(descriptor: int) -> None:
            path = os.readlink(f"/proc/self/fd/{descriptor}")
            if not path.startswith(self.root):
                fsync(descriptor)
                return
            if self.step():
                os._exit(EXIT_CODE)
            if self.synced is not None:
                self.synced.sync(Path(path))

        return synced

    def _on_open(self, opened: Callable[..., Any]) -> Callable[..., Any]:
        def counted(path: Any, mode: str = "r", *more: Any, **options: Any) -> Any:
            if not str(path).startswith(self.root) or mode[0] not in "wa" or Path(path).name == "lock":
                return opened(path, mode, *more, **options)
            if self.step():
                os._exit(EXIT_CODE)
            file = opened(path, mode, *more, **options)
            if self.synced is not None and mode[0] == "w":
                self.synced.forget(os.fstat(file.fileno()).st_ino)
            return _File(file, self)

        return counted


class _File:
    """A file whose writes are counted; a process that dies in one has written half of it."""

    def __init__(self, file: Any, operations: Operations):
        self._file, self._operations = file, operations

    def write(self, content: bytes) -> Any:
        if self._operations.step():
            self._file.write(content[: len(content) // 2])
            with contextlib.suppress(OSError):
                self._file.flush()
            os._exit(EXIT_CODE)
        return self._file.write(content)

    def __enter__(self) -> "_File":
        return self

    def __exit__(self, *raised: Any) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


class Synced:
    """What a power cut would leave of a folder: kept beside it, by the numbers of files and folders."""

    def __init__(self, root: Path, beside: Path):
        self.root, self.beside = root, beside
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir()
        for path in (root, *root.rglob("*")):
            self.sync(path)

    def sync(self, path: Path) -> None:
        """A file's content, or a folder's list of names, is on the disk."""
        kept = self.beside / str(path.stat().st_ino)
        if path.is_dir():
            names = {child.name: [child.stat().st_ino, child.is_dir()] for child in path.iterdir()}
            kept.write_text(json.dumps(names))
        else:
            shutil.copyfile(path, kept)

    def forget(self, number: int) -> None:
        """A file is made, or emptied: it may have the number of one that was deleted."""
        (self.beside / str(number)).unlink(missing_ok=True)

    def cut(self) -> None:
        """Cut the power: the folder becomes what was synced of it."""
        left = self.root.with_name(f"{self.root.name}-left")
        self._restore(self.root.stat().st_ino, left)
        shutil.rmtree(self.root)
        left.rename(self.root)

    def _restore(self, number: int, folder: Path) -> None:
        folder.mkdir()
        names = self.beside / str(number)
        for name, (child, is_folder) in (json.loads(names.read_text()) if names.exists() else {}).items():
            kept = self.beside / str(child)
            if is_folder:
                self._restore(child, folder / name)
            else:
                (folder / name).write_bytes(kept.read_bytes() if kept.exists() else b"")
