"""What this machine offers, as Linux and CUDA report it."""

import math

from msd_sweeps.plan.plan import available_bytes, local_cpus, local_gpus


def test_gpus_are_those_that_are_there_and_that_the_process_may_use(monkeypatch, tmp_path):
    for visible in ("0", "0,1", "GPU-1234", "MIG-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert local_gpus(tmp_path) == 0  # a variable is no device
    for name in ("nvidia0", "nvidia1", "nvidia2", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    for visible, count in (
        ("", 0),
        ("-1", 0),
        ("0", 1),
        ("0,2", 2),
        ("GPU-1234", 1),
        ("0,1,2,3,4", 3),
        ("MIG-1,MIG-2,MIG-3,MIG-4", 4),
    ):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert local_gpus(tmp_path) == count
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert local_gpus(tmp_path) == 3


def test_a_quota_of_the_control_group_bounds_the_cpus(tmp_path, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: range(64))
    assert local_cpus(tmp_path) == 64
    for text, count in (("max 100000", 64), ("400000 100000", 4), ("50000 100000", 1), ("250000 100000", 3), ("x", 64)):
        (tmp_path / "cpu.max").write_text(f"{text}\n")
        assert local_cpus(tmp_path) == count
    (tmp_path / "cpu.max").unlink()
    (tmp_path / "cpu").mkdir()
    for quota, count in ((-1, 64), (200_000, 2)):
        (tmp_path / "cpu/cpu.cfs_quota_us").write_text(f"{quota}\n")
        (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000\n")
        assert local_cpus(tmp_path) == count


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
