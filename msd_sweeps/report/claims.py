"""`report.json`: every claim of a page with its numbers, for programs."""

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd

from msd_sweeps.report import screening
from msd_sweeps.report.cells import progress_of
from msd_sweeps.report.results import Results, front_of

_NUMBER, _TEXT = ["number", "null"], "string"
_DIFFERENCE: dict[str, tuple[Any, str]] = {
    "difference": (_NUMBER, "Ours less theirs, in the unit of the metric."),
    "difference_low": (_NUMBER, "The interval of the difference; all of this report hold together at 95 %."),
    "difference_high": (_NUMBER, ""),
    "pairs": ("integer", "Seeds that both sides have."),
    "p": (_NUMBER, "Adjusted as the intervals are."),
    "paired": ("boolean", "Whether the difference is paired by seed."),
    "decision": (_TEXT, "better, worse, undecided, or equal within a margin; empty where there is no interval."),
}
_ROW: dict[str, tuple[Any, str]] = {
    "label": (_TEXT, "The row's name in the table."),
    "cell": (_TEXT, "The hash of its configuration; empty for a teacher, and where no trial has begun."),
    "configuration": (_TEXT, "What it changes in the base."),
    "metric": (_TEXT, "The compared metric, after the last epoch."),
    "n": ("integer", "Seeds with a value."),
    "planned": (["integer", "null"], "Seeds that the space asks for."),
    "mean": (_NUMBER, "Over the seeds."),
    "low": (_NUMBER, "The row's own 95 % t interval."),
    "high": (_NUMBER, ""),
    "baseline": (_TEXT, "The row that it is compared with; empty where it is compared with none."),
    **_DIFFERENCE,
    "note": (_TEXT, "Why some seeds have no value."),
    "search_score": (_NUMBER, "Of a winner: the score by which the search chose it. It is no result."),
    "seconds": (_NUMBER, "What a trial costs alone."),
}
_EFFECT: dict[str, tuple[Any, str]] = {
    "factor": (_TEXT, "The parameter, or the two of an interaction."),
    "level": (_TEXT, ""),
    "reference": (_TEXT, "The level that it is compared with."),
    **_DIFFERENCE,
}
_ABOUT: dict[str, tuple[Any, str]] = {
    "name": (_TEXT, "The sweep."),
    "design": (_TEXT, "search, grid, one_at_a_time, leave_one_out, or screening."),
    "question": (_TEXT, "What the sweep asks."),
    "verdict": (_TEXT, "The answer in words; its numbers are below."),
    "metric": (_TEXT, "What is compared."),
    "unit": (_TEXT, "Of a difference."),
    "more_is_better": ("boolean", ""),
    "baseline": (["string", "null"], "The row that the others are compared with."),
    "best": ("array", "Labels of the rows among which the best one is; empty without a baseline."),
    "comparisons": ("integer", "How many intervals of differences hold together at 95 %."),
    "ended": ("integer", "Trials that have ended."),
    "planned": ("integer", "Trials that the space asks for; no answer holds before all of them have ended."),
}
_TABLES = {
    "screening": "Of a screening design: a row an effect, with its interval.",
    "confirmation": "Of a search: a row a winner, its search score beside its confirmed score.",
    "importances": "Of a search: a row a parameter, by PED-ANOVA.",
    "front": "Of a search with several metrics: a row a finished trial, and whether it is on the Pareto front.",
    "images": "What rows predict for the same test images: agreement, calibration, McNemar's test.",
    "aggregate": "Where the space varies the task: methods over all tasks.",
    "compared": "Beside another sweep (--compare).",
    "published": "Beside published figures (--published).",
}


def claims(results: Results, told: Mapping[str, str], beside: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """The content of report.json. told: question and verdict; beside: the frames of further tables, by their names."""
    frames, value = results.frames, results.value
    tables = {"rows": results.table, "effects": results.effects, "confirmation": results.confirmation}
    tables |= {"importances": results.importances, "front": front_of(frames), **beside}
    if results.design == "screening":
        tables["screening"] = screening.effects(frames.sweep, results.cells, results.family)[0]
    about = {
        "name": frames.sweep.name,
        "design": results.design,
        **told,
        "metric": value.name,
        "unit": value.unit,
        "more_is_better": value.sign > 0,
        "baseline": results.baseline.label if results.baseline else None,
        "best": results.best,
        "comparisons": results.family.size,
        **progress_of(frames, results.cells)._asdict(),
    }
    return about | {name: json.loads(frame.to_json(orient="records")) for name, frame in tables.items()}


def claims_schema() -> dict[str, Any]:
    """The JSON schema of report.json."""
    tables = {"rows": _list_of(_ROW), "effects": _list_of(_EFFECT)}
    tables |= {name: _list_of({}) | {"description": text} for name, text in _TABLES.items()}
    about = _object(_ABOUT)
    about["properties"] |= tables
    about["required"] += ["rows", "effects", "confirmation", "importances", "front"]
    return {"title": "report.json of a sweep", **about}


def _list_of(fields: Mapping[str, tuple[Any, str]]) -> dict[str, Any]:
    return {"type": "array", "items": _object(fields)}


def _object(fields: Mapping[str, tuple[Any, str]]) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    for name, (kind, text) in fields.items():
        properties[name] = {"type": kind} | ({"description": text} if text else {})
    return {"type": "object", "required": list(fields), "properties": properties}
