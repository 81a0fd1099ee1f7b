"""Settings of methods: what is accepted, and what the message says of what is not."""

import json
import pkgutil
import subprocess
import sys

import pytest
from pydantic import TypeAdapter, ValidationError

from msd_sweeps.space.errors import InputError
from msd_sweeps.space.load import load_base
from msd_sweeps.space.methods import METHODS, KdSettings, Method, MethodSettings

_ANY_METHOD = TypeAdapter(Method)
NAMES = sorted(METHODS)


def parse(**values):
    return _ANY_METHOD.validate_json(json.dumps(values))


@pytest.mark.parametrize("name", NAMES)
def test_a_name_alone_is_enough_and_survives_a_round_trip(name):
    settings = parse(name=name)
    assert isinstance(settings, MethodSettings)
    assert _ANY_METHOD.validate_json(settings.model_dump_json()) == settings


@pytest.mark.parametrize("name", NAMES)
def test_all_weights_zero_is_an_error_that_names_them(name):
    weights = parse(name=name).term_weights
    with pytest.raises(ValidationError, match=f"nothing to learn from: {', '.join(weights)} cannot all be 0"):
        parse(name=name, **dict.fromkeys(weights, 0.0))


@pytest.mark.parametrize("name", NAMES)
def test_unknown_settings_and_negative_weights_are_errors(name):
    with pytest.raises(ValidationError, match="wieght"):
        parse(name=name, wieght=1.0)
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        parse(name=name, ce_weight=-0.1)


def test_cross_entropy_is_small_beside_logits_and_whole_beside_features():
    assert (parse(name="kd").ce_weight, parse(name="kd").kd_weight) == (0.1, 0.9)
    assert (parse(name="crd").ce_weight, parse(name="crd").kd_weight) == (1.0, 0.0)
    assert parse(name="sdd").ce_weight == 0.1
    assert parse(name="sdd", form="dkd").ce_weight == 1.0
    assert parse(name="sdd", form="dkd", ce_weight=0.5).ce_weight == 0.5


def test_sdd_has_the_weights_of_its_form():
    assert list(parse(name="sdd").term_weights) == ["ce_weight", "kd_weight"]
    assert list(parse(name="sdd", form="dkd").term_weights) == ["ce_weight", "target_weight", "non_target_weight"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scales": [1, 2], "scale_weights": [1.0]}, "scale_weights: 1 weights for 2 scales"),
        ({"scales": [1, 2], "scale_weights": [0.0, 0.0]}, "scale_weights: cannot all be 0"),
        ({"projector": "heads", "tap": "stages"}, "'heads' reads the last feature map only"),
        ({"scales": []}, "at least 1 item"),
        ({"scales": [0]}, "greater than or equal to 1"),
        ({"sample_temperature": 0.0}, "greater than 0"),
    ],
)
def test_choices_of_msd_that_do_not_fit(changes, message):
    with pytest.raises(ValidationError, match=message):
        parse(name="msd", **changes)


def test_every_method_is_in_the_schema_and_has_its_distiller():
    from msd_sweeps.distill.losses import Distiller

    assert sorted(_ANY_METHOD.json_schema()["discriminator"]["mapping"]) == NAMES
    for settings in METHODS.values():
        assert issubclass(pkgutil.resolve_name(settings.distiller), Distiller)


@pytest.mark.parametrize("name", NAMES)
def test_a_misspelt_setting_is_told_the_nearest_of_its_method(name):
    weight = next(iter(parse(name=name).term_weights))
    with pytest.raises(InputError, match=f"method.{weight}s: unknown key; did you mean .*'{weight}'"):
        load_base("digits", [f"method={{name: {name}, {weight}s: 1.0}}"])


def test_two_methods_of_one_name_are_refused():
    with pytest.raises(TypeError, match="two methods are named 'kd': KdSettings and Other"):

        class Other(KdSettings):
            pass

    assert METHODS["kd"] is KdSettings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ["method={name: sdd, scales: [64]}"],
            "scale 64 is finer than the feature map; .* of resnet20 -> resnet8 on digits",
        ),
        (["method={name: msd, scales: [1], projector: none}", "student.model=vgg8"], "taps 64 and 512 channels"),
        (["method={name: sdd}"], "the classifier of the teacher vit_small does not read its last feature map"),
        (["method={name: msd, projector: heads}"], "the classifier of the teacher vit_small does not"),
        (["method={name: msd, regions: agree}"], "the classifier of the teacher vit_small does not"),
    ],
)
def test_what_a_method_cannot_compare_is_refused(settings, message):
    if "vit_small" in message:
        settings = ["teacher.model=vit_small", "data={name: cifar100, image_size: 224}", *settings]
    with pytest.raises(InputError, match=message):
        load_base("digits", settings)


def test_settings_bring_no_torch():
    program = "import sys, msd_sweeps.space.methods; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
