"""What `auto` means is decided once, and a machine that cannot do it says so."""

import pytest
import torch

from msd_sweeps.catalog import processor
from msd_sweeps.distill.device import choose_dtype
from msd_sweeps.space import trial as trial_module
from msd_sweeps.space.errors import InputError
from msd_sweeps.space.load import load_base
from msd_sweeps.space.trial import Trial, changed
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
    ("flags", "precision"),
    [("fma avx512_bf16 sse", "bfloat16"), ("amx_bf16", "bfloat16"), ("avx512f bf16", "float32"), (None, "float32")],
)
def test_the_flags_of_the_processor_decide(tmp_path, monkeypatch, flags, precision):
    monkeypatch.setattr(processor, "_gpu_generations", list)
    file = tmp_path / "cpuinfo"
    if flags:
        file.write_text(f"model name\t: one\nflags\t\t: {flags}\n")
    assert processor.native_precision.__wrapped__(file) == precision


@pytest.mark.parametrize(("generations", "precision"), [([9], "bfloat16"), ([9, 7], "float32")])
def test_every_gpu_has_to_have_it(tmp_path, monkeypatch, generations, precision):
    monkeypatch.setattr(processor, "_gpu_generations", lambda: generations)
    assert processor.native_precision.__wrapped__(tmp_path / "none") == precision


def test_this_processor_is_judged_as_torch_judges_it(monkeypatch):
    monkeypatch.setattr(processor, "_gpu_generations", list)
    capabilities = torch.cpu.get_capabilities()
    native = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")
    assert processor.native_precision.__wrapped__() == ("bfloat16" if native else "float32")
