"""Check and measure packed training on a GPU in a few minutes: `python -m msd_sweeps.bench.gpu --help`.

Each stage is a process of its own with a time limit, and writes its rows as they come: a stage that crashes or hangs
costs nothing but itself. Stages that check something run side by side, and those that take times one after the other.
Needs torch, pydantic and pyyaml only, and no files. On a processor the stages run that make sense there.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from msd_sweeps.bench import gpu_checks, gpu_times
from msd_sweeps.bench.results import command_line, markdown
from msd_sweeps.distill.device import choose_device, device_name, fix_arithmetic
from msd_sweeps.records.files import write_whole
from msd_sweeps.space.console import refusing_bad_input
from msd_sweeps.space.load import load_base

STAGES = {**gpu_checks.STAGES, **gpu_times.STAGES}
DIGITS_ON_CPU = ["recipe.batch_size=8", "recipe.precision=float32"]


def run_stage(name: str, base: str, settings: list[str], path: Path) -> None:
    """Run one stage in this process, and write its rows after each."""
    rows: list[gpu_checks.Row] = []
    print(fix_arithmetic(), flush=True)  # as workers train; some checks change it for themselves
    for row in STAGES[name].rows(load_base(base, settings)):
        rows.append(row)
        print(name, row, flush=True)
        write_whole(path, json.dumps(rows).encode())


def supervise(name: str, base: str, settings: list[str], out: Path) -> dict[str, object]:
    """Run one stage in a process of its own; what came of it: how it ended, its seconds and rows."""
    path, stage, started = out / f"{name}.json", STAGES[name], time.monotonic()
    words = [sys.executable, "-m", "msd_sweeps.bench.gpu", "--stages", name, "--base", base, "--write", str(path)]
    words += [word for setting in settings for word in ("--set", setting)]
    if stage.tool and shutil.which(stage.tool):
        words = [stage.tool, "--error-exitcode=9", *words]
    environment = os.environ | {"PYTHONUNBUFFERED": "1", "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
    with (out / f"{name}.log").open("wb") as log:
        try:
            code = subprocess.run(words, stdout=log, stderr=log, timeout=stage.seconds, env=environment).returncode
            ended = "ended" if code in stage.exit_codes else f"exit code {code}"
        except subprocess.TimeoutExpired:
            ended = f"stopped after {stage.seconds} s"
    rows = json.loads(path.read_text()) if path.exists() else []
    is_clean = ended == "ended" and bool(rows) and all(row.get("ok", True) for row in rows)
    return {"stage": name, "ended": ended, "clean": is_clean, "seconds": time.monotonic() - started, "rows": rows}


def table(result: dict[str, object]) -> str:
    """A stage's rows as a table in Markdown."""
    rows: list[gpu_checks.Row] = result["rows"]  # type: ignore[assignment]
    clean = "clean" if result["clean"] else "NOT CLEAN"
    title = f"## {result['stage']}: {clean}, {result['ended']}, {result['seconds']:.0f} s"
    head = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[_cell(row.get(key, "")) for key in head] for row in rows]
    about = STAGES[str(result["stage"])].rows.__doc__ or ""
    return "\n\n".join([title, about.split("\n\n")[0].replace("\n", " "), markdown(head, cells) if rows else "No row."])


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "NO"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@refusing_bad_input
def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code: 1 where a stage is not clean."""
    command = argparse.ArgumentParser(prog="python -m msd_sweeps.bench.gpu", description=__doc__.split("\n")[0])
    add = command.add_argument
    add("--base", help="the pair (on a GPU cifar100_resnet56_resnet20, else digits); images and teacher are random")
    add("--set", action="append", default=[], metavar="PATH=VALUE", dest="settings", help="change the base; repeatable")
    add("--stages", nargs="*", default=list(STAGES), choices=list(STAGES), metavar="STAGE", help=", ".join(STAGES))
    add("--device", choices=["auto", "cpu"], default="auto", help="cpu: do not use the GPU")
    add("--out", type=Path, default=Path("gpu"), metavar="DIR", help="folder of rows, logs and table (gpu)")
    add("--write", type=Path, help=argparse.SUPPRESS)
    options = command.parse_args(arguments)
    if options.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    on_gpu = choose_device().type == "cuda"
    base = options.base or ("cifar100_resnet56_resnet20" if on_gpu else "digits")
    settings = ([] if on_gpu or options.base else DIGITS_ON_CPU) + options.settings
    load_base(base, settings)  # raises for bad input, before anything starts
    if options.write:
        run_stage(options.stages[0], base, settings, options.write)
        return 0
    options.out.mkdir(parents=True, exist_ok=True)
    wanted = [name for name in options.stages if on_gpu or not STAGES[name].needs_gpu]
    checks = [name for name in wanted if name in gpu_checks.STAGES]
    with ThreadPoolExecutor(len(checks) if on_gpu and checks else 1) as pool:
        results = list(pool.map(lambda name: supervise(name, base, settings, options.out), checks))
    results += [supervise(name, base, settings, options.out) for name in wanted if name not in checks]
    words = command_line("msd_sweeps.bench.gpu", arguments)
    title = f"# Packed training on {device_name(choose_device())}\n\nMade by `{words}`, torch {torch.__version__}."
    text = "\n\n".join([title, *map(table, results)])
    print(text)
    (options.out / "gpu.md").write_text(text + "\n", encoding="utf-8")
    (options.out / "gpu.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0 if all(result["clean"] for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
