"""The report of a sweep as a document: verdict, design, table, figures, what went wrong, cost, provenance."""

import re
import shlex
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from msd_sweeps.records.ledger import Record
from msd_sweeps.report.cells import PRIVATE, metric_title, short_path, value_text
from msd_sweeps.report.comparisons import test_notes
from msd_sweeps.report.escaping import short
from msd_sweeps.report.frames import Frames, flatten
from msd_sweeps.report.fronts import front_table
from msd_sweeps.report.importances import FEWEST
from msd_sweeps.report.page.document import Block, Document, Drawing, Facts, Folded, Heading, Paragraph
from msd_sweeps.report.results import Results
from msd_sweeps.report.searching import metric_of
from msd_sweeps.report.table_formats import Table
from msd_sweeps.report.tables import NOTHING, difference_text, p_text, signed
from msd_sweeps.report.verdict import question, verdict

MOST_LISTED = 60
"""Trials without a result that the page lists; trials.parquet has them all."""
FEW = 12
"""Rows up to which a table beside the main matter stands open on a screen."""


def build(results: Results, drawings: Sequence[Drawing], more: Sequence[Block] = ()) -> Document:
    """The document of a report; `more` are blocks that were asked for, after the figures."""
    header = results.frames.header
    configurations = [list(pair) for pair in results.table.configurations]
    blocks: list[Block] = [
        Paragraph(question(header.space, header.base)),
        Paragraph(verdict(results), strong=True),
        Heading("Design"),
        Facts(_design(results)),
        Folded("Every setting of the base", _base_table(results.frames.header.base)),
        Heading("Results"),
        results.table.shown,
        Folded(
            "What each row changes in the base",
            Table(["row", "changes"], configurations, [False, False]),
            open=len(configurations) <= FEW,
        ),
    ]
    if not results.effects.empty:
        blocks += [Heading("Effects"), _effects_table(results)]
    front = front_table(results)
    if front is not None:
        blocks += [Heading("Pareto front of the search"), front]
    if not results.confirmation.empty:
        blocks += [Heading("What the search's scores were worth"), _confirmation_table(results)]
    if results.design == "search" and results.importances.empty:
        few = f"Parameter importances are not computed: they need {FEWEST} finished search trials or more."
        blocks.append(Paragraph(few))
    if drawings:
        blocks += [Heading("Figures"), *drawings]
    blocks += [*more, Heading("Trials without a result"), *_without_result(results.frames)]
    blocks += [Heading("Cost"), Facts(_cost(results.frames)), Heading("Provenance"), *_provenance(results.frames)]
    return Document(f"Sweep {short(header.name) or 'without a name'}", blocks)


def _design(results: Results) -> list[tuple[str, str]]:
    space = results.frames.header.space
    facts = [("Design", results.design.replace("_", " ") or "unknown")]
    recipe = results.frames.header.base.get("recipe") or {}
    if recipe:
        told = f"{recipe.get('epochs')} epochs, batches of {recipe.get('batch_size')}, learning rate {recipe.get('lr')}"
        facts.append(("Training", short(f"{told}, {str(recipe.get('schedule')).replace('_', ' ')}", 200)))
    for path, parameter in (space.get("parameters") or {}).items():
        facts.append((short_path(path), short(_parameter_text(parameter), 300)))
    for part, changes in (space.get("without") or {}).items():
        told = ", ".join(f"{short_path(path)}={value_text(value)}" for path, value in changes.items())
        facts.append((f"without {short(part)}", short(told, 300)))
    if results.design == "search":
        search, confirm = space.get("search") or {}, space.get("confirm") or {}
        held_out = f"{100 * (search.get('val_fraction') or 0):g} % of the training set held out"
        tried = f"{search.get('num_samples')} trials, seed {search.get('seed')}"
        facts.append(("Search", f"{search.get('sampler')}, {tried}, {held_out}"))
        metrics = results.frames.header.metrics
        if len(metrics) > 1:
            told = ", ".join(f"{metric_title(metric['name'])}: {metric['mode']}" for metric in metrics)
            facts.append(("Several metrics", f"{told}; the search looks for their Pareto front"))
        scheduler = space.get("scheduler") or {}
        rule = [f"{key.replace('_', ' ')} {setting}" for key, setting in scheduler.items() if key != "type"]
        facts.append(("Early stopping", ", ".join(["asha", *rule]) if scheduler.get("type") == "asha" else "none"))
        best = "the best" if len(metrics) == 1 else "of the Pareto front the best by the first metric, at most"
        facts.append(
            ("Confirmation", f"{best} {confirm.get('top_k')}, seeds {confirm.get('seeds')}, on the whole training set")
        )
    else:
        facts.append(("Seeds", value_text(space.get("seeds"))))
    facts.append(("Compared", f"{results.value.title} after the last epoch, measured once"))
    facts.append(("Baseline", short(results.baseline.label) if results.baseline else "none"))
    return facts


