"""Teachers in an object store: brought to where they are read, and kept there for every worker."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from msd_sweeps.records.files import write_whole
from msd_sweeps.records.object_store import Place, StorePath, patiently, place

CARD, WEIGHTS = "teacher.json", "weights.safetensors"


def fetch_teacher(kept: StorePath, folder: Path) -> None:
    """Fetch a teacher from a store, if it has a whole one, in place of another that lies here: students elsewhere
    have learned from it. Raises StoreError."""
    content = _card(kept)
    card = folder / CARD
    if content is None or (card.exists() and card.read_bytes() == content):
        return
    try:
        weights = patiently((kept / WEIGHTS).read_bytes)
    except FileNotFoundError:
        return
    if sha256(weights).hexdigest() != json.loads(content)["weights_sha256"]:
        return
    folder.mkdir(parents=True, exist_ok=True)
    card.unlink(missing_ok=True)
    (folder / WEIGHTS).write_bytes(weights)
    write_whole(card, content)


def keep_teacher(folder: Path, kept: StorePath) -> None:
    """Put a teacher into a store that lacks it, its card last: where there is one, the weights are whole.

    Raises StoreError.
    """
    content, weights = (folder / CARD).read_bytes(), (folder / WEIGHTS).read_bytes()
    if _card(kept) == content and patiently((kept / WEIGHTS).size) == len(weights):
        return
    patiently(lambda: (kept / WEIGHTS).write_bytes(weights))
    patiently(lambda: (kept / CARD).write_bytes(content))


def _card(kept: StorePath) -> bytes | None:
    try:
        return patiently((kept / CARD).read_bytes)
    except FileNotFoundError:
        return None


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
