"""Weights of any origin are measured, in the precision that is asked for."""

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
