"""What this machine offers, as Linux and CUDA report it."""

import math

from msd_sweeps.plan.plan import available_bytes, local_gpus


def test_gpus_are_those_that_the_process_may_use(monkeypatch):
    for visible, count in (("", 0), ("-1", 0), ("0", 1), ("0,2", 2), ("GPU-1234", 1)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert local_gpus() == count


def test_memory_is_that_of_the_machine_or_of_its_control_group(tmp_path):
    def available() -> float:
        return available_bytes(tmp_path / "meminfo", tmp_path)

    assert available() == math.inf
    (tmp_path / "meminfo").write_text("MemTotal: 24 kB\nMemAvailable:   2048 kB\nBuffers: 1 kB\n")
    assert available() == 2**21
    (tmp_path / "memory.current").write_text("100\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert available() == 2**21
    (tmp_path / "memory.max").write_text("1000\n")
    assert available() == 900
