"""The stages of `msd_sweeps.bench.gpu` that check something: captures, packing, memory and faults."""

import gc
import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from msd_sweeps.catalog.networks import NETWORKS
from msd_sweeps.distill.cohort import Cohort, train_epoch
from msd_sweeps.distill.device import choose_device, fix_arithmetic
from msd_sweeps.distill.graphs import DeviceFault, Graphs
from msd_sweeps.distill.stepping import InTurn
from msd_sweeps.distill.student import Student
from msd_sweeps.distill.timing import random_cohort, random_splits
from msd_sweeps.space.methods import METHODS
from msd_sweeps.space.trial import Trial, changed

Row = dict[str, str | float | bool]
STEPS = 24
"""Steps of an epoch of the checks: 3 plain ones, and replays."""


class Stage(NamedTuple):
    """A stage: its rows, of which "ok" says whether it is clean, and the time limit in seconds."""

    rows: Callable[[Trial], Iterator[Row]]
    seconds: float
    needs_gpu: bool = True
    tool: str | None = None
    """A program that runs the stage where it is installed."""
    exit_codes: tuple[int, ...] = (0,)


def small(trial: Trial) -> Any:
    """Random images for STEPS steps an epoch."""
    return random_splits(trial, STEPS * trial.recipe.batch_size)


def eight(base: Trial) -> dict[str, Trial]:
    """Eight students of different methods that read one stream, by name."""
    msd = base.method.model_dump()
    methods: dict[str, Any] = {name: {"name": name} for name in ("kd", "crd", "dkd", "reviewkd", "at", "dist")}
    methods |= {"msd": msd, "msd_stages": msd | {"tap": "stages", "projector": "linear"}}
    changes = {
        name: {"method": method, "seed": seed, "data_seed": 0} for seed, (name, method) in enumerate(methods.items())
    }
    return {name: changed(base, of_one) for name, of_one in changes.items()}


def deterministic(on: bool) -> None:
    """Ask PyTorch for algorithms that give the same bits every time, beyond what workers ask of cuDNN."""
    fix_arithmetic()
    torch.use_deterministic_algorithms(on, warn_only=True)


def weights(student: Student) -> Tensor:
    """All trained numbers of a student, in one vector."""
    return torch.cat([parameter.detach().flatten().float() for parameter in student.learner.parameters()])


def trained(cohort: Cohort, epochs: int = 1) -> dict[str, Tensor]:
    """The weights of the students of a cohort after some epochs, by trial."""
    for _ in range(epochs):
        cohort.run_epoch()
    return {name: weights(student) for name, student in cohort.students.items()}


def compared(mine: Tensor | None, other: Tensor | None) -> Row:
    """Whether two vectors are the same bits, and their largest difference."""
    if mine is None or other is None:
        return {"same bits": False, "largest difference": float("nan")}
    return {"same bits": torch.equal(mine, other), "largest difference": (mine - other).abs().max().item()}


def methods(base: Trial) -> Iterator[Row]:
    """Every method, captured and in plain steps: two epochs, deterministic algorithms."""
    yield from _captured({name: changed(base, {"method": {"name": name}}) for name in METHODS if name != "msd"})
    msd = base.method.model_dump()
    choices: dict[str, dict[str, Any]] = {
        "msd": {},
        "msd regions": {"feature_pairs": "regions", "negatives": "all_regions"},
        "msd stages, linear": {"tap": "stages", "projector": "linear"},
        "msd heads, agree": {"projector": "heads", "regions": "agree"},
        "msd half, weighted, other classes": {
            "stride": "half", "regions": "weighted", "negatives": "other_classes", "kd_weight": 0.9
        },
    }  # fmt: skip
    yield from _captured({name: changed(base, {"method": msd | choice}) for name, choice in choices.items()})


def networks(base: Trial) -> Iterator[Row]:
    """Every network for images of 32 pixels as a student of kd: captured and in plain steps."""
    names = [name for name, facts in NETWORKS.items() if facts.image_size == 32]
    yield from _captured(
        {name: changed(base, {"student": {"model": name}, "method": {"name": "kd"}}) for name in names}
    )


def _captured(trials: dict[str, Trial]) -> Iterator[Row]:
    deterministic(True)
    splits = small(next(iter(trials.values())))
    for name, trial in trials.items():
        try:
            cohort = random_cohort([trial], splits)
            found = trained(cohort, 2).get(trial.id)
            student, graphs = cohort.students.get(trial.id), cohort.stepping
            is_captured = student is not None and isinstance(graphs, Graphs) and graphs.is_captured(student)
            plain = trained(random_cohort([trial], splits, InTurn()), 2).get(trial.id)
            row = compared(found, plain)
            is_close = found is not None and plain is not None and torch.allclose(found, plain, rtol=0.0, atol=1e-3)
            yield {"what": name, "captured": is_captured, **row, "ok": is_captured and is_close}
        except Exception as error:
            yield {"what": name, "error": f"{type(error).__name__}: {error}"[:300], "ok": False}


def packed(base: Trial) -> Iterator[Row]:
    """Eight students of different methods in one pack, one of which leaves midway, against each alone.

    Alone twice: what differs then is not for the pack to answer.
    """
    trials, splits = eight(base), small(base)
    for on in (True, False):
        deterministic(on)
        alone, again = (
            {name: trained(random_cohort([trial], splits), 2)[trial.id] for name, trial in trials.items()}
            for _ in range(2)
        )
        cohort = random_cohort(list(trials.values()), splits)
        for number, _ in enumerate(train_epoch(cohort)):
            if number == STEPS // 2:
                cohort.drop(trials["at"].id)
                gc.collect()
        for student in cohort.students.values():
            student.epoch += 1
        together = trained(cohort, 1)
        for name, trial in trials.items():
            if name != "at":
                repeats = torch.equal(alone[name], again[name])
                row = compared(together.get(trial.id), alone[name])
                is_ok = bool(row["same bits"]) or not repeats
                yield {"deterministic": on, "what": name, "repeats alone": repeats, **row, "ok": is_ok}


