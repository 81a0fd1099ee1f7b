"""The page of a sweep: verdict, design, table, figures, what went wrong, cost, provenance."""

import json
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from msd_sweeps.records.header import Header, Launch
from msd_sweeps.records.trial_record import own_place
from msd_sweeps.report import screening, tables
from msd_sweeps.report.beside import Beside
from msd_sweeps.report.cells import changes_text, metric_title, short_path, value_text
from msd_sweeps.report.document import Block, Column, Table, drawing
from msd_sweeps.report.figures.style import Plot
from msd_sweeps.report.formats import counted, short
from msd_sweeps.report.frames import Frames
from msd_sweeps.report.results import FEWEST, Results
from msd_sweeps.report.rows import row_table
from msd_sweeps.report.verdict import question, verdict
from msd_sweeps.space.console import duration
from msd_sweeps.space.schema import Parameter, Range, Space

MOST_LISTED = 60
"""Trials without a result that the page lists; trials.parquet has them all."""
MOST_TRACES = 5
"""Different tracebacks that the page shows."""
FEW = 12
"""Rows up to which a table beside the main matter stands open on a screen."""


def page_of(results: Results, drawings: Sequence[tuple[Plot, str]], more: Iterable[Beside] = ()) -> dict[str, Any]:
    """The title and the blocks of a report. drawings: figures with their SVG; more: tables that were asked for."""
    sweep, header = results.frames.sweep, results.frames.header
    changes = row_table(results)
    blocks: list[Block] = [
        {"paragraph": question(sweep)},
        {"verdict": verdict(results)},
        {"heading": "Design"},
        {"facts": _design(results)},
        {"folded": "Every setting of the base", "table": tables.base_table(sweep.base)},
        {"heading": "Results"},
        {"table": tables.result_table(results)},
        {"folded": "What each row changes in the base", "table": changes, "open": len(changes.rows) <= FEW},
    ]
    for title, table in (
        *(screening.tables(results) if results.design == "screening" else ()),
        ("Effects", tables.effects_table(results)),
        ("Pareto front of the search", tables.front_table(results)),
        ("What the search's scores were worth", tables.confirmation_table(results)),
    ):
        if table.rows:
            blocks += [{"heading": title}, {"table": table}]
    if results.design == "search" and results.importances.empty:
        needed = f"they need {FEWEST} finished search trials or more"
        blocks.append({"paragraph": f"Parameter importances are not computed: {needed}."})
    if drawings:
        blocks.append({"heading": "Figures"})
    blocks += [{"plot": plot, "svg": drawing(svg, plot.slug, plot.title)} for plot, svg in drawings]
    for beside in [one for one in more if one.table.rows or one.table.notes]:
        blocks += [{"heading": beside.title}, {"table": beside.table}]
    blocks += [{"heading": "Trials without a result"}, *_without_result(results.frames)]
    blocks += [{"heading": "Cost"}, {"facts": _cost(results.frames)}]
    blocks += [{"heading": "Provenance"}, {"table": _launches(header)}, {"facts": _sources(header)}]
    return {"title": f"Sweep {short(sweep.name)}", "blocks": blocks}


def _design(results: Results) -> list[tuple[str, str]]:
    space, recipe = results.frames.sweep.space, results.frames.sweep.base.recipe
    training = f"{recipe.epochs} epochs, batches of {recipe.batch_size}, learning rate {recipe.lr}, {recipe.schedule}"
    training += f", in {recipe.precision}"
    facts = [("Design", space.design.replace("_", " ")), ("Training", training.replace("_", " "))]
    for path, parameter in space.parameters.items():
        facts.append((short_path(path), short(_parameter_text(parameter), 300)))
    for bound in space.bound:
        beside = "; ".join(f"{short_path(name)} {', '.join(map(value_text, of))}" for name, of in bound.when.items())
        facts.append(("bound", short(f"{changes_text(bound.set)} where {beside}", 300)))
    for part, changes in space.without.items():
        facts.append((f"without {short(part)}", short(changes_text(changes), 300)))
    facts += _search_facts(space) if space.design == "search" else [("Seeds", _seeds_text(space))]
    compared = f"{results.value.title} after the last epoch, measured once"
    baseline = short(results.baseline.label) if results.baseline else "none"
    return [*facts, ("Compared", compared), ("Baseline", baseline)]


def _seeds_text(space: Space) -> str:
    """The seeds, and how a race adds some."""
    if space.race is None:
        return value_text(space.first_seeds)
    race, margin = space.race, f"{space.race.until.settled:g}"
    added = f"then {race.step} more at a time, up to {race.at_most}, where a comparison is undecided"
    return f"{race.at_least} of every row, {added}: not better, not worse, not equal within {margin}"