def _base_table(base: Record) -> Table:
    """A row a part of the base; places of the machine that ran are left out."""
    rows = []
    for part, settings in base.items():
        if isinstance(settings, dict):
            told = {name: value for name, value in flatten(settings).items() if f"{part}.{name}" not in PRIVATE}
            rows.append([part, ", ".join(f"{name}={value_text(value)}" for name, value in told.items())])
    return Table(["part", "settings"], rows, [False, False])


def _parameter_text(parameter: Record) -> str:
    choices = parameter.get("choices")
    when = f", when {parameter['when']}" if parameter.get("when") else ""
    if choices is not None:
        return ", ".join(value_text(choice) for choice in choices) + when
    scale = ", logarithmic" if parameter.get("log") else ""
    return f"{value_text(parameter.get('low'))} to {value_text(parameter.get('high'))}{scale}{when}"


def _effects_table(results: Results) -> Table:
    rows = []
    for row in results.effects.to_dict("records"):
        difference = difference_text(row["difference"], row["difference_low"], row["difference_high"])
        p = p_text(row["p_holm"], bool(row["testable"]), row["pairs"])
        change = f"{row['factor']}: {row['level']} instead of {row['reference']}"
        if results.design == "leave_one_out":
            change = f"without {row['level']}"
        rows.append([short(change, 90), str(row["pairs"]), difference, p])
    against = "the full method" if results.design == "leave_one_out" else "the level named"
    notes = [f"Differences to {against}, paired by seed; 95 % t intervals, not corrected for their number."]
    notes += test_notes(results.effects)
    if results.design == "grid":
        notes.append("Each seed's mean over the blocks (levels of the other factors) in which both levels finished.")
    columns = ["change", "pairs", results.value.difference_title, "p (Holm)"]
    return Table(columns, rows, [False, True, True, True], notes=notes)


def _confirmation_table(results: Results) -> Table:
    rows = []
    for row in results.confirmation.to_dict("records"):
        half = NOTHING if pd.isna(row["low"]) else f"{row['mean']:.2f} ± {(row['high'] - row['low']) / 2:.2f}"
        confirmed = half if half != NOTHING else f"{row['mean']:.2f}"
        rows.append(
            [
                short(row["label"]),
                f"{row['search_score']:.2f}",
                confirmed,
                str(row["n"]),
                "+" * (row["drop"] > 0) + signed(row["drop"]),
            ]
        )
    note = (
        "The search's score is the best of many on one seed and on held-out images; the confirmed one is on fresh "
        "seeds and the test set, after training on all images. Their gap holds selection, other images and more data "
        "together."
    )
    score = metric_title(metric_of(results.frames)[0])
    columns = ["", f"search: {score}", f"confirmed: {results.value.title}", "n", "search minus confirmed"]
    return Table(columns, rows, [False, True, True, True, True], notes=[note])


def _without_result(frames: Frames) -> list[Block]:
    trials = frames.trials[frames.trials["state"] != "finished"]
    if trials.empty:
        return [Paragraph(f"None: all {len(frames.trials)} trials finished.")]
    states = Counter("unfinished" if state in ("running", "interrupted") else state for state in trials["state"])
    words = {"stopped": "stopped early"}
    counted = ", ".join(f"{states[state]} {words.get(state, state.replace('_', ' '))}" for state in sorted(states))
    rows = []
    for row in trials.sort_values(["number", "trial"], kind="stable").head(MOST_LISTED).to_dict("records"):
        name = short(row["label"]) or f"search trial {row['number']}"
        state = "unfinished" if row["state"] in ("running", "interrupted") else row["state"].replace("_", " ")
        rows.append([name, str(row["seed"]), state, str(row["epochs"]), short(row["reason"], 160) or NOTHING])
    notes = [f"{len(trials) - MOST_LISTED} more are in trials.parquet."] if len(trials) > MOST_LISTED else []
    table = Table(["trial", "seed", "state", "epochs", "reason"], rows, [False, True, False, True, False], notes=notes)
    shown = Folded("Which, and why", table, open=len(trials) <= FEW)
    return [Paragraph(f"Of {len(frames.trials)} trials: {counted}."), shown]


