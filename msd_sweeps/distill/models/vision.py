"""torchvision, also where its compiled operators do not fit the installed torch."""

import importlib
import sys
from types import ModuleType

import torch

# torchvision attaches shape rules to these two compiled operators while it is imported. A wheel built for
# another torch (a CUDA wheel beside a CPU-only torch) cannot load them, and the import then fails although
# networks, data sets and transforms are pure Python. A bare schema is enough for the import to succeed.
_BOX_OPERATORS = ("nms", "qnms")
_BOX_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def torchvision() -> ModuleType:
    """The torchvision package with its networks, data sets and transforms.

    Its compiled operators (box suppression, image decoding) may be missing; nothing here uses them.
    """
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]  # half imported
    for operator in _BOX_OPERATORS:
        if not hasattr(torch.ops.torchvision, operator):
            torch.library.define(f"torchvision::{operator}", _BOX_SCHEMA)
    return importlib.import_module("torchvision")
