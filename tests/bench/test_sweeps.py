"""The sweep benchmark makes what it runs by itself; how many trials an hour that gives, no test says."""

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


@pytest.mark.parametrize(("pack", "told"), [("auto", "up to"), ("1", "up to 1 students")])
def test_the_sweep_that_is_timed_is_a_valid_one(base, tmp_path, capsys, pack, told):
    path = bench.write_space(base, 16, pack, tmp_path)
    assert run.main(["--space", str(path), "--storage", str(tmp_path), "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "16 = 16 cells x 1 seeds" in out
    assert told in out


def test_too_few_images_for_the_classes_are_bad_input(tmp_path):
    with pytest.raises(InputError, match="100 classes"):
        bench.with_random_images(load_base("cifar100_resnet56_resnet20"), 99, tmp_path)


def test_the_ratios_are_told_with_their_targets():
    rows = [{"name": name, "seconds": seconds} for name, seconds in (("auto", 2.0), ("one", 3.0), ("fit", 5.0))]
    lines = bench._ratios(rows).splitlines()[2:]
    assert lines == ["| one | 1.50 | ≥ 1.4 | yes |", "| fit | 2.50 | ≥ 3.0 | no |"]
