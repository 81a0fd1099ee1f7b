"""Packing changes nothing but speed."""

import itertools
import math
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from msd_sweeps.distill import checkpoint, models
from msd_sweeps.distill.cohort import Cohort
from msd_sweeps.distill.data.images import decode
from msd_sweeps.distill.data.splits import ImageFiles
from msd_sweeps.distill.evaluation import calibration_error
from msd_sweeps.distill.models import fold_batch_norm
from msd_sweeps.records.predictions import predictions_of
from msd_sweeps.records.trial_record import EpochResult
from msd_sweeps.space.trial import Trial
from tests.distill.conftest import CPU, make_trial
from tests.distill.data.image_files import write_tree

NewCohort = Callable[..., Cohort]

TRIALS = {
    "none": make_trial(method={"name": "none"}, seed=1),
    "kd": make_trial(method={"name": "kd"}, seed=2),
    "msd": make_trial(seed=3),
    "other network": make_trial(
        student={"model": "wrn_16_1"}, seed=4, method={"name": "msd", "scales": (1, 4), "projector": "linear"}
    ),
    "memory bank": make_trial(method={"name": "crd", "num_negatives": 16, "width": 8}, seed=5),
    "other recipe": make_trial(
        method={"name": "at"},
        seed=6,
        recipe={
            "epochs": 2,
            "batch_size": 16,
            "lr": 0.02,
            "nesterov": True,
            "schedule": "one_cycle",
            "precision": "float32",
        },
    ),
}


def numbers(result: EpochResult) -> dict[str, float]:
    """What must not depend on who trains beside a student."""
    return {name: value for name, value in result.metrics.items() if not name.endswith("_seconds")}


def run_alone(cohort: Cohort, trial: Trial) -> list[dict[str, float]]:
    cohort.admit(trial)
    return [numbers(result) for results in cohort.epochs() for result in results]


@pytest.fixture(scope="module")
def alone(new_cohort: NewCohort) -> Callable[[str], list[dict[str, float]]]:
    """The numbers of a trial that runs alone, computed once."""
    known: dict[str, list[dict[str, float]]] = {}

    def get(name: str) -> list[dict[str, float]]:
        if name not in known:
            known[name] = run_alone(new_cohort(TRIALS[name]), TRIALS[name])
        return known[name]

    return get


@pytest.mark.parametrize("threads", [0, 3])
def test_a_full_cohort_gives_the_numbers_of_trials_alone(new_cohort, alone, threads):
    cohort = new_cohort(TRIALS["msd"], threads)
    for trial in TRIALS.values():
        cohort.admit(trial)
    packed: dict[str, list[dict[str, float]]] = {trial.id: [] for trial in TRIALS.values()}
    for results in cohort.epochs():
        for result in results:
            packed[result.trial].append(numbers(result))
    for name, trial in TRIALS.items():
        assert packed[trial.id] == alone(name), name


def test_each_student_is_charged_its_own_steps_and_the_teacher_where_it_needs_it(new_cohort, monkeypatch):
    now = [0.0]

    def takes(seconds: float) -> Callable[..., None]:
        return lambda *_: now.__setitem__(0, now[0] + seconds)

    monkeypatch.setattr("msd_sweeps.distill.cohort.time.perf_counter", lambda: now[0])
    cohort = new_cohort(TRIALS["msd"])
    for name, seconds in (("none", 1.0), ("kd", 2.0), ("msd", 3.0)):
        cohort.admit(TRIALS[name])
        cohort.students[TRIALS[name].id].network.register_forward_pre_hook(takes(seconds))
    handle = cohort.teacher.register_forward_pre_hook(takes(100.0))
    results = {result.trial: result for result in cohort.run_epoch()}
    handle.remove()  # other tests have the same teacher
    costs = {name: results[TRIALS[name].id].metrics["alone_seconds"] for name in ("none", "kd", "msd")}
    passes = 3 + 1  # steps of an epoch, and the validation
    assert costs == {"none": passes * 1.0, "kd": 300 + passes * 2.0, "msd": 300 + passes * 3.0}
    assert {result.seconds for result in results.values()} == {(300 + passes * 6.0) / 3}, "the slot's time is shared"


def test_those_that_join_late_catch_up_and_then_share_the_teachers_pass(new_cohort, alone):
    cohort = new_cohort(TRIALS["msd"])
    passes = []
    cohort.teacher.register_forward_hook(lambda *args: passes.append(1))
    cohort.admit(TRIALS["msd"])
    groups, metrics = [], []
    for epoch in range(4):
        if epoch == 1:
            cohort.admit(TRIALS["kd"])
        results = cohort.run_epoch()
        groups.append({result.trial for result in results})
        metrics += [numbers(result) for result in results if result.trial == TRIALS["kd"].id]
        cohort.retire()
    msd, kd = TRIALS["msd"].id, TRIALS["kd"].id
    assert groups == [{msd}, {kd}, {msd, kd}, {msd, kd}]
    assert len(passes) == 4 * cohort.stream.steps_per_epoch
    assert metrics == alone("kd")