def _parameter_text(parameter: Parameter) -> str:
    if isinstance(parameter, Range):
        text = f"{value_text(parameter.low)} to {value_text(parameter.high)}{', logarithmic' * parameter.log}"
    else:
        text = ", ".join(map(value_text, parameter.choices))
    return f"{text}, when {parameter.when}" if parameter.when else text


def _search_facts(space: Space) -> list[tuple[str, str]]:
    search, confirm, scheduler = space.search, space.confirm, space.scheduler
    held_out = f"{100 * search.val_fraction:g} % of the training set held out"
    each = f" for each {short_path(search.each)}" if search.each else ""
    facts = [
        ("Search", f"{search.sampler}, {counted(search.num_samples, 'trial')}{each}, seed {search.seed}, {held_out}")
    ]
    best = "the best"
    if len(space.metrics) > 1:
        modes = ", ".join(f"{metric_title(metric.name)}: {metric.mode}" for metric in space.metrics)
        facts.append(("Several metrics", f"{modes}; the search looks for their Pareto front"))
        best = "of the Pareto front the best by the first metric, at most"
    rule = f"asha, grace period {scheduler.grace_period}, reduction factor {scheduler.reduction_factor}"
    confirmed = f"{best} {confirm.top_k}{each}, seeds {confirm.seeds}, on all images that may be trained on"
    own = {label: changes for label, changes in confirm.baselines.items() if changes.get("method") != {"name": "none"}}
    if own:
        tuned = f"each winner is one of {counted(search.num_samples, 'configuration')}, "
        tuned += (
            f"{', '.join(map(short, own))} {'is' if len(own) == 1 else 'are'} as given: not tuned with the same budget"
        )
        facts.append(("Chosen from", tuned))
    return [*facts, ("Early stopping", rule if scheduler.type == "asha" else "none"), ("Confirmation", confirmed)]


def _without_result(frames: Frames) -> list[Block]:
    trials = frames.trials[frames.trials["state"] != "finished"]
    if trials.empty:
        return [{"paragraph": f"None: {counted(len(frames.trials), 'trial')} finished."}]
    states = {"running": "unfinished", "interrupted": "unfinished", "out_of_memory": "out of memory"}
    counts = Counter(states.get(state, state) for state in trials["state"])
    told = ", ".join(f"{count} {state}{' early' * (state == 'stopped')}" for state, count in sorted(counts.items()))
    columns: list[Column] = [
        ("trial", False, lambda row: short(row["label"]) or f"search trial {row['number']}"),
        ("seed", True, "seed"),
        ("state", False, lambda row: states.get(row["state"], row["state"])),
        ("epochs", True, "epochs"),
        ("reason", False, lambda row: short(_why(row), 200) or tables.NOTHING),
    ]
    notes = [f"{len(trials) - MOST_LISTED} more are in trials.parquet."] if len(trials) > MOST_LISTED else []
    rows = trials.sort_values(["number", "trial"], kind="stable").head(MOST_LISTED).to_dict("records")
    listed = {"folded": "Which, and why", "table": Table(rows, columns, notes), "open": len(trials) <= FEW}
    traces = {trace: row for row in reversed(rows) if (trace := row["traceback"])}
    folded = [
        {"folded": f"Traceback: {short(row['label'])} seed {row['seed']}", "table": _trace(trace), "open": False}
        for trace, row in list(traces.items())[-MOST_TRACES:]
    ]
    if (hidden := len(traces) - MOST_TRACES) > 0:
        folded.append({"paragraph": f"{counted(hidden, 'other traceback')} in the ledger alone."})
    return [{"paragraph": f"Of {counted(len(frames.trials), 'trial')}: {told}."}, listed, *folded]


def _why(row: Any) -> str:
    place = own_place(row["traceback"])
    return f"{place}: " * bool(place) + row["reason"]


def _trace(text: str) -> Table:
    """A traceback, a row a line, whose indentation stays in HTML."""
    lines = [line.replace("  ", "\u00a0\u00a0") for line in text.strip().splitlines()]
    return Table([(line,) for line in lines], [("traceback", False, 0)])


