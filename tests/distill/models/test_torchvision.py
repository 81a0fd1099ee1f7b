import os
import subprocess
import sys
from pathlib import Path

import pytest

from msd_sweeps.distill.models import imagenet

ROOT = Path(__file__).resolve().parents[3]

# fails on import as torchvision does where its compiled operators are missing
BROKEN = """
import torch
from . import models
torch.library.register_fake("torchvision::nms")(lambda dets, scores, iou_threshold: dets)
torch.library.register_fake("torchvision::qnms")(lambda dets, scores, iou_threshold: dets)
"""


def test_pure_python_parts_work():
    module = imagenet.torchvision()
    assert module is imagenet.torchvision()
    assert module.models.resnet18
    assert module.datasets.CIFAR100
    assert module.transforms.Compose


def test_missing_operators_are_declared(tmp_path):
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text(BROKEN)
    (package / "models.py").write_text("")
    code = """
import sys
import msd_sweeps.distill.models
assert "torchvision" not in sys.modules and "timm" not in sys.modules  # only what needs it imports it
from msd_sweeps.distill.models.imagenet import torchvision
try:
    import torchvision as broken
except RuntimeError:
    pass
else:
    raise SystemExit("not broken")
assert torchvision().models is sys.modules["torchvision.models"]
"""
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_other_errors_pass(monkeypatch):
    def fail(name: str) -> None:
        raise RuntimeError("something else")

    monkeypatch.setattr(imagenet.importlib, "import_module", fail)
    with pytest.raises(RuntimeError, match="something else"):
        imagenet.torchvision()
