"""An export that is killed leaves a whole file or none, wherever it is."""

import json
import signal
import subprocess
import sys

import pytest
from safetensors import safe_open

CHILD = """
import sys, time
from pathlib import Path
import msd_sweeps.records.files as files
from msd_sweeps.distill import exporting, kept
from msd_sweeps.records.kept import Kept
import safetensors.torch, torch

stop, out = sys.argv[1], Path(sys.argv[2])
source = Path("kept.safetensors")
safetensors.torch.save_file({f"{n}": torch.full((64, 1024), float(n)) for n in range(64)}, source)
replace, sync = Path.replace, files.os.fsync

def wait(call, name):
    def waited(*arguments):
        if stop == f"before {name}":
            print("here", flush=True); time.sleep(60)
        result = call(*arguments)
        if stop == f"after {name}":
            print("here", flush=True); time.sleep(60)
        return result
    return waited

files.os.fsync, Path.replace = wait(sync, "fsync"), wait(replace, "replace")
exporting.export(Kept(source, {"model": "x"}), out, "safetensors")
print("done", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("is_there", [False, True])
@pytest.mark.parametrize("stop", ["before fsync", "after fsync", "before replace", "after replace", "never"])
def test_a_killed_export_leaves_a_whole_file_or_none(tmp_path, stop, is_there):
    out = tmp_path / "out" / "student.safetensors"
    if is_there:
        out.parent.mkdir()
        out.write_bytes(b"an older file")
    child = subprocess.Popen([sys.executable, "-c", CHILD, stop, out], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline().strip() == ("done" if stop == "never" else "here")
    child.send_signal(signal.SIGKILL)
    child.wait(10)
    if stop in ("after replace", "never"):
        with safe_open(out, framework="pt") as file:
            assert json.loads(file.metadata()["msd_sweeps"]) == {"model": "x"}
            assert [file.get_tensor(str(n))[0, 0].item() for n in range(64)] == list(range(64))
    else:
        assert not out.exists() if not is_there else out.read_bytes() == b"an older file"