def _cost(frames: Frames) -> list[tuple[str, str]]:
    trials, header = frames.trials, frames.header
    facts = [("Device", header.device or "not recorded")]
    here = trials["source"] == ""
    for phase, name in (("search", "Search"), ("confirm", "Confirmation"), ("design", "Trials")):
        mine = trials[(trials["phase"] == phase) & here]
        if len(mine):
            counted = f"{len(mine)} trials" if phase != "design" else str(len(mine))
            facts.append((name, f"{counted}, {duration(mine['seconds'].sum())} of training"))
    for source, theirs in trials[~here].groupby("source"):
        spent = f"{duration(theirs['seconds'].sum())} of training were spent there, none here"
        facts.append((f"Taken over from {short(str(source))}", f"{len(theirs)} trials; {spent}"))
    lost = trials["lost_seconds"].sum()
    if lost > 0:
        facts.append(("Trained again after a fault", duration(lost)))
    teachers = {teacher.get("key"): teacher for teacher in header.teachers}
    teaching = sum(t.get("seconds") or 0 for t in teachers.values() if t.get("source") == "trained")
    if teaching:
        facts.append(("Teacher", f"{duration(teaching)} of training"))
    together = trials.loc[here, "seconds"].sum() + lost + teaching
    facts.append(("Together", f"{together / 3600:.3f} hours of training"))
    wall = [record["seconds"] for record in header.closes if record.get("seconds") is not None]
    if wall:
        launches = max(len(header.launches), len(wall))
        unclosed = f"; {launches - len(wall)} more did not end in order" if launches > len(wall) else ""
        ended = f"{len(wall)} launch" + "es" * (len(wall) > 1)
        facts.append(("Wall clock", f"{duration(sum(wall))} in {ended}{unclosed}"))
    return facts


def duration(seconds: float) -> str:
    """Seconds in words: `42 s`, `3.4 min`, `2.1 hours`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} hours"


def _provenance(frames: Frames) -> list[Block]:
    header = frames.header
    launches = []
    for launch in header.launches:
        commit = str(launch.get("commit") or "")[:10] or "not in git"
        if launch.get("commit"):
            commit += " with uncommitted changes" if launch.get("dirty") else ", clean"
        when = datetime.fromtimestamp(launch["time"], UTC).strftime("%Y-%m-%d %H:%M UTC")
        launches.append([when, short(command_text(launch.get("command")), 700), commit, str(launch.get("device", ""))])
    facts = (
        [(name, version) for name, version in sorted((header.launches[-1].get("versions") or {}).items())]
        if header.launches
        else []
    )
    facts = [("Versions", ", ".join(f"{name} {version}" for name, version in facts))] if facts else []
    for data in {(d.get("name"), d.get("sha256")): d for d in header.data}.values():
        sizes = ", ".join(f"{data[part]} {part}" for part in ("train", "val", "test") if data.get(part))
        facts.append((f"Data {data.get('name')}", f"{sizes}; SHA-256 {data.get('sha256')}"))
    for teacher in {teacher.get("key"): teacher for teacher in header.teachers}.values():
        score = teacher.get("test_top1")
        measured = f", test top-1 {score:.2f} %" if isinstance(score, int | float) else ""
        told = f"{teacher.get('source')}{measured}, {teacher.get('precision')}"
        facts.append((f"Teacher {teacher.get('model')}", f"{told}; SHA-256 {teacher.get('weights_sha256')}"))
    outcomes = ", ".join(str(record.get("outcome")) for record in header.closes)
    if len(header.launches) > len(header.closes):
        outcomes += ("; " if outcomes else "") + "not every launch was closed: one still runs, or was killed"
    facts.append(("Ended", outcomes or "not recorded"))
    table = Table(["launched", "command", "commit", "device"], launches, [False] * 4)
    return [table, Facts(facts)] if launches else [Facts(facts)]


def command_text(command: Any) -> str:
    """A recorded command as one types it: no interpreter's path, no secret in an address, of any path its last part."""
    if not isinstance(command, list | tuple):
        return str(command or "not recorded")
    words = [str(word) for word in command]
    for place, word in enumerate(words[:3]):
        module = re.search(r"(?:^|/)msd_sweeps/(\w+)\.py$", word)
        if module:
            words = ["python", "-m", f"msd_sweeps.{module.group(1)}", *words[place + 1 :]]
            break
    if words and re.search(r"(?:^|/)python[\d.]*$", words[0]):
        words[0] = "python"
    words = [re.sub(r"(^|=)/(?:[^/]+/)*([^/]+)/?$", r"\1.../\2", word) for word in words]
    return re.sub(r"://[^/@\s']+@", "://***@", shlex.join(words))