def sanitized(base: Trial) -> Iterator[Row]:
    """Three students of small networks, a few replays; under compute-sanitizer where it is installed."""
    pair = changed(
        base, {"teacher": {"model": "resnet8"}, "student": {"model": "resnet8"}, "recipe": {"batch_size": 8}}
    )
    chosen = list(eight(pair).values())
    cohort = random_cohort([chosen[0], chosen[1], chosen[6]], random_splits(pair, 80))
    for lost in itertools.islice(train_epoch(cohort), 6):
        yield {"steps": "of 3 students", "ok": not lost}


def _planted(base: Trial, fault: Callable[[int], object]) -> tuple[Cohort, list[Any], dict[str, Row]]:
    """Train four students of which one has a fault; its results, and the neighbours against a run without it.

    fault: called before each of its forward passes in Python with the number of the pass, counted from 1.
    """
    deterministic(True)
    trials, splits = eight(base), small(base)
    chosen = [trials[name] for name in ("kd", "dkd", "msd", "dist")]
    neighbours = [chosen[0], chosen[1], chosen[3]]
    expected = trained(random_cohort(neighbours, splits), 2)
    cohort = random_cohort(chosen, splits)
    calls = itertools.count(1)

    def before_forward(*_: Any) -> None:  # what a hook gives would take the place of the images
        fault(next(calls))

    cohort.students[chosen[2].id].network.register_forward_pre_hook(before_forward)
    results = [result for _ in range(2) for result in cohort.run_epoch() if result.trial == chosen[2].id]
    found = {name: weights(student) for name, student in cohort.students.items()}
    rows = {trial.method.name: compared(found.get(trial.id), expected[trial.id]) for trial in neighbours}
    return cohort, results, rows


def _exhaust_memory(now: bool) -> None:
    if now:
        torch.empty(2**44, dtype=torch.uint8, device=choose_device())


def fault_step(base: Trial) -> Iterator[Row]:
    """A student runs out of memory in a plain step: its neighbours go on with the same bits."""
    yield from _fault_rows(_planted(base, lambda call: _exhaust_memory(call == 2)), "out_of_memory")


def fault_capture(base: Trial) -> Iterator[Row]:
    """A student runs out of memory in a capture: its neighbours go on, and the process says that it must end."""
    found = _planted(base, lambda _: _exhaust_memory(torch.cuda.is_current_stream_capturing()))
    yield from _fault_rows(found, "out_of_memory", broken=True)


def fault_waits(base: Trial) -> Iterator[Row]:
    """A student waits for the device in every step, as a loss with `.item()` does: it steps without a graph."""
    probe = torch.ones(1, device=choose_device())
    yield from _fault_rows(_planted(base, lambda _: probe.item()), "running")


def _fault_rows(found: tuple[Cohort, list[Any], dict[str, Row]], state: str, broken: bool = False) -> Iterator[Row]:
    cohort, results, rows = found
    last = results[-1]
    is_ok = last.state == state and cohort.stepping.broken == broken
    yield {"what": "the student", "state": last.state, "reason": last.reason[:150], "ok": is_ok}
    for name, row in rows.items():
        yield {"what": f"its neighbour {name}", **row, "ok": bool(row["same bits"])}


def fault_assert(base: Trial) -> Iterator[Row]:
    """A kernel of one student fails on the device: no neighbour is called failed, and the process says it must end."""

    def fault(call: int) -> None:
        if call == 2:
            table, index = torch.zeros(4, device=choose_device()), torch.full((4,), 2**20, device=choose_device())
            table[index].sum()

    try:
        _, results, _ = _planted(base, fault)
        yield {"what": "nothing was raised", "state": str([result.state for result in results]), "ok": False}
    except (DeviceFault, RuntimeError) as error:  # the latter outside a student's step: the worker ends as well
        yield {"what": type(error).__name__, "reason": str(error)[:200], "ok": True}


def churn(base: Trial) -> Iterator[Row]:
    """Twenty students come and go, four at a time: memory that is reserved stays flat."""
    on_gpu = choose_device().type == "cuda"
    trials = [changed(base, {"seed": seed, "data_seed": 0}) for seed in range(24)]
    cohort = random_cohort(trials[:4], small(base))
    reserved: list[float] = []
    for number, trial in enumerate(trials[4:]):
        cohort.run_epoch()
        reserved.append(torch.cuda.memory_reserved() / 2**20 if on_gpu else 0.0)
        yield {"students so far": number + 4, "MiB reserved": reserved[-1], "ok": True}
        cohort.drop(trials[number].id)
        cohort.admit(trial)
    settled = reserved[4:]
    yield {"students so far": "growth", "MiB reserved": settled[-1] - settled[0],
           "ok": settled[-1] <= 1.05 * max(settled[:4])}  # fmt: skip


STAGES = {
    "methods": Stage(methods, 110),
    "networks": Stage(networks, 110),
    "packed": Stage(packed, 110, needs_gpu=False),
    "sanitized": Stage(sanitized, 110, tool="compute-sanitizer"),
    "fault_step": Stage(fault_step, 90, needs_gpu=False),
    "fault_capture": Stage(fault_capture, 90),
    "fault_waits": Stage(fault_waits, 90),
    "fault_assert": Stage(fault_assert, 90, exit_codes=(0, -6)),  # CUDA aborts a process with a broken context
    "churn": Stage(churn, 110, needs_gpu=False),
}
