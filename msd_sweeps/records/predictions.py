"""What a network predicted for each test image, as the ledger keeps it: without torch or numpy."""

import base64
import zlib
from collections.abc import Sequence

from typing_extensions import TypedDict  # pydantic wants this one on Python 3.11, and brings it


class Predictions(TypedDict):
    """The test images in the order of the data set."""

    images: int
    right: str
    """One bit an image, the first in the highest bit of the first byte, in base64: whether it was classified rightly.
    1,250 bytes for 10,000 images."""
    classes: str
    """The predicted class of each image, two bytes each, the lower first, compressed (zlib) and in base64."""


def predictions_of(predicted: Sequence[int], labels: Sequence[int]) -> Predictions:
    """The predictions of a network from the class [N] of each image, and the true ones. Raises ValueError for lengths
    that differ."""
    bits = "".join("01"[one == label] for one, label in zip(predicted, labels, strict=True))
    size = -(-len(bits) // 8)
    right = int(bits.ljust(8 * size, "0") or "0", 2).to_bytes(size, "big")
    classes = b"".join(one.to_bytes(2, "little") for one in predicted)
    return {"images": len(bits), "right": _text(right), "classes": _text(zlib.compress(classes, 9))}


def bytes_of(found: Predictions) -> tuple[bytes, bytes]:
    """The bits of `right`, and the classes, two bytes each, the lower first."""
    return base64.b64decode(found["right"]), zlib.decompress(base64.b64decode(found["classes"]))


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()
