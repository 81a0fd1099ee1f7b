"""Write the JSON schemas of spaces and bases, for editors: `python -m msd_sweeps.schema`."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from msd_sweeps.space.schema import Space
from msd_sweeps.space.settings import Settings
from msd_sweeps.space.trial import Trial

FOLDER = Path(__file__).resolve().parent.parent / "search_spaces"
SCHEMAS: dict[str, type[Settings]] = {"space.schema.json": Space, "bases/base.schema.json": Trial}
"""File name below the folder of spaces, and the model that it is made from."""


def main(arguments: list[str] | None = None) -> int:
    """Write or check the schema files; returns the exit code."""
    command = argparse.ArgumentParser(
        prog="python -m msd_sweeps.schema",
        description="Write the JSON schemas that let editors complete and check spaces and bases.",
        epilog="exit codes: 0 done; 1 with --check, a file is not what the models give",
    )
    command.add_argument("--check", action="store_true", help="write nothing; say which files are not current")
    command.add_argument("--folder", type=Path, default=FOLDER, metavar="DIR", help="where they are kept")
    options = command.parse_args(arguments)
    stale = False
    for name, model in SCHEMAS.items():
        path = options.folder / name
        text = schema_text(model)
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        if options.check:
            stale = True
            print(f"{path}: not current; run python -m msd_sweeps.schema", file=sys.stderr)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(path)
    return int(stale)


def schema_text(model: type[Settings]) -> str:
    """The JSON schema of a model, with its documentation; the same model gives the same bytes."""
    schema: dict[str, Any] = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    schema |= model.model_json_schema()
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.exit(main())
