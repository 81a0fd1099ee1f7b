"""What programs read, report.json and the lines of `run --json`, is as the schemas say; pages of running sweeps."""

import json
import os
import re
import socket
import threading

import jsonschema
import pytest

from msd_sweeps import schema
from msd_sweeps.report import __main__ as report
from msd_sweeps.report.compiling import compile_report
from msd_sweeps.sweep.lock import locked
from tests.synthetic_ledger import Recipe, every_third_stopped, make_sweep, records, write

DESIGNS = ["search", "grid", "one_at_a_time", "leave_one_out"]
EVENTS, REPORT = (
    jsonschema.Draft202012Validator(json.loads(path.read_text())) for path in (schema.EVENT_FILE, schema.REPORT_FILE)
)


def told_of(folder, design, recipe=None, **changes):
    """The report.json of an invented sweep."""
    path = write(folder, records(make_sweep(design, **changes), recipe))
    compile_report(path, folder / "report")
    return json.loads((folder / "report" / "report.json").read_text())


@pytest.mark.parametrize("design", DESIGNS)
def test_a_report_has_every_claim_of_its_verdict_with_its_numbers(tmp_path, design):
    told = told_of(tmp_path, design, Recipe(stop=every_third_stopped))
    REPORT.validate(told)
    compared = [*told["rows"], *told["effects"]]
    shown = {
        tuple(round(row[name], 2) + 0.0 for name in ("difference", "difference_low", "difference_high"))
        for row in compared
        if row["difference_low"] is not None
    }
    number = r"([+−]?\d+\.\d\d)"
    found = re.findall(rf"{number}(?: points)? \[{number}, {number}\]", told["verdict"])
    assert found or design in ("search", "grid")
    for triple in found:
        assert tuple(float(one.replace("−", "-")) + 0.0 for one in triple) in shown
    decided = {row["decision"] for row in compared}
    assert decided <= {"", "better", "worse", "undecided"}
    assert len(decided) > 1


@pytest.mark.parametrize("design", DESIGNS)
def test_every_record_of_a_ledger_is_as_the_schema_of_events_says(design):
    recipe = Recipe(stop=every_third_stopped, fail=lambda one: ("failed", "why") if one.trial.seed == 2 else None)
    kinds = set()
    for record in records(make_sweep(design), recipe):
        EVENTS.validate(record)
        kinds.add(record["event"])
    assert {"sweep", "data", "teacher", "start", "epoch", "end", "close"} <= kinds


def test_the_schemas_refuse_what_is_wrong(tmp_path):
    told = told_of(tmp_path, "grid")
    told["rows"][0]["mean"] = "high"
    assert not REPORT.is_valid(told)
    (*_, start) = (one for one in records(make_sweep("grid")) if one["event"] == "start")
    assert not EVENTS.is_valid(start | {"seed": "1"})
    assert not EVENTS.is_valid({name: value for name, value in start.items() if name != "config"})
    assert not EVENTS.is_valid(start | {"event": "begin"})


def half(design, **changes):
    """A sweep of which some trials have ended and one runs, with its driver's launch open."""
    every = list(records(make_sweep(design, **changes), Recipe(close=None)))
    ends = [place for place, record in enumerate(every) if record["event"] == "end"]
    return every[: ends[12]], ends


@pytest.mark.parametrize(("design", "planned"), [("grid", 65), ("search", 28)])
def test_a_running_sweep_is_compiled_beside_its_driver(tmp_path, monkeypatch, capsys, design, planned):
    monkeypatch.chdir(tmp_path)
    begun, _ = half(design)
    folder = tmp_path / "runs" / "mine"
    with locked(folder, "mine"):  # as its driver does all the time
        write(folder, begun)
        compiling = threading.Thread(target=report.main, args=(["mine"],))
        compiling.start()
        compiling.join(60)
        assert not compiling.is_alive()
    assert f"\nrunning, 12 of {planned} trials have ended\n" in capsys.readouterr().out
    page = (tmp_path / "reports/mine/report.md").read_text()
    assert f"Running or killed, 12 of {planned} trials have ended: no answer holds before that." in page
    told = json.loads((tmp_path / "reports/mine/report.json").read_text())
    assert (told["ended"], told["planned"]) == (12, planned)


@pytest.mark.parametrize(
    "holder", ["process 999999999 on HOST since x", f"process {os.getpid()} on elsewhere since x", ""]
)
def test_a_killed_driver_is_not_said_to_run(tmp_path, monkeypatch, capsys, holder):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / "mine"
    write(folder, half("grid")[0])
    if holder:
        (folder / "lock").write_text(holder.replace("HOST", socket.gethostname()) + "\n")
    assert report.main(["mine"]) == 0
    assert "\nnot running here, 12 of 65 trials have ended\n" in capsys.readouterr().out
