"""The sweep benchmark makes what it runs by itself; how many trials an hour that gives, no test says."""

import argparse
from pathlib import Path

import pytest

from msd_sweeps import run
from msd_sweeps.bench import sweeps as bench
from msd_sweeps.distill import teacher
from msd_sweeps.distill.data import loading as data
from msd_sweeps.distill.device import choose_device
from msd_sweeps.space.errors import InputError
from msd_sweeps.space.load import load_base
from msd_sweeps.space.trial import Trial


@pytest.fixture
def base(tmp_path: Path) -> Trial:
    pair = load_base("cifar100_resnet56_resnet20", ["student.model=resnet8", "teacher.model=resnet8"])
    return bench.with_random_images(pair, 128, tmp_path)


def test_random_images_have_the_shape_of_the_base_and_need_no_files(base, tmp_path):
    splits = data.load(base.data)
    assert (len(splits.train), len(splits.test)) == (128, 128)
    assert splits.train.image_shape == (3, 32, 32)
    assert base.data.facts.num_classes == 100
    assert base.steps_per_epoch == 2
    ready = teacher.prepare(base, tmp_path / "teachers", choose_device(False))
    assert ready.source == "imported"


@pytest.mark.parametrize(("pack", "told"), [("auto", "up to"), (1, "up to 1 students")])
def test_the_sweep_that_is_timed_is_a_valid_one(base, tmp_path, capsys, pack, told):
    path = bench.write_space(base, 16, pack, tmp_path)
    assert run.main(["--space", str(path), "--storage", str(tmp_path), "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "16 = 16 cells x 1 seeds" in out
    assert told in out


def test_too_few_images_for_the_classes_are_bad_input(tmp_path):
    with pytest.raises(InputError, match="100 classes"):
        bench.with_random_images(load_base("cifar100_resnet56_resnet20"), 99, tmp_path)


def test_packed_trials_are_compared_with_each_other_way_to_run_them():
    seconds = {bench.PACKED: [2.0, 2.0], bench.ALONE: [3.0, 3.2], bench.DOCUMENTED: [5.0, 4.0]}
    measured = {name: [bench.Measured(each, 9.0) for each in rounds] for name, rounds in seconds.items()}
    found = bench.ratios(measured)
    assert [(ratio.rounds, ratio.kept) for ratio in found] == [([1.5, 1.6], "yes"), ([2.5, 2.0], "no")]
    lines = bench.as_markdown(measured).splitlines()[2:]
    assert lines[0] == "| packed in a slot (pack: auto) | 2.00 | 1800 | 9.00 |  |"


def test_every_way_is_measured_once_a_round(base, tmp_path, monkeypatch):
    order: list[int | str] = []

    def way(name):
        return lambda *arguments: order.append(name) or bench.Measured(1.0)

    monkeypatch.setattr(bench, "time_sweep", lambda base, trials, pack, *rest: way(pack)())
    monkeypatch.setattr(bench, "time_fits", way("fit"))
    options = argparse.Namespace(trials=16, documented=3, rounds=2, storage=tmp_path)
    measured = bench.compare(base, options, tmp_path)
    assert order == ["auto", 1, "fit"] * 2
    assert {name: len(rounds) for name, rounds in measured.items()} == {
        bench.PACKED: 2,
        bench.ALONE: 2,
        bench.DOCUMENTED: 2,
    }