ENDINGS = {
    "fails": (RuntimeError("on purpose"), "failed"),
    "runs out of memory": (torch.OutOfMemoryError("no memory"), "out_of_memory"),
}


class Slot:
    """A cohort as a worker runs it: it writes checkpoints after every epoch, and can be killed."""

    def __init__(self, new_cohort: Callable[[], Cohort], folder: Path):
        self.new_cohort, self.folder = new_cohort, folder
        self.cohort = new_cohort()
        self.seen: dict[str, dict[int, dict[str, float]]] = {}
        """By name and epoch."""
        self.ended: dict[str, str] = {}

    @property
    def live(self) -> list[str]:
        return [name for name in self.seen if TRIALS[name].id in self.cohort.students]

    def admit(self, name: str) -> None:
        self.cohort.admit(TRIALS[name])
        self.seen[name] = {}

    def drop(self, name: str) -> None:
        self.cohort.drop(TRIALS[name].id)
        self.ended[name] = "stopped"

    def sabotage(self, name: str, ending: str, at_step: int) -> None:
        """Let a student's step raise, or its loss become NaN, in the middle of the next epoch."""
        network, calls = self.cohort.students[TRIALS[name].id].network, itertools.count()

        def harm(*args: object) -> None:
            if next(calls) == at_step:
                if ending in ENDINGS:
                    raise ENDINGS[ending][0]
                for parameter in network.parameters():
                    parameter.data.fill_(math.nan)

        network.register_forward_pre_hook(harm)

    def run_epoch(self) -> dict[str, str]:
        """Train, note what is seen, save; gives the new state of every student."""
        results = self.cohort.run_epoch()
        states = {}
        for result in results:
            name = next(name for name in self.seen if TRIALS[name].id == result.trial)
            states[name] = result.state
            if result.state in ("running", "finished"):
                again = self.seen[name].setdefault(result.epoch, numbers(result))
                assert again == numbers(result), f"{name}: epoch {result.epoch} came out otherwise the second time"
            if result.state != "running":
                self.ended[name] = result.state
        for student in self.cohort.students.values():
            folder = self.folder / student.trial.id
            checkpoint.save(folder, student.epoch, student.state())
        self.cohort.retire()
        return states

    def kill(self, epochs_lost: dict[str, int]) -> None:
        """A new worker goes on from the files; of each student the newest may be lost, or all of them."""
        behind = {name: self.cohort.students[TRIALS[name].id].epoch for name in self.live}
        self.cohort = self.new_cohort()
        for name, epochs in behind.items():
            found = checkpoint.newest(self.folder / TRIALS[name].id, epochs - epochs_lost[name])
            self.cohort.admit(TRIALS[name], checkpoint.load(found) if found else None)


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whoever_trains_beside_a_student_changes_none_of_its_numbers(new_cohort, alone, data):
    """Random mixes of architectures, methods and recipes: trials join late, are stopped, fail, run out of memory or
    diverge within an epoch, and the worker is killed; each gives what it gives alone."""
    threads = data.draw(st.sampled_from([0, 2]), label="threads")
    with tempfile.TemporaryDirectory() as folder:
        slot = Slot(lambda: new_cohort(TRIALS["msd"], threads), Path(folder))
        waiting = data.draw(st.permutations(list(TRIALS)), label="order")
        while waiting or slot.live:
            for name in waiting[: data.draw(st.integers(0 if slot.live else 1, 3), label="admitted")]:
                waiting.remove(name)
                slot.admit(name)
            event = data.draw(st.sampled_from(["nothing", "stop", "kill", "diverges", *ENDINGS]), label="event")
            victim = data.draw(st.sampled_from(slot.live), label="victim")
            expected = {}
            if event == "stop":
                slot.drop(victim)
            elif event == "kill":
                lost = st.fixed_dictionaries({name: st.integers(0, 3) for name in slot.live})
                slot.kill(data.draw(lost, label="epochs lost"))
            elif event != "nothing":
                learning = [student.trial.id for student in slot.cohort.next_students]
                victim = next(name for name in slot.live if TRIALS[name].id in learning)
                slot.sabotage(victim, event, at_step=data.draw(st.integers(0, 2), label="step"))
                expected = {victim: ENDINGS[event][1] if event in ENDINGS else "diverged"}
            if slot.live:
                states = slot.run_epoch()
                assert {name: states[name] for name in expected} == expected
                others = {state for name, state in states.items() if name not in expected}
                assert others <= {"running", "finished"}
        assert set(slot.ended) == set(TRIALS)
        for name, epochs in slot.seen.items():
            assert list(epochs.values()) == alone(name)[: len(epochs)], name
            if slot.ended[name] == "finished":
                assert len(epochs) == TRIALS[name].recipe.epochs


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (RuntimeError("on purpose"), "failed"),
        (torch.OutOfMemoryError("no memory"), "out_of_memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "out_of_memory"),
    ],
)
@pytest.mark.parametrize("threads", [0, 2])
def test_an_error_removes_that_student_alone(new_cohort, alone, error, state, threads):
    cohort = new_cohort(TRIALS["msd"], threads)
    cohort.admit(TRIALS["kd"])
    cohort.admit(TRIALS["msd"])

    def explode(*args: object) -> None:
        raise error

    cohort.students[TRIALS["kd"].id].network.register_forward_pre_hook(explode)
    by_trial = {result.trial: result for result in cohort.run_epoch()}
    lost = by_trial[TRIALS["kd"].id]
    assert lost.state == state
    assert "Traceback" in lost.traceback
    assert list(cohort.students) == [TRIALS["msd"].id]
    assert numbers(by_trial[TRIALS["msd"].id]) == alone("msd")[0]


