"""What `auto` means is decided once, and a machine that cannot do it says so."""

from pathlib import Path
from unittest.mock import MagicMock

import pytest
import torch

from msd_sweeps.catalog import processor
from msd_sweeps.distill import by_hand
from msd_sweeps.distill.device import choose_dtype
from msd_sweeps.plan.slots import SlotPlan
from msd_sweeps.space import trial as trial_module
from msd_sweeps.space.errors import InputError
from msd_sweeps.space.load import load_base
from msd_sweeps.space.trial import Trial, changed
from msd_sweeps.sweep import worker
from tests.distill.conftest import make_trial


@pytest.mark.parametrize("native", ["float32", "bfloat16"])
def test_auto_is_resolved_where_the_trial_is_planned_and_its_id_is_of_the_result(monkeypatch, native):
    monkeypatch.setattr(trial_module, "native_precision", lambda: native)
    planned = make_trial(recipe={"epochs": 3, "batch_size": 16})
    assert (planned.recipe.precision, planned.teacher.recipe.precision) == (native, native)
    written = make_trial(
        recipe={"epochs": 3, "batch_size": 16, "precision": native},
        teacher={"model": "resnet8", "recipe": {"precision": native}},
    )
    assert planned.id == written.id
    monkeypatch.setattr(trial_module, "native_precision", lambda: "another machine's")
    assert Trial.model_validate_json(planned.model_dump_json()) == planned
    replaced = changed(planned, {"recipe.precision": "float32"})
    assert (replaced.id == planned.id) == (native == "float32")


def test_the_embedded_base_is_the_same_trial_on_every_machine(monkeypatch):
    ids = set()
    for native in ("float32", "bfloat16"):
        monkeypatch.setattr(trial_module, "native_precision", lambda native=native: native)
        ids.add(load_base("digits").id)
    assert len(ids) == 1


def test_a_processor_without_bfloat16_is_named(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"cpu_name": "an old one", "avx2": True})
    monkeypatch.setattr("socket.gethostname", lambda: "node-7")
    assert choose_dtype("float32", torch.device("cpu")) == torch.float32
    with pytest.raises(InputError, match=r"node-7 \(an old one.*--set recipe.precision=float32"):
        choose_dtype("bfloat16", torch.device("cpu"))


@pytest.mark.parametrize(
    ("maker", "flags", "precision"),
    [
        ("AuthenticAMD", "fma avx512_bf16 sse", "bfloat16"),
        ("GenuineIntel", "fma avx512_bf16 sse", "float32"),
        ("GenuineIntel", "avx512_bf16 amx_bf16", "bfloat16"),
        ("AuthenticAMD", "avx512f bf16", "float32"),
        ("", None, "float32"),
    ],
)
def test_maker_and_flags_of_the_processor_decide(tmp_path, monkeypatch, maker, flags, precision):
    monkeypatch.setattr(processor, "_gpu_generations", list)
    file = tmp_path / "cpuinfo"
    if flags:
        file.write_text(f"vendor_id\t: {maker}\nmodel name\t: one\nflags\t\t: {flags}\n")
    assert processor.native_precision.__wrapped__(file) == precision


@pytest.mark.parametrize(("generations", "precision"), [([9], "bfloat16"), ([9, 7], "float32")])
def test_every_gpu_has_to_have_it(tmp_path, monkeypatch, generations, precision):
    monkeypatch.setattr(processor, "_gpu_generations", lambda: generations)
    assert processor.native_precision.__wrapped__(tmp_path / "none") == precision


def test_this_processor_is_judged_as_torch_judges_it(monkeypatch):
    monkeypatch.setattr(processor, "_gpu_generations", list)
    capabilities = torch.cpu.get_capabilities()
    is_intel = "GenuineIntel" in Path("/proc/cpuinfo").read_text()
    native = capabilities.get("amx_bf16") or (capabilities.get("avx512_bf16") and not is_intel)
    assert processor.native_precision.__wrapped__() == ("bfloat16" if native else "float32")


CUDNN, MATMUL = torch.backends.cudnn, torch.backends.cuda.matmul


def set_fast(deterministic: bool, fast: bool) -> None:
    CUDNN.deterministic, CUDNN.benchmark, CUDNN.allow_tf32, MATMUL.allow_tf32 = deterministic, fast, fast, fast


@pytest.fixture
def careless():
    """A process that lets GPUs be fast and different every time."""
    set_fast(False, True)
    yield
    set_fast(True, False)


def is_careful() -> bool:
    return CUDNN.deterministic and not (CUDNN.benchmark or CUDNN.allow_tf32 or MATMUL.allow_tf32)


def test_a_trial_by_hand_fixes_the_arithmetic(careless, tmp_path):
    trial = changed(load_base("digits", ["method={name: none}"]), {"recipe.precision": "float32"})
    by_hand.cohort_of(trial, tmp_path, lambda: None)
    assert is_careful()


def test_a_worker_of_a_sweep_fixes_the_arithmetic(careless, monkeypatch):
    monkeypatch.setattr("ray.train.get_context", MagicMock())
    monkeypatch.setattr(worker, "Worker", MagicMock())
    worker.serve({"dispatcher": None, "slot": 0, "plan": SlotPlan(1, {"CPU": 1})})
    assert is_careful()
