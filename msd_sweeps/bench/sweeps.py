"""Trials an hour, packed, one at a time, and as Ray documents it: `python -m msd_sweeps.bench.sweeps --help`.

The same trials run three times in one go: in slots that students share, in slots with one student each, and with one
`TorchTrainer.fit()` a trial. What each takes is measured from the first trial's start to the last one's end, so that
the start of Ray and of the slots, which a sweep pays once, is left out; it is printed beside. With `--images` no files
are needed: random images of the data set's shape and a teacher of random weights cost the same.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from msd_sweeps.plan.machine import local_cpus
from msd_sweeps.records import ledger
from msd_sweeps.records.object_store import local_folder
from msd_sweeps.space.errors import InputError
from msd_sweeps.space.load import load_base
from msd_sweeps.space.overrides import changed
from msd_sweeps.space.trial import Trial

_TEMPERATURES = (0.05, 0.07, 0.1, 0.14, 0.2, 0.28, 0.4, 0.56)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = argparse.ArgumentParser(prog="python -m msd_sweeps.bench.sweeps", description=__doc__.split("\n")[0])
    add = command.add_argument
    add("--base", default="digits", help="the base whose trials are run (digits)")
    add("--set", action="append", default=[], metavar="PATH=VALUE", dest="settings", help="change it; repeatable")
    add("--images", type=int, metavar="N", help="take N random images of the base's shape, and as many to test on")
    add("--trials", type=int, default=16, help="trials of each packed and unpacked sweep (16)")
    add("--documented", type=int, default=3, help="trials run as Ray documents it (3); 0 leaves this out")
    add("--storage", type=local_folder, default=Path("runs"), metavar="DIR", help="where the teacher is kept (runs)")
    add("--out", type=Path, metavar="DIR", help="write the table and its numbers into this folder as well")
    return command


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = parser().parse_args(arguments)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            base = load_base(options.base, options.settings)
            if options.images is not None:
                base = with_random_images(base, options.images, Path(folder))
        except InputError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        for pack in ("auto", "1"):
            rows.append(_timed_sweep(base, options, Path(folder), pack))
        if options.documented:
            weights = _teacher(base, options.storage)
            rows.append(_timed_fits(base, weights, options.documented, Path(folder)))
    lines = ["| trials run | trials | seconds a trial | trials an hour | start-up, s | slot idle before a trial, s |"]
    lines += ["|---|---|---|---|---|---|", *(_line(row) for row in rows)]
    table = "\n".join(lines)
    words = " ".join(["python -m msd_sweeps.bench.sweeps", *(sys.argv[1:] if arguments is None else arguments)])
    title = (
        f"{base.teacher.model} -> {base.student.model} on {base.data.name}, {base.recipe.epochs} epochs of "
        f"{base.steps_per_epoch} steps at batch size {base.recipe.batch_size}; {local_cpus()} CPUs, "
        f"{platform.processor() or platform.machine()}; Ray {version('ray')}, torch {version('torch')}, "
        f"Python {platform.python_version()}"
    )
    print(f"{title}\n\n{table}\n\n{_ratios(rows)}")
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        path = options.out / f"{Path(options.base).stem}-sweep"
        path.with_suffix(".md").write_text(
            f"# Trials an hour\n\n{title}.\nMade by `{words}`.\n\n{table}\n\n{_ratios(rows)}\n"
        )
        numbers = {"title": title, "command": words, "rows": rows}
        path.with_suffix(".json").write_text(json.dumps(numbers, indent=1) + "\n")
    return 0


def with_random_images(base: Trial, count: int, folder: Path) -> Trial:
    """The base on random images of its data set's shape, with a teacher of random weights.

    count: training images, and as many test images. Raises InputError where the classes need more.
    """
    import numpy as np
    import safetensors.torch

    from msd_sweeps.distill import models

    facts = base.data.facts
    if count < facts.num_classes:
        raise InputError(f"--images {count}: {base.data.name} has {facts.num_classes} classes; give as many or more")
    draw = np.random.default_rng(0)
    shape = (count, facts.image_size, facts.image_size, 3)
    labels = np.arange(count) % facts.num_classes
    train, test = (draw.integers(0, 256, shape, dtype=np.uint8) for _ in range(2))
    np.savez(folder / "images.npz", train_images=train, train_labels=labels, test_images=test, test_labels=labels)
    weights = folder / "teacher.safetensors"
    tensors = models.build(base.teacher.model, facts.num_classes).state_dict()
    safetensors.torch.save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, weights)
    return changed(
        base,
        {
            "data": {"name": "tensors", "root": str(folder / "images.npz")},
            "teacher": {"model": base.teacher.model, "weights": str(weights)},
        },
    )


def _trials(base: Trial, count: int) -> list[dict[str, Any]]:
    return [
        {"method.sample_temperature": _TEMPERATURES[i % len(_TEMPERATURES)], "method.sample_weight": 1.0 + i // 8}
        for i in range(count)
    ]


def write_space(base: Trial, trials: int, pack: str, folder: Path) -> Path:
    """A space of so many trials that share their stream, and its base."""
    import yaml

    (folder / "base.yaml").write_text(yaml.safe_dump(base.model_dump(mode="json")))
    choices = {f"trial {i}": changes for i, changes in enumerate(_trials(base, trials))}
    space = {
        "base": str(folder / "base.yaml"),
        "design": "grid",
        "metric": {"name": "test_top1"},
        "parameters": {"setting": {"choices": choices}},
        "report": {"baseline": None},
        "resources": {"pack": pack if pack == "auto" else int(pack)},
    }
    path = folder / f"pack-{pack}.yaml"
    path.write_text(yaml.safe_dump(space))
    return path


def _timed_sweep(base: Trial, options: argparse.Namespace, folder: Path, pack: str) -> dict[str, Any]:
    """A grid of trials through the command that a user runs."""
    path = write_space(base, options.trials, pack, folder)
    storage = folder / f"runs-{pack}"
    storage.mkdir()
    options.storage.mkdir(parents=True, exist_ok=True)
    (options.storage / "teachers").mkdir(exist_ok=True)
    (storage / "teachers").symlink_to((options.storage / "teachers").resolve())
    words = ["--space", str(path), "--name", "bench", "--storage", str(storage), "--reports", str(folder / "reports")]
    subprocess.run([sys.executable, "-m", "msd_sweeps.run", *words], check=True, stdout=subprocess.DEVNULL)
    records = list(ledger.read(storage / "bench" / ledger.FILE_NAME))
    ends = [record["state"] for record in records if record["event"] == "end"]
    if ends != ["finished"] * options.trials:
        raise RuntimeError(f"expected {options.trials} finished trials, found {ends}; a shorter one tells no speed")
    begun = next(record["time"] for record in records if record["event"] == "sweep")
    first = next(record for record in records if record["event"] == "epoch")
    last = max(record["time"] for record in records if record["event"] == "end")
    # Students of one cohort report together, each with its share of the epoch's time.
    together = sum(r["event"] == "epoch" and r["time"] - first["time"] < first["seconds"] for r in records)
    started = first["time"] - first["seconds"] * together
    waits = [r["metrics"]["wait_seconds"] for r in records if r["event"] == "epoch" and r["epoch"] == 1]
    return {
        "name": "packed in a slot (pack: auto)" if pack == "auto" else "one at a time in warm slots (pack: 1)",
        "trials": options.trials,
        "seconds": (last - started) / options.trials,
        "start": started - begun,
        "idle": statistics.median(wait for wait in waits if wait) if any(waits) else None,
    }


def _teacher(base: Trial, storage: Path) -> Path:
    from rich.console import Console

    from msd_sweeps.sweep.prepare import prepare_teacher

    return prepare_teacher(base, storage, Console(stderr=True)).weights


def _timed_fits(base: Trial, weights: Path, count: int, folder: Path) -> dict[str, Any]:
    """The documented pattern, at its best: a new Ray Train run for each trial, one after another."""
    import ray
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer

    from msd_sweeps.sweep.ray_session import session

    threads = local_cpus()
    with session(None, threads, verbose=False):
        started = time.perf_counter()
        for i, changes in enumerate(_trials(base, count)):
            TorchTrainer(
                _train_alone,
                train_loop_config={
                    "trial": changed(base, changes).model_dump_json(),
                    "weights": str(weights.resolve()),
                    "threads": threads,
                },
                torch_config=TorchConfig(backend="gloo"),
                scaling_config=ray.train.ScalingConfig(num_workers=1, resources_per_worker={"CPU": threads}),
                run_config=ray.train.RunConfig(name=f"trial-{i}", storage_path=str(folder / "documented")),
            ).fit()
        seconds = (time.perf_counter() - started) / count
    return {"name": "one TorchTrainer.fit() a trial", "trials": count, "seconds": seconds, "start": None, "idle": None}


def _train_alone(settings: dict[str, Any]) -> None:
    import ray.train
    import torch

    from msd_sweeps.distill import teacher
    from msd_sweeps.distill.cohort import Cohort
    from msd_sweeps.distill.data import loading as data
    from msd_sweeps.distill.device import choose_device

    torch.set_num_threads(settings["threads"])
    trial = Trial.model_validate_json(settings["trial"])
    cohort = Cohort(trial, teacher.load(trial, Path(settings["weights"])), data.load(trial.data), choose_device())
    cohort.admit(trial)
    for results in cohort.epochs():
        ray.train.report(dict(results[0].metrics))


def _line(row: dict[str, Any]) -> str:
    shown = [f"{row[name]:.2f}" if row[name] is not None else "" for name in ("start", "idle")]
    return (
        f"| {row['name']} | {row['trials']} | {row['seconds']:.2f} | {3600 / row['seconds']:.0f} | "
        f"{shown[0]} | {shown[1]} |"
    )


def _ratios(rows: list[dict[str, Any]]) -> str:
    packed = rows[0]["seconds"]
    lines = ["| times as many trials an hour with pack: auto as | ratio | target | kept |", "|---|---|---|---|"]
    for row, target in zip(rows[1:], (1.4, 3.0), strict=False):
        ratio = row["seconds"] / packed
        lines.append(f"| {row['name']} | {ratio:.2f} | ≥ {target} | {'yes' if ratio >= target else 'no'} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
