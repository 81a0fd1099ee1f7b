"""How many students share a slot where `pack: auto` leaves it open."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from msd_sweeps.catalog.networks import NETWORKS
from msd_sweeps.distill import models
from msd_sweeps.distill.data.splits import Images
from msd_sweeps.distill.losses import Side
from msd_sweeps.distill.student import Student
from msd_sweeps.plan.slots import MOST, TEACHER_SHARE, Packing, largest_trial, lasting_bytes, packing_of, students_for
from msd_sweeps.space.load import load, load_base
from msd_sweeps.space.trial import Trial
from tests.distill.conftest import make_trial

PAIRS = [("resnet56", "resnet20"), ("resnet32x4", "resnet8x4"), ("vgg13", "vgg8"), ("resnet20", "resnet8")]


def pair(teacher: str, student: str, **changes: object) -> Trial:
    method = {"name": "kd"}
    return make_trial(teacher={"model": teacher}, student={"model": student}, **{"method": method} | changes)


@pytest.mark.parametrize("model", [name for name in NETWORKS if NETWORKS[name].image_size == 32])
def test_multiply_adds_are_those_that_torch_counts(model):
    with torch.device("meta"):
        network = models.build(model, 100).eval()
        with FlopCounterMode(display=False) as counted, torch.no_grad():
            network(torch.zeros(1, 3, 32, 32))
    assert NETWORKS[model].multiply_adds == pytest.approx(counted.get_total_flops() / 2e6, abs=0.06)


@pytest.mark.parametrize(("teacher", "student"), PAIRS)
def test_a_pack_is_the_smallest_in_which_the_teacher_is_a_small_part(teacher, student):
    own_step = 3 * NETWORKS[student].multiply_adds
    shares = [NETWORKS[teacher].multiply_adds / own_step / pack for pack in range(1, MOST + 1)]
    enough = students_for(pair(teacher, student))
    assert shares[enough - 1] <= TEACHER_SHARE < shares[enough - 2]


def test_a_very_heavy_teacher_does_not_start_everything_at_once():
    assert students_for(pair("ResNet50", "MobileNetV2")) == MOST


@pytest.mark.parametrize("method", ["kd", "crd"])
def test_what_a_student_keeps_is_what_its_tensors_take(method):
    trial = pair("resnet8", "resnet8", method={"name": method})
    train = Images(torch.empty(1, 3, 32, 32), torch.arange(trial.train_images) % 10)
    side = Side.of(models.build("resnet8", 10), train.image_shape)
    student = Student(trial, train, side, torch.device("cpu"))
    found = sum(3 * 4 * parameter.numel() for parameter in student.learner.parameters())
    found += sum(buffer.numel() * buffer.element_size() for buffer in student.learner.buffers())
    assert lasting_bytes(trial) == pytest.approx(found, rel=0.15)


def test_the_largest_student_of_a_sweep_counts():
    sweep = load("pairs")  # kd, crd and others
    largest = max((planned.trial for planned in sweep.fixed_trials), key=lasting_bytes)
    assert largest.method.name in ("crd", "wcord")
    assert packing_of(sweep).student_bytes == lasting_bytes(largest)
    assert packing_of(load("scales")).enough == students_for(load_base("digits"))


@given(
    enough=st.integers(1, MOST),
    student=st.integers(1, 2**32),
    trials=st.integers(1, 200),
    slots=st.integers(1, 16),
    memory=st.floats(0, 2**45),
)
def test_a_pack_fits_and_no_slot_is_left_empty(enough, student, trials, slots, memory):
    pack = Packing(enough, student).pack(trials, slots, memory)
    assert 1 <= pack <= enough
    assert pack == 1 or pack * student <= memory / 2
    assert pack == 1 or (pack - 1) * slots < trials
    assert Packing(enough, 1).pack(trials, slots, math.inf) == min(enough, math.ceil(trials / slots))


def test_a_pack_that_was_tried_on_the_device_is_taken():
    assert packing_of(load("ablation"), 16).pack(100, 1, 2**40) == 16
    assert packing_of(load("ablation"), 16).pack(31, 1, 2**40) == 16  # 31 have not been tried


def test_the_largest_trial_is_tried():
    assert lasting_bytes(largest_trial(load("pairs"))) == packing_of(load("pairs")).student_bytes


@pytest.mark.parametrize(
    ("enough", "parallel", "pack"), [(1, 1, 1), (1, 4, 4), (7, 2, 8), (8, 2, 8), (8, 3, 9), (8, 16, 16)]
)
def test_the_students_of_a_slot_fill_its_threads(enough, parallel, pack):
    assert Packing(enough, 1).pack(100, 1, math.inf, parallel) == pack
    assert Packing(enough, 1).pack(3, 1, math.inf, parallel) == min(3, pack)


def test_trials_that_are_known_beforehand_share_slots_evenly():
    def packs(evenly: bool) -> list[int]:
        return [Packing(7, 1, evenly).pack(trials, 1, 1e9) for trials in (5, 7, 13, 16, 21, 36)]

    assert packs(False) == [5, 7, 7, 7, 7, 7]
    assert packs(True) == [5, 7, 13, 8, 7, 8]
