"""The JSON schema of a ledger's records, which `run --json` prints as they are written."""

from typing import Any

from msd_sweeps.records.header import CloseRecord, DataRecord, Entry, Launch, TeacherRecord
from msd_sweeps.records.ledger import FIELDS

_TYPES = {str: "string", int: "integer", dict: "object", list: "array", (int, float): "number"}
_MEANINGS = {
    "start": "An attempt of a trial begins; config is its whole configuration.",
    "label": "A trial of the table has got another name, too.",
    "epoch": "What an epoch of a trial gave: metrics (top-1 in percent, losses in nats; null where not finite).",
    "end": "A trial has ended: finished, stopped, diverged, failed, out_of_memory, or interrupted, which goes on.",
    "restart": "A trial begins again, as none of its checkpoints is whole.",
    "retry": "A failed trial is tried again.",
    "look": "A race was looked at; the rows that are undecided get more seeds.",
    "search_end": "A search has used up its time.",
}
_FOLDED = {
    "space": "The space with every default; see search_spaces/space.schema.json.",
    "base": "The base; see search_spaces/bases/base.schema.json.",
}
_REPORT = {
    "name": {"type": "string"},
    "folder": {"type": "string", "description": "Where the report is; report.json there has every claim."},
    "ended": {"type": "integer"},
    "planned": {"type": "integer"},
}


def event_schema() -> dict[str, Any]:
    """The schema of one line."""
    parts: dict[str, Any] = {}
    kinds = [_of_entry(kind, parts) for kind in (Launch, DataRecord, TeacherRecord, CloseRecord)]
    for event, fields in FIELDS.items():
        properties = {name: {"type": _TYPES[kind]} for name, kind in fields.items()}
        properties |= {"predictions": {"$ref": "#/$defs/Predictions"}} if event == "epoch" else {}
        kinds.append(_kind(event, _MEANINGS[event], properties, list(fields)))
    kinds.append(_kind("report", "The last line: the report is written.", _REPORT, list(_REPORT)))
    return {
        "title": "A record of a sweep's ledger, as a line of run --json",
        "oneOf": kinds,
        "$defs": {"Predictions": parts["Predictions"]},
    }


def _of_entry(kind: type[Entry], parts: dict[str, Any]) -> dict[str, Any]:
    schema = kind.model_json_schema()
    parts |= schema.get("$defs", {})
    folded = {name: {"type": "object", "description": text} for name, text in _FOLDED.items()}
    properties = {name: folded.get(name, one) for name, one in schema["properties"].items()}
    return _kind(kind.event, schema["description"], properties, schema.get("required", []))


def _kind(event: str, meaning: str, properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    known = {"event": {"const": event}, "time": {"type": "number", "description": "Seconds since 1970."}} | properties
    return {"description": meaning, "type": "object", "required": ["event", *required], "properties": known}
