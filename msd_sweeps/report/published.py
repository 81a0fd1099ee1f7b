"""Whether a trial ran as a published figure was made: with the published settings, images and recipe."""

import functools
from collections.abc import Mapping
from typing import Any

from msd_sweeps.report.cells import value_text
from msd_sweeps.space.errors import InputError
from msd_sweeps.space.load import SHIPPED, find
from msd_sweeps.space.methods import METHODS
from msd_sweeps.space.settings import dotted
from msd_sweeps.space.strict_yaml import parse, parse_scalar
from msd_sweeps.space.trial import Recipe, Trial

UNKNOWN = "unknown"
"""In the column `settings` of a published figure: its source gives no settings that could be run again."""
_IMAGES = {"train_samples": "all", "val_fraction": 0.0, "image_size": "the data set's own"}
"""What published trials use of a data set, by the setting that changes it."""


@functools.cache
def _published_recipes(data: str, teacher: str, student: str) -> tuple[Recipe, Recipe] | None:
    """How the tables of the literature train student and teacher of a pair: as the pair's shipped base does.

    None where no base of the pair is shipped.
    """
    networks = [name.removeprefix("imagenet_").replace("mobilenet_v", "mobilenetv") for name in (teacher, student)]
    try:
        tree = parse(find("_".join([data, *networks]).lower(), SHIPPED / "bases")).data
    except InputError:
        return None
    taught = tree["teacher"].get("recipe", {})
    return Recipe.of_tree(tree.get("recipe", {}), dotted()), Recipe.of_tree(taught, dotted())


def what_differs(trial: Trial, settings: str, epoch_rule: str) -> str:
    """How a trial differs from a published one, `epochs 12 (240), train_samples 256 (all)`; empty where in nothing.

    settings: those of the method that differ from our defaults, such as `{review_weight: 0.6}`, or `UNKNOWN`.
    epoch_rule: `last`, as here, or the rule of the source.
    """
    found: list[str] = []
    method, data = trial.method, trial.data
    if settings == UNKNOWN:
        found.append("the published settings are not known")
    else:
        given: dict[str, Any] = parse_scalar(settings, "settings") if settings else {}
        meant = METHODS[method.name].of_tree({"name": method.name, **given}, dotted("settings: "))
        found += _differences(method.model_dump(), meant.model_dump())
    found += _differences({name: getattr(data, name) or _IMAGES[name] for name in _IMAGES}, _IMAGES)
    recipes = _published_recipes(data.name, trial.teacher.model, trial.student.model)
    if recipes is not None:
        found += _recipe_differences(trial.recipe, recipes[0])
    return ", ".join([*found, *what_differs_in_teacher(trial, epoch_rule, method.needs_teacher)])


def what_differs_in_teacher(trial: Trial, epoch_rule: str, is_used: bool = True) -> list[str]:
    """As `what_differs`, for the teacher of a trial alone, each difference by itself. is_used: by the method."""
    recipes = _published_recipes(trial.data.name, trial.teacher.model, trial.student.model)
    found = [] if recipes else ["no published recipe of this pair is known here"]
    if recipes and is_used and trial.teacher.weights is None:
        found += [f"teacher's {text}" for text in _recipe_differences(trial.teacher.recipe, recipes[1])]
    return found + [f"last epoch ({epoch_rule})"] * (epoch_rule != "last")


def _recipe_differences(ours: Recipe, theirs: Recipe) -> list[str]:
    published = theirs.model_dump() | {"precision": "float32"}
    if ours.schedule != "step" != theirs.schedule:
        published |= {"milestones": ours.milestones, "gamma": ours.gamma}  # read by the step schedule alone
    return _differences(ours.model_dump(), published)


def _differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """`name our value (their value)` of each setting that differs."""
    return [
        f"{name} {value_text(ours[name])} ({value_text(theirs[name])})" for name in theirs if ours[name] != theirs[name]
    ]
