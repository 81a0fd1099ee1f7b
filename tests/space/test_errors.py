"""Errors of bad input: safe to print, with a hint for a misspelt name."""

import pytest

from msd_sweeps.space.errors import InputError, nearest
from msd_sweeps.space.load import load_base
from msd_sweeps.space.settings import flatten

WORDS = ["momentum", "milestones", "nesterov"]
PATHS = flatten(load_base("digits").model_dump(mode="json"))


def test_an_error_sends_no_control_sequence_to_the_terminal():
    assert str(InputError("red\x1b[31m\nnext line")) == "red\\x1b[31m\nnext line"


@pytest.mark.parametrize(
    ("word", "known", "hint"),
    [
        ("momentom", WORDS, "did you mean 'momentum'?"),
        ("MOMENTUM", WORDS, "did you mean 'momentum'?"),
        ("xyz", WORDS, "known: milestones, momentum, nesterov"),
        ("xyz", [], "there are none"),
        ("xyz", [f"name {i}" for i in range(40)], ", ..."),
        ("resnet9", ["resnet8", "resnet20", "vgg8"], "'resnet8'"),
        ("lr", PATHS, "did you mean 'recipe.lr' or 'teacher.recipe.lr'?"),
        ("method.scale", PATHS, "did you mean 'method.scales'"),
        ("recipe.weightdecay", PATHS, "did you mean 'recipe.weight_decay'"),
        ("temperature=1.5", ["temperature=2.5", "width=1.5", "size=5"], "did you mean 'temperature=2.5'?"),
    ],
)
def test_the_nearest_names_are_given_or_the_list_of_them(word, known, hint):
    assert hint in nearest(word, known)


def test_only_a_close_name_is_given_where_the_others_are_listed_already():
    assert nearest("momentom", WORDS, only_close=True) == "did you mean 'momentum'?"
    assert nearest("xyz", WORDS, only_close=True) == ""
