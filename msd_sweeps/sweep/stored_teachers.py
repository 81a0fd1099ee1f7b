"""Teachers in an object store: fetched where they are read, and kept there for every worker."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path

from msd_sweeps.records.files import write_whole
from msd_sweeps.records.object_store import Place, StorePath, patiently, place

CARD, WEIGHTS = "teacher.json", "weights.safetensors"


def fetch_teacher(stored: StorePath, folder: Path) -> None:
    """Fetch a teacher from a store that has a whole one, in place of another in the local folder: students on other
    machines have learned from the store's. Raises StoreError."""
    card = folder / CARD
    with suppress(FileNotFoundError, ValueError):  # absent, or a torn card
        content = patiently((stored / CARD).read_bytes)
        if card.exists() and card.read_bytes() == content:
            return
        weights = patiently((stored / WEIGHTS).read_bytes)
        if sha256(weights).hexdigest() == json.loads(content)["weights_sha256"]:
            card.unlink(missing_ok=True)
            write_whole(folder / WEIGHTS, weights)
            write_whole(card, content)


def keep_teacher(folder: Path, stored: StorePath) -> None:
    """Put a teacher into a store that lacks it. The card comes last: where it is, the weights are whole.

    Raises StoreError.
    """
    content, weights = (folder / CARD).read_bytes(), (folder / WEIGHTS).read_bytes()
    with suppress(FileNotFoundError):
        is_same = patiently((stored / CARD).read_bytes) == content
        if is_same and patiently((stored / WEIGHTS).size) == len(weights):
            return
    patiently(lambda: (stored / WEIGHTS).write_bytes(weights))
    patiently(lambda: (stored / CARD).write_bytes(content))


@contextmanager
def local_file(weights: str) -> Iterator[Path]:
    """A file by its path or URI, as a file on this machine for as long as the context lasts. Raises StoreError."""
    source: Place = place(weights)
    if isinstance(source, Path):
        yield source
        return
    with tempfile.TemporaryDirectory(prefix="msd_sweeps-") as folder:
        path = Path(folder) / source.name
        path.write_bytes(patiently(source.read_bytes))
        yield path
