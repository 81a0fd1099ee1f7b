"""What may change under the name of a sweep when it goes on, and what may not."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from msd_sweeps.records.header import Launch
from msd_sweeps.records.ledger import Record
from msd_sweeps.space.designs import Sweep
from msd_sweeps.space.errors import InputError

_FREE = ("resources", "tracking", "report")
"""Sections of a space that may change under a name: they decide no number."""
_SEEDS = ("space.seeds", "space.confirm.seeds")


def refuse_another_space(sweep: Sweep, launches: list[Launch]) -> None:
    """Go on only with the space that the ledger was begun with. Raises InputError that shows the difference.

    A search and the seeds may grow; resources, tracking and the report may change.
    """
    if not launches:
        return
    before, now = described(launches[0].sweep), described(sweep)
    differences = []
    for key, old, new in _differences(before, now):
        section = key.removeprefix("space.").split(".")[0]
        grown = key == "space.search.num_samples" and new is not None and old is not None and new >= old
        grown |= key in _SEEDS and set(new or ()) >= set(old or ())
        located = key in ("base.data.root", "base.data.loader_workers", "base.teacher.weights")
        if not (grown or located or (key.startswith("space.") and section in _FREE)):
            differences.append(f"  {key}: {json.dumps(old)} there, {json.dumps(new)} here")
    if differences:
        raise InputError(
            f"the name '{sweep.name}' is taken by a sweep with another space; choose another --name.\n"
            + "\n".join(differences)
        )


def as_grown(sweep: Sweep, launches: list[Launch]) -> Sweep:
    """The sweep with the seeds and samples that were added to it under its name: none is given up again."""
    if not launches:
        return sweep
    newest, space = launches[-1].space, sweep.space
    update: dict[str, Any] = {"seeds": list(dict.fromkeys([*newest.seeds, *space.seeds]))}
    seeds = list(dict.fromkeys([*newest.confirm.seeds, *space.confirm.seeds]))
    update["confirm"] = space.confirm.model_copy(update={"seeds": seeds})
    most = max(newest.search.num_samples, space.search.num_samples)
    update["search"] = space.search.model_copy(update={"num_samples": most})
    return replace(sweep, space=space.model_copy(update=update))


def described(sweep: Sweep) -> Record:
    """Space and base as plain JSON types."""
    return {"space": sweep.space.model_dump(mode="json"), "base": sweep.base.model_dump(mode="json")}


def _differences(old: Any, new: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in {**old, **new}:
            yield from _differences(old.get(name), new.get(name), f"{key}.{name}" if key else name)
    elif old != new:
        yield key, old, new
