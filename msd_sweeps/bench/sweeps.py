"""Trials an hour, packed, one at a time, and as Ray documents it: `python -m msd_sweeps.bench.sweeps --help`.

The same trials run three times in a round: in slots that students share, in slots with one student each, and with one
`TorchTrainer.fit()` a trial. Time counts from the first trial's start to the last one's end; the start of Ray and of
the slots is printed beside. With `--images` no files are needed: random images and a teacher of random weights cost the
same.
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
from typing import Any, NamedTuple

from msd_sweeps.bench.results import Ratio, command_line, markdown, publish
from msd_sweeps.plan.plan import local_cpus
from msd_sweeps.records import ledger
from msd_sweeps.records.object_store import local_folder
from msd_sweeps.space.console import refusing_bad_input
from msd_sweeps.space.errors import InputError
from msd_sweeps.space.load import load_base
from msd_sweeps.space.trial import Trial, changed

PACKED, ALONE = "packed in a slot (pack: auto)", "one at a time in warm slots (pack: 1)"
DOCUMENTED = "one TorchTrainer.fit() a trial"
TARGETS = {ALONE: 1.4, DOCUMENTED: 3.0}
"""How many times as many trials an hour packed slots have to train."""
_TEMPERATURES = (0.05, 0.07, 0.1, 0.14, 0.2, 0.28, 0.4, 0.56)


class Measured(NamedTuple):
    """Seconds of one round: of a trial, before the first one, and of a slot between trials where that is known."""

    trial: float
    start: float | None = None
    idle: float | None = None


@refusing_bad_input
def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    command = argparse.ArgumentParser(prog="python -m msd_sweeps.bench.sweeps", description=__doc__.split("\n")[0])
    add = command.add_argument
    add("--base", default="digits", help="the base whose trials are run (digits)")
    add("--set", action="append", default=[], metavar="PATH=VALUE", dest="settings", help="change it; repeatable")
    add("--images", type=int, metavar="N", help="take N random images of the base's shape, and as many to test on")
    add("--trials", type=int, default=16, help="trials of each packed and unpacked sweep (16)")
    add("--documented", type=int, default=3, help="trials run as Ray documents it (3); 0 leaves this out")
    add("--rounds", type=int, default=1, help="how often all of this is run (1); of one round the noise is not known")
    add("--storage", type=local_folder, default=Path("runs"), metavar="DIR", help="where the teacher is kept (runs)")
    add("--out", type=Path, metavar="DIR", help="write the table and its numbers into this folder as well")
    options = command.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        base = load_base(options.base, options.settings)
        if options.images is not None:
            base = with_random_images(base, options.images, Path(folder))
        measured = compare(base, options, Path(folder))
    title = (
        f"{base.teacher.model} -> {base.student.model} on {base.data.name}, {base.recipe.epochs} epochs of "
        f"{base.steps_per_epoch} steps at batch size {base.recipe.batch_size}; {local_cpus()} CPUs, "
        f"{platform.processor() or platform.machine()}; Ray {version('ray')}, torch {version('torch')}, "
        f"Python {platform.python_version()}"
    )
    made = f"`{command_line('msd_sweeps.bench.sweeps', arguments)}`: {options.trials} trials a sweep, "
    made += f"{options.documented} as documented, rounds: {options.rounds}"
    numbers = {"rows": [{"name": name, "rounds": [one._asdict() for one in of]} for name, of in measured.items()]}
    path = options.out and options.out / f"{Path(options.base).stem}-sweep"
    publish(path, "Trials an hour", title, made, as_markdown(measured), ratios(measured), numbers)
    return 0


def compare(base: Trial, options: argparse.Namespace, folder: Path) -> dict[str, list[Measured]]:
    """Every way to run the trials, in turns; one entry a round. folder: for their files."""
    from msd_sweeps.sweep.prepare import prepare_teacher

    weights = prepare_teacher(base, options.storage, lambda text: print(text, file=sys.stderr, flush=True)).weights
    measured: dict[str, list[Measured]] = {}
    for number in range(options.rounds):
        for name, pack in ((PACKED, "auto"), (ALONE, 1)):
            inside = folder / f"{number}-{pack}"
            inside.mkdir()
            measured.setdefault(name, []).append(time_sweep(base, options.trials, pack, options.storage, inside))
        if options.documented:
            fits = time_fits(base, options.documented, weights.resolve(), folder / f"{number}-fit")
            measured.setdefault(DOCUMENTED, []).append(fits)
    return measured


def as_markdown(measured: dict[str, list[Measured]]) -> str:
    """A table of the medians over the rounds."""
    rows = []
    for name, rounds in measured.items():
        seconds = statistics.median(one.trial for one in rounds)
        beside = [[one.start for one in rounds if one.start is not None], [one.idle for one in rounds if one.idle]]
        shown = [f"{statistics.median(known):.2f}" if known else "" for known in beside]
        rows.append([name, f"{seconds:.2f}", f"{3600 / seconds:.0f}", *shown])
    head = ["trials run", "seconds a trial", "trials an hour", "start-up, s", "slot idle before a trial, s"]
    return markdown(head, rows)


def ratios(measured: dict[str, list[Measured]]) -> list[Ratio]:
    """How many times as many trials an hour packed slots train as each other way."""
    seconds = {name: [one.trial for one in rounds] for name, rounds in measured.items()}
    return [
        Ratio(f"trials an hour {PACKED} ÷ {name}", seconds[name], seconds[PACKED], target, at_least=True)
        for name, target in TARGETS.items()
        if name in seconds
    ]


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
    changes: dict[str, Any] = {"data": {"name": "tensors", "root": str(folder / "images.npz")}}
    return changed(base, changes | {"teacher": {"model": base.teacher.model, "weights": str(weights)}})


def _changes(count: int) -> list[dict[str, Any]]:
    return [
        {"method.sample_temperature": _TEMPERATURES[i % len(_TEMPERATURES)], "method.sample_weight": 1.0 + i // 8}
        for i in range(count)
    ]


def write_space(base: Trial, trials: int, pack: int | str, folder: Path) -> Path:
    """A space of so many trials that share their stream, and its base; JSON, which YAML contains."""
    (folder / "base.yaml").write_text(base.model_dump_json())
    choices = {f"trial {i}": changes for i, changes in enumerate(_changes(trials))}
    space = {
        "base": str(folder / "base.yaml"),
        "design": "grid",
        "metric": {"name": "test_top1"},
        "parameters": {"setting": {"choices": choices}},
        "report": {"baseline": None},
        "resources": {"pack": pack},
    }
    path = folder / f"pack-{pack}.yaml"
    path.write_text(json.dumps(space))
    return path


def time_sweep(base: Trial, trials: int, pack: int | str, storage: Path, folder: Path) -> Measured:
    """A grid of trials through the command that a user runs. storage: where the teacher is."""
    path, runs = write_space(base, trials, pack, folder), folder / "runs"
    runs.mkdir()
    (runs / "teachers").symlink_to((storage / "teachers").resolve())
    words = ["--space", str(path), "--name", "bench", "--storage", str(runs), "--reports", str(folder / "reports")]
    subprocess.run([sys.executable, "-m", "msd_sweeps.run", *words], check=True, stdout=subprocess.DEVNULL)
    records = list(ledger.read(runs / "bench" / ledger.FILE_NAME))
    ends = [record["state"] for record in records if record["event"] == "end"]
    if ends != ["finished"] * trials:
        raise RuntimeError(f"expected {trials} finished trials, found {ends}; a shorter one tells no speed")
    begun = next(record["time"] for record in records if record["event"] == "sweep")
    first = next(record for record in records if record["event"] == "epoch")
    last = max(record["time"] for record in records if record["event"] == "end")
    # Students of one cohort report together, each with its share of the epoch's time.
    together = sum(r["event"] == "epoch" and r["time"] - first["time"] < first["seconds"] for r in records)
    started = first["time"] - first["seconds"] * together
    waits = [r["metrics"]["wait_seconds"] for r in records if r["event"] == "epoch" and r["epoch"] == 1]
    idle = statistics.median(wait for wait in waits if wait) if any(waits) else None
    return Measured((last - started) / trials, started - begun, idle)


def time_fits(base: Trial, trials: int, weights: Path, folder: Path) -> Measured:
    """The documented pattern, at its best: a new Ray Train run for each trial, one after another."""
    import ray
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer

    from msd_sweeps.sweep.ray_session import session

    threads = local_cpus()
    with session(None, threads, verbose=False):
        started = time.perf_counter()
        for i, changes in enumerate(_changes(trials)):
            trial = changed(base, changes).model_dump_json()
            TorchTrainer(
                _train_alone,
                train_loop_config={"trial": trial, "weights": str(weights), "threads": threads},
                torch_config=TorchConfig(backend="gloo"),
                scaling_config=ray.train.ScalingConfig(num_workers=1, resources_per_worker={"CPU": threads}),
                run_config=ray.train.RunConfig(name=f"trial-{i}", storage_path=str(folder)),
            ).fit()
        return Measured((time.perf_counter() - started) / trials)


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


if __name__ == "__main__":
    sys.exit(main())
