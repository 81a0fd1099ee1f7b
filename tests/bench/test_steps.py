"""The step benchmark: what it compares, writes and draws. How fast anything is, no test says."""

import json
from pathlib import Path

import pytest
import torch

from msd_sweeps.bench import drawing as benchmark
from msd_sweeps.bench import steps as bench
from msd_sweeps.distill.timing import PackCost, Timing, time_in_turns, worthwhile_pack


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("bench")
    choices = {"set": ["recipe.batch_size=8"], "methods": ["kd", "msd", "crd"], "packs": ["1", "8"]}
    choices |= {"rounds": ["2"], "steps": ["1"], "out": [str(out)]}
    words = [word for name, values in choices.items() for word in (f"--{name}", *values)]
    assert bench.main(words) == 0
    return out / "digits-cpu-steps.json"


@pytest.mark.skipif(torch.cuda.is_available(), reason="the file is named for the device")
def test_one_command_writes_table_numbers_and_plot(written):
    numbers = json.loads(written.read_text())
    names = [row["name"] for row in numbers["steps"]]
    assert names == [bench.FLOOR, bench.PEERS, "kd", "msd", "crd", "one trial alone in a slot", "8 trials packed"]
    assert all(len(row["seconds"]) == 2 and min(row["seconds"]) > 0 for row in numbers["steps"])
    assert [ratio["target"] for ratio in numbers["ratios"]] == [1.15, pytest.approx(1 / 3), 1.05, 0.1]
    assert f"torch {torch.__version__}" in numbers["title"]
    assert "--packs 1 8" in numbers["command"]
    table = written.with_suffix(".md").read_text()
    assert all(f"| {name} |" in table for name in names)
    assert written.with_suffix(".svg").read_text().startswith("<?xml")


@pytest.mark.skipif(torch.cuda.is_available(), reason="the file is named for the device")
def test_the_plot_is_drawn_again_from_its_numbers(written):
    drawn = written.with_suffix(".svg").read_bytes()
    written.with_suffix(".svg").unlink()
    path = benchmark.draw(written)
    assert path is not None
    assert path.read_bytes() == drawn


def test_a_ratio_is_taken_within_each_round():
    slow_then_fast, half = Timing("a", [4.0, 2.0, 2.0]), Timing("b", [2.0, 1.0, 4.0])
    assert half.over(slow_then_fast) == (0.5, 0.5, 2.0)
    assert half.less(slow_then_fast) == -1.0


def test_ratios_have_their_targets_and_say_whether_they_are_kept():
    seconds = {bench.FLOOR: 1.0, bench.PEERS: 4.0, "kd": 2.0, "msd": 2.2, "crd": 5.0, "8 trials packed": 1.1}
    timings = [Timing(name, [value, value]) for name, value in seconds.items()]
    found = bench.ratios(timings, {"kd": 100.0, "msd": 130.0, "crd": 200.0})
    assert [round(ratio["median"], 3) for ratio in found] == [1.1, 0.275, 1.1, 0.067, 0.3]
    kept = [line.split("|")[-2].strip() for line in bench.ratios_as_markdown(found).splitlines()[2:]]
    assert kept == ["yes", "yes", "no", "yes", "yes"]


def test_candidates_take_turns():
    order: list[str] = []
    steps = {name: (lambda name=name: order.append(name)) for name in "ab"}
    timings = time_in_turns(steps, rounds=2, steps=2, trials={"b": 4})
    assert "".join(order) == "aaaaabbbbb" + "aabb" * 2
    assert [len(timing.seconds) for timing in timings] == [2, 2]


def test_an_unknown_setting_is_bad_input(capsys):
    assert bench.main(["--set", "recipe.batchsize=8"]) == 2
    assert "batch_size" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "bytes_each", "pack"),
    [
        ({1: 1.0, 2: 0.6, 4: 0.4, 8: 0.38, 16: 0.37}, 1, 8),  # 8 is still 5 % cheaper, 16 is not
        ({1: 1.0, 2: 0.99}, 1, 1),
        ({1: 1.0, 2: 0.5, 4: 0.25, 8: 0.12, 16: 0.06}, 1, 16),  # the most
        ({1: 1.0, 2: 0.5, 4: 0.25, 8: 0.12, 16: 0.06}, 15, 4),  # 8 would take 120 of 100 bytes
        ({1: 1.0, 2: 0.5}, 1, 2),  # 4 does not fit, as is seen when it is tried
    ],
)
def test_a_pack_grows_while_it_is_worth_it_and_fits(seconds, bytes_each, pack):
    def cost(students: int) -> PackCost:
        if students not in seconds:
            raise torch.OutOfMemoryError
        return PackCost(seconds[students], bytes_each * students)

    assert worthwhile_pack(cost, 16, 100) == pack
