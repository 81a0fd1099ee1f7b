"""The step benchmark: what it compares, writes and draws. How fast anything is, no test says."""

import json
from pathlib import Path

import pytest
import torch

from msd_sweeps.bench import steps as bench
from msd_sweeps.space.methods import METHODS


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("bench")
    choices = {"set": ["recipe.batch_size=8"], "methods": ["kd", "msd", "crd"], "packs": ["1", "8"]}
    choices |= {"rounds": ["2"], "steps": ["1"], "out": [str(out)]}
    words = [word for name, values in choices.items() for word in (f"--{name}", *values)]
    assert bench.main(words) == 0
    return out / "digits-cpu-steps.json"


def test_ratios_have_their_targets_and_say_whether_they_are_kept():
    seconds = {bench.FLOOR: 1.0, bench.PEERS: 4.0, "kd": 2.0, "msd": 2.2, "crd": 5.0, "8 trials packed": 1.1}
    timings = {name: [value, value] for name, value in seconds.items()}
    found = bench.ratios(timings, {"kd": 100.0, "msd": 130.0, "crd": 200.0})
    assert [round(ratio.rounds[0], 3) for ratio in found] == [1.1, 0.275, 1.1, 0.067, 0.3]
    assert [ratio.kept for ratio in found] == ["yes", "yes", "no", "yes", "yes"]


def test_all_methods_are_those_of_the_registry(capsys):
    with pytest.raises(SystemExit):
        bench.main(["--help"])
    listed = capsys.readouterr().out.split("or 'all':")[1].split("--packs")[0]
    assert [name.strip() for name in listed.split(",")] == list(METHODS)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_memory_is_measured_in_a_process_of_its_own(capsys, tmp_path):
    words = ["--set", "recipe.batch_size=8", "--methods", "kd", "--packs", "--rounds", "1", "--steps", "1", "--memory"]
    assert bench.main([*words, "--out", str(tmp_path)]) == 0
    (numbers,) = tmp_path.glob("*.json")
    rows = {row["name"]: row["peak_mebibytes"] for row in json.loads(numbers.read_text())["steps"]}
    assert rows["kd"] > 50  # torch alone takes more
    assert rows[bench.FLOOR] is None
    assert not list(tmp_path.glob("*.svg"))  # no pack, no plot


def test_an_unknown_setting_is_bad_input(capsys):
    assert bench.main(["--set", "recipe.batchsize=8"]) == 2
    assert "batch_size" in capsys.readouterr().err
