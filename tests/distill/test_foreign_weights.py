"""Weights that other people's scripts wrote, in all the wrappings that these leave."""

import argparse
from pathlib import Path

import numpy as np
import pytest
import torch

from msd_sweeps import run
from msd_sweeps.distill import models
from msd_sweeps.distill.foreign import TeacherError, fitted, read_weights
from msd_sweeps.space.load import load_base

STATE = models.build("resnet8", 10).state_dict()


def under(*prefixes: str):
    """The state with a prefix before every key, in turn."""
    return {f"{prefixes[index % len(prefixes)]}{name}": tensor for index, (name, tensor) in enumerate(STATE.items())}


@pytest.mark.parametrize(
    "content",
    [
        STATE,
        under("module."),
        under("_orig_mod."),
        under("model.", "model."),
        under("module._orig_mod.backbone."),
        under("backbone.", ""),
        {"model": STATE, "epoch": 240, "best_acc": np.float64(72.1), "opt": argparse.Namespace(lr=0.05)},
        {"model_state_dict": under("student."), "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}},
        {"epoch": 3, "ema": {"weights": STATE}},
        {"state_dict": STATE, "ema": {name: tensor + 1 for name, tensor in STATE.items()}},
    ],
)
def test_weights_are_found_in_any_wrapping(content, tmp_path):
    path = tmp_path / "teacher.pth"
    torch.save(content, path)
    found = fitted(read_weights(path), models.build("resnet8", 10), path)
    assert found.keys() == STATE.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in STATE.items())


@pytest.mark.parametrize("model", ["swin_tiny", "vit_small"])
def test_timms_own_keys_fit(model, tmp_path):
    try:
        network = models.build(model, 10)
    except ModuleNotFoundError:
        pytest.skip("timm is not installed")
    bare = {name.removeprefix("model."): tensor for name, tensor in network.state_dict().items()}
    assert fitted(bare, network, tmp_path).keys() == network.state_dict().keys()


class Foreign:
    """Stands for whatever class a script pickles."""


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"model": STATE, "trainer": Foreign()}, r"holds a tests\.\S*\.Foreign, which .*\n  python -c"),
        ({"a": STATE, "b": STATE}, r"found 2 \(a, b\); keep one"),
        ({"epoch": 3}, "found none"),
        (STATE | {"fc.bias": torch.full((10,), float("nan"))}, r"'fc\.bias' has values that are not finite"),
        (STATE | {"fc.bias": torch.zeros(10, dtype=torch.complex64)}, r"'fc\.bias' has values that are complex"),
        (under("teacher.") | under("student."), "has no place in it"),
    ],
)
def test_what_is_refused_is_named_without_terminal_codes(content, says, tmp_path):
    path = tmp_path / "teacher.pt"
    torch.save(content, path)
    with pytest.raises(TeacherError, match=says) as error:
        fitted(read_weights(path), models.build("resnet8", 10), path)
    assert "\\x1b" not in str(error.value)


def test_the_line_that_converts_a_file_does_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": STATE, "trainer": Foreign()}, "teacher.pt")
    with pytest.raises(TeacherError) as error:
        read_weights(Path("teacher.pt"))
    code = str(error.value).rpartition("python -c ")[2].strip().strip('"')
    exec(code)
    assert read_weights(Path("weights.pt")).keys() == STATE.keys()


def test_a_dry_run_opens_the_file(tmp_path, capsys):
    path = tmp_path / "teacher.pt"
    path.write_bytes(b"no weights")
    arguments = ["--space", "scales.yaml", "--dry-run", "--set", f"teacher.weights={path}"]
    assert run.main(arguments) == 2
    assert "teacher.pt: cannot be read as weights" in capsys.readouterr().err


def test_other_statistics_of_the_images_are_another_teacher_and_another_trial():
    plain = load_base("digits")
    other = load_base("digits", ["data.normalize={mean: [0.5, 0.5, 0.5], std: [0.2, 0.2, 0.2]}"])
    assert plain.id != other.id
    from msd_sweeps.distill.data import loading

    splits = loading.load(other.data)
    assert (splits.mean, splits.std) == ((0.5,) * 3, (0.2,) * 3)