def _cost(frames: Frames) -> list[tuple[str, str]]:
    trials, header = frames.trials, frames.header
    trained, taken_over = trials[trials["source"] == ""], trials[trials["source"] != ""]
    taught = {teacher.key: teacher.seconds for teacher in header.teachers if teacher.source == "trained"}
    teaching = sum(taught.values())
    lost = trials["lost_seconds"].sum()
    facts = [("Device", frames.device)]
    for phase, name in (("search", "Search"), ("confirm", "Confirmation"), ("design", "Trials")):
        if len(mine := trained[trained["phase"] == phase]):
            facts.append((name, f"{counted(len(mine), 'trial')}, {duration(mine['seconds'].sum())} of training"))
    for source, theirs in taken_over.groupby("source"):
        spent = f"{duration(theirs['seconds'].sum())} of training were spent there, none here"
        facts.append((f"Taken over from {short(str(source))}", f"{counted(len(theirs), 'trial')}; {spent}"))
    if lost > 0:
        facts.append(("Trained again after a fault", duration(lost)))
    if teaching:
        facts.append(("Teacher", f"{duration(teaching)} of training"))
    together = trained["seconds"].sum() + lost + teaching
    facts.append(("Together", f"{together / 3600:.3f} hours of training"))
    if closes := len(header.closes):
        wall = duration(sum(close.seconds for close in header.closes))
        unclosed = len(header.launches) - closes
        more = f"; {unclosed} more did not end in order" if unclosed > 0 else ""
        facts.append(("Wall clock", f"{wall} in {closes} launch{'es' * (closes > 1)}{more}"))
    return facts


def _launches(header: Header) -> Table:
    def commit(launch: Launch) -> str:
        if not launch.commit:
            return "not in git"
        return launch.commit[:10] + (" with uncommitted changes" if launch.dirty else ", clean")

    columns: list[Column] = [
        ("launched", False, lambda launch: datetime.fromtimestamp(launch.time, UTC).strftime("%Y-%m-%d %H:%M UTC")),
        ("command", False, lambda launch: short(command_text(launch.command), 700)),
        ("commit", False, commit),
        ("torch", False, lambda launch: launch.versions.get("torch", "")),
        ("device", False, lambda launch: launch.device),
    ]
    return Table(header.launches, columns, _differing(header.launches))


def _differing(launches: Sequence[Launch]) -> list[str]:
    """In what launches differ that decides numbers."""
    facts: dict[str, list[str]] = {}
    for one in launches:
        own = json.dumps(one.own, sort_keys=True)
        base = json.dumps(one.base.model_dump(mode="json"), sort_keys=True)
        state = {"commit": f"{(one.commit or 'not in git')[:10]}{' with changes' * one.dirty}", "device": one.device}
        for name, text in (state | one.versions | {"own code": own, "base": base}).items():
            facts.setdefault(name, []).append(text)
    told = [
        name if name in ("own code", "base") else f"{name} ({', '.join(dict.fromkeys(texts))})"
        for name, texts in sorted(facts.items())
        if len(set(texts)) > 1
    ]
    return [f"Warning: these launches differ in {'; '.join(told)}."] * bool(told)


def _sources(header: Header) -> list[tuple[str, str]]:
    versions = ", ".join(f"{name} {version}" for name, version in sorted(header.launch.versions.items()))
    facts = [("Versions", versions)]
    for data in {(data.name, data.sha256): data for data in header.data}.values():
        parts = {"train": data.train, "val": data.val, "test": data.test}
        sizes = ", ".join(f"{images} {part}" for part, images in parts.items() if images)
        facts.append((f"Data {data.name}", f"{sizes}; SHA-256 {data.sha256}"))
    for teacher in {teacher.key: teacher for teacher in header.teachers}.values():
        measured = f"{teacher.source}, test top-1 {teacher.test_top1:.2f} %, {teacher.precision}"
        facts.append((f"Teacher {teacher.model}", f"{measured}; SHA-256 {teacher.weights_sha256}"))
    if header.damage:
        facts.append(("Damaged", header.damage))
    outcomes = [", ".join(close.outcome for close in header.closes)] * bool(header.closes)
    if len(header.launches) > len(header.closes):
        outcomes.append("not every launch was closed: one still runs, or was killed")
    return [*facts, ("Ended", "; ".join(outcomes))]


def command_text(command: Sequence[str]) -> str:
    """A recorded command as one types it: no interpreter's path, no secret in an address, of any path its last part."""
    words = list(command)
    for place, word in enumerate(words[:3]):
        if module := re.search(r"(?:^|/)msd_sweeps/(\w+)\.py$", word):
            words = ["python", "-m", f"msd_sweeps.{module.group(1)}", *words[place + 1 :]]
            break
    if words and re.search(r"(?:^|/)python[\d.]*$", words[0]):
        words[0] = "python"
    words = [re.sub(r"(^|=)/(?:[^/]+/)*([^/]+)/?$", r"\1.../\2", word) for word in words]
    return re.sub(r"://[^/@\s']+@", "://***@", shlex.join(words))
