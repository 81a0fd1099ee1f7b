"""Weights of any origin are measured, in the precision that is asked for."""

import argparse
import json
from pathlib import Path

import pytest
import safetensors.torch
import torch

from msd_sweeps import evaluate
from msd_sweeps.catalog.processor import native_precision
from msd_sweeps.distill import models


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A file without a card, as others share them."""
    torch.manual_seed(0)
    path = tmp_path / "resnet8.safetensors"
    safetensors.torch.save_file(models.build("resnet8", 10).state_dict(), path)
    return path


def measured(capsys: pytest.CaptureFixture[str], *words: str) -> dict:
    assert evaluate.main([*words, "--data", "digits", "--model", "resnet8", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_without_a_precision_it_is_that_of_the_machine(weights, capsys):
    """Neither the file nor the command says one, or the command says auto."""
    found = measured(capsys, str(weights))
    assert found == measured(capsys, str(weights), "--precision", "auto")
    assert found == measured(capsys, str(weights), "--precision", native_precision())
    assert 0 <= found["top1"] <= 100


@pytest.mark.parametrize("damage", ["torn.safetensors", "random.pt", "random.onnx", "card.json"])
def test_a_damaged_file_or_card_is_named(weights, damage, capsys):
    path = weights if damage == "card.json" else weights.with_name(damage)
    weights.with_name(damage).write_bytes(weights.read_bytes()[:999] if "torn" in damage else bytes(range(256)))
    assert evaluate.main([str(path), "--data", "digits", "--model", "resnet8"]) == 2
    assert damage in capsys.readouterr().err


def test_other_peoples_files_with_more_than_tensors_are_measured(weights, capsys):
    content = {"opt": argparse.Namespace(lr=0.1), "model": safetensors.torch.load_file(weights)}
    torch.save(content, other := weights.with_suffix(".pth"))
    assert measured(capsys, str(other))["top1"] == measured(capsys, str(weights))["top1"]


def test_data_that_is_no_name_is_told(weights, capsys):
    assert evaluate.main([str(weights), "--data", "[1]"]) == 2
    assert "--data: expected a name or a mapping, found [1]" in capsys.readouterr().err
