"""Measure a trained network in a file: `python -m msd_sweeps.evaluate FILE --data digits`."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from msd_sweeps.catalog.networks import NETWORKS
from msd_sweeps.catalog.processor import native_precision
from msd_sweeps.space.console import refusing_bad_input, run_command
from msd_sweeps.space.data import Data, data_of
from msd_sweeps.space.errors import InputError, nearest
from msd_sweeps.space.own_code import find_named, load_imports
from msd_sweeps.space.settings import dotted
from msd_sweeps.space.strict_yaml import parse_scalar


@refusing_bad_input
def main(arguments: list[str] | None = None) -> int:
    """The command; returns the exit code."""
    command = argparse.ArgumentParser(
        prog="python -m msd_sweeps.evaluate",
        description="Measure a trained network on a test set: top-1, top-5, negative log-likelihood, calibration, and "
        "agreement with a teacher. Reads what export, train --out and teach write, and weights of other people.",
        epilog="exit codes: 0 done; 2 bad input",
    )
    add = command.add_argument
    add("file", type=Path, metavar="FILE", help=".safetensors, .pt, .pth or .onnx")
    data = "such as cifar100 or '{name: folder, root: DIR, image_size: 32}' (default: what the file was trained on)"
    add("--data", metavar="NAME|MAPPING", help=data)
    add("--root", metavar="DIR", help="where the images lie")
    add("--model", metavar="NAME", help="the network, where the file does not say it")
    add("--teacher", type=Path, metavar="FILE", help="compare with this network's predictions")
    add("--teacher-model", metavar="NAME", help="its network, where its file does not say it")
    add("--imports", nargs="+", default=[], metavar="FILE", help="with networks and data sets of one's own")
    add("--precision", choices=["auto", "float32", "bfloat16"], help="(default: as it was trained)")
    add("--json", action="store_true", help="print the numbers as JSON")
    options = command.parse_args(arguments)
    load_imports(options.imports, Path(), lambda key: "--imports: ")
    found = _evaluate(options)
    if options.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            unit = "nats" if name in ("nll", "teacher_divergence") else "%" if isinstance(value, float) else ""
            shown = f"{value:.4f}" if isinstance(value, float) else value
            print(f"{name.replace('_', ' '):<20} {shown} {unit}".rstrip())
    return 0


def _evaluate(options: argparse.Namespace) -> dict[str, Any]:
    # Imported late: --help needs no torch.
    from msd_sweeps.distill import evaluation, exporting
    from msd_sweeps.distill.data import loading
    from msd_sweeps.distill.device import choose_device, fix_arithmetic

    files = [(options.file, options.model)]
    files += [(options.teacher, options.teacher_model)] if options.teacher else []
    for file, _ in files:
        if not file.is_file():
            raise InputError(f"{file}: no such file")
    cards = [exporting.card_in(file) or {} for file, _ in files]
    data = _data(options, cards[0])
    fix_arithmetic()
    device = choose_device()
    splits = loading.load(data).to(device)
    logits = []
    for (file, model), card in zip(files, cards, strict=True):
        card = _completed(card, file, model, data, options.precision)
        own = splits._replace(mean=tuple(card["mean"]), std=tuple(card["std"])) if "mean" in card else splits
        logits.append(evaluation.logits_of(exporting.predictor(file, card, own, device), splits.test))
        if logits[-1].shape[1] != data.facts.num_classes:
            classes = f"{logits[-1].shape[1]} classes, and {data.name} has {data.facts.num_classes}"
            raise InputError(f"{file}: it has {classes}; evaluate it on data with the same classes")
    counted = {"file": str(options.file), "data": data.name, "images": len(splits.test)}
    return counted | evaluation.scores(logits[0], splits.test.labels, *logits[1:])


def _data(options: argparse.Namespace, card: dict[str, Any]) -> Data:
    """The data set that is asked for, else the one of the card, without the selection of a trial."""
    asked = parse_scalar(options.data, "--data") if options.data is not None else card.get("config", {}).get("data")
    if asked is None:
        raise InputError(f"--data is needed: {options.file} does not say what it was trained on")
    if not isinstance(asked, str | dict):
        raise InputError(f"--data: expected a name or a mapping, found {options.data}")
    tree = {"name": asked} if isinstance(asked, str) else asked
    keep = {name: value for name, value in tree.items() if name not in ("content", "train_samples", "val_fraction")}
    find_named({"data": tree}, dotted("--data "))
    return data_of(keep | ({"root": options.root} if options.root else {}), dotted("--data "))


def _completed(
    card: dict[str, Any], file: Path, model: str | None, data: Data, precision: str | None
) -> dict[str, Any]:
    """A card with all that is needed to build the network of a file."""
    name = model or card.get("model") or ""
    try:
        if file.suffix != ".onnx":
            NETWORKS[name]  # a look-up imports those of one's own and of timm
    except KeyError:
        problem = f"unknown network {name!r}" if name else "the file does not say which network this is"
        raise InputError(
            f"{file}: {problem}; give --model NAME, of a teacher --teacher-model NAME; {nearest(name, NETWORKS)}"
        ) from None
    except ValueError as error:
        raise InputError(f"{file}: {error} (--imports FILE)") from error
    defaults = {"num_classes": data.facts.num_classes, "precision": "auto"}
    found = defaults | card | {"model": name} | ({"precision": precision} if precision else {})
    return found | ({"precision": native_precision()} if found["precision"] == "auto" else {})


if __name__ == "__main__":
    sys.exit(run_command(main))