def test_a_loss_that_is_not_finite_is_diverged(new_cohort):
    recipe = {"epochs": 3, "batch_size": 16, "lr": 1e30, "schedule": "cosine", "precision": "float32"}
    wild = make_trial(recipe=recipe)
    cohort = new_cohort(wild)
    cohort.admit(wild)
    results = [result for epoch in cohort.epochs() for result in epoch]
    assert results[-1].state == "diverged"
    assert "loss" in results[-1].reason


def test_the_test_set_is_read_once_after_the_last_epoch(alone):
    epochs = alone("msd")
    assert ["test_top1" in epoch for epoch in epochs] == [False, False, True]
    assert all("val_top1" in epoch for epoch in epochs)
    assert all(math.isfinite(value) for epoch in epochs for value in epoch.values())


def test_another_stream_is_refused(new_cohort):
    cohort = new_cohort(TRIALS["msd"])
    with pytest.raises(ValueError, match="stream"):
        cohort.admit(make_trial(data_seed=8))


def test_a_checkpoint_of_another_trial_is_refused(new_cohort):
    cohort = new_cohort(TRIALS["msd"])
    cohort.admit(TRIALS["msd"])
    state = cohort.students[TRIALS["msd"].id].state()
    with pytest.raises(ValueError, match="was given to"):
        cohort.admit(TRIALS["kd"], state)


def test_files_of_validation_and_test_images_are_decoded_once_for_all_students(tmp_path, monkeypatch, splits):
    write_tree(tmp_path)
    paths = tuple(sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.glob("test/*/*.png")))
    files = ImageFiles(tmp_path, paths, torch.arange(len(paths)) % 3, side=32, threads=1)
    decoded: list[str] = []
    monkeypatch.setattr("msd_sweeps.distill.data.splits.decode", lambda path: decoded.append(path.name) or decode(path))
    torch.manual_seed(0)
    teacher = fold_batch_norm(models.build("resnet8", 10))
    both = []
    for names in (["none"], ["none", "kd", "msd"]):
        decoded.clear()
        cohort = Cohort(TRIALS["msd"], teacher, splits._replace(val=files, test=files), CPU)
        for name in names:
            cohort.admit(TRIALS[name])
        both.append([numbers(results[0]) for results in cohort.epochs()])
        epochs = TRIALS["msd"].recipe.epochs
        assert len(decoded) == (epochs + 1) * len(paths), "validation after each epoch, and one test"
    assert both[0] == both[1]


def test_the_last_epoch_keeps_what_the_student_predicts_for_each_test_image(new_cohort):
    cohort = new_cohort(TRIALS["kd"])
    cohort.admit(TRIALS["kd"])
    student = cohort.students[TRIALS["kd"].id]
    *earlier, last = [result for results in cohort.epochs() for result in results]
    assert all(result.predictions is None for result in earlier)
    student.network.eval()
    with torch.no_grad():
        images = cohort.splits.normaliser()(cohort.splits.test.images)
        logits = student.network(images).logits
    expected = predictions_of(logits.argmax(1).tolist(), cohort.splits.test.labels.tolist())
    assert last.predictions == expected
    error = calibration_error(logits, cohort.splits.test.labels)
    assert last.metrics["test_calibration_error"] == pytest.approx(error, abs=1e-3)
