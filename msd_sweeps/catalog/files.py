"""Files that the user brings: their checksum, and the error that says what is wrong with them; without torch."""

import hashlib
from pathlib import Path


class DataError(ValueError):
    """The files of a data set are absent, damaged or of another shape; the message says which and what to do."""


_HASHES: dict[tuple[str, int, int], str] = {}


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, remembered while its size and time stamp stay; "absent" where there is none."""
    try:
        status = path.stat()
    except OSError:
        return "absent"
    key = (str(path), status.st_size, status.st_mtime_ns)
    if key not in _HASHES:
        with path.open("rb") as file:
            _HASHES[key] = hashlib.file_digest(file, "sha256").hexdigest()
    return _HASHES[key]
