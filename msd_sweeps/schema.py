"""Write the JSON schemas and the measured facts of all networks: `python -m msd_sweeps.schema`."""

import argparse
import functools
import json
import sys
from pathlib import Path
from typing import Any

from msd_sweeps.catalog.networks import FACTS_FILE, NETWORKS
from msd_sweeps.records.event_schema import event_schema
from msd_sweeps.space.console import refusing_bad_input, run_command
from msd_sweeps.space.load import shipped
from msd_sweeps.space.own_code import load_imports
from msd_sweeps.space.schema import Space
from msd_sweeps.space.settings import Settings, refresh
from msd_sweeps.space.trial import Trial

SCHEMAS: dict[str, type[Settings]] = {"space.schema.json": Space, "bases/base.schema.json": Trial}
EVENT_FILE = Path(__file__).parent / "records" / "event.schema.json"
REPORT_FILE = Path(__file__).parent / "report" / "report.schema.json"


@refusing_bad_input
def main(arguments: list[str] | None = None) -> int:
    """Write or check the files; returns the exit code."""
    command = argparse.ArgumentParser(
        prog="python -m msd_sweeps.schema",
        description="Write the JSON schemas of spaces and bases, for editors, of the lines of run --json and of "
        "report.json, and the measured facts of networks.",
        epilog="exit codes: 0 done; 1 with --check, a file is not what the code gives",
    )
    command.add_argument("--check", action="store_true", help="write nothing; say which files are not current")
    command.add_argument("--folder", type=Path, metavar="DIR", help="keep all of them there instead of in their places")
    command.add_argument("--imports", nargs="+", default=[], metavar="FILE", help="with code of one's own, in --folder")
    options = command.parse_args(arguments)
    if options.imports:
        return _with_own(options.imports, options.folder or Path())
    folder, facts_folder = options.folder or shipped(), options.folder or FACTS_FILE.parent
    texts = {folder / name: schema_text(model.model_json_schema()) for name, model in SCHEMAS.items()}
    from msd_sweeps.report.claims import claims_schema  # imported late: --help needs no pandas

    for file, schema in ((EVENT_FILE, event_schema), (REPORT_FILE, claims_schema)):
        texts[(options.folder or file.parent) / file.name] = schema_text(schema())
    texts[facts_folder / FACTS_FILE.name] = facts_text()
    stale = [path for path, text in texts.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    for path in stale:
        if options.check:
            print(f"{path}: not current; run python -m msd_sweeps.schema", file=sys.stderr)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(texts[path], encoding="utf-8")
            print(path)
    return int(options.check and bool(stale))


def _with_own(imports: list[str], folder: Path) -> int:
    """Write the schemas of spaces and bases that may name what these files register."""
    load_imports(imports, Path(), lambda key: "--imports: ")
    refresh()
    for name, model in SCHEMAS.items():
        path = folder / Path(name).name
        path.write_text(schema_text(model.model_json_schema()), encoding="utf-8")
        print(path)
    return 0


def schema_text(schema: dict[str, Any]) -> str:
    """A JSON schema as a file's text; the same code gives the same bytes."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


@functools.cache
def facts_text() -> str:
    """The facts of all networks as JSON; those on file where a package is missing, else raises ModuleNotFoundError."""
    from msd_sweeps.distill import models

    lines = []
    for name in models.NETWORKS:
        try:
            facts = models.measure(name)
        except ModuleNotFoundError as error:
            if name not in NETWORKS:
                raise
            print(f"{name}: not measured, its facts stay as they are: {error}", file=sys.stderr)
            facts = NETWORKS[name]
        shown = {fact: value for fact, value in facts._asdict().items() if value != ()}
        lines.append(f" {json.dumps(name)}: {json.dumps(shown)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


if __name__ == "__main__":
    sys.exit(run_command(main))
