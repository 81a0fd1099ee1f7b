"""What decides a trial's numbers is in its fingerprint, and what does not is not."""

import shutil
from pathlib import Path

import pytest

from msd_sweeps.distill import fingerprint, models
from msd_sweeps.records import fingerprint as records
from msd_sweeps.records.fingerprint import Fingerprint, differences, mixtures
from msd_sweeps.space import own_code
from msd_sweeps.space.trial import changed
from tests.distill.conftest import make_trial

KD, MSD, NONE = (make_trial(method={"name": name}) for name in ("kd", "msd", "none"))
HALVED = ('terms["kd"] = weights["kd"] * ', 'terms["kd"] = 0.5 * weights["kd"] * ')


@pytest.fixture
def source(tmp_path, monkeypatch) -> Path:
    """A copy of the package that is hashed in its place."""
    root = tmp_path / "msd_sweeps"
    shutil.copytree(records.PACKAGE, root, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(records, "PACKAGE", root)
    forget()
    yield root
    forget()


def forget() -> None:
    for cached in (records.source_hash, records._parsed, records._definitions):
        cached.cache_clear()


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    forget()


def changes(source: Path, file: str, old: str, new: str) -> dict[str, set[str]]:
    """The facts of each method's trial that an edit changes."""
    trials = {"kd": KD, "msd": MSD, "none": NONE}
    before = {name: fingerprint.code_of(trial) for name, trial in trials.items()}
    edit(source / file, old, new)
    after = {name: fingerprint.code_of(trial) for name, trial in trials.items()}
    return {name: {fact for fact in after[name] if after[name][fact] != before[name][fact]} for name in trials}


def test_a_halved_term_changes_every_fact_that_holds_its_code(source):
    found = changes(source, "distill/losses/distiller.py", *HALVED)
    assert found == {name: {"training code", f"method {name}"} for name in ("kd", "msd", "none")}


def test_an_edit_of_one_method_leaves_the_others(source):
    found = changes(source, "distill/losses/msd.py", "return torch.cat(parts, dim=1)", "return torch.cat(parts, 1) * 2")
    assert found == {"kd": set(), "msd": {"method msd"}, "none": set()}
    found = changes(source, "space/methods.py", 'if name != "disagree_weight"}', 'if name != "feature_weight"}')
    assert found == {"kd": set(), "msd": {"method msd"}, "none": set()}


def test_an_edit_of_a_network_changes_its_trials_alone(source):
    found = changes(source, "distill/models/resnet_cifar.py", "divmod(depth - 2, 6)", "divmod(depth - 3, 6)")
    assert found == {name: {"network resnet8"} for name in ("kd", "msd", "none")}
    other = fingerprint.code_of(changed(KD, {"student.model": "wrn_16_1"}))
    assert "network wrn_16_1" in other
    assert changes(source, "distill/models/vgg.py", "nn.ReLU", "nn.GELU")["kd"] == set()


def test_comments_docstrings_layout_and_lists_of_names_do_not_count(source):
    before = [fingerprint.code_of(trial) for trial in (KD, MSD, NONE)]
    for path in (source / "distill").rglob("*.py"):
        text = path.read_text().replace('"""', '"""Other words. ', 1)
        path.write_text(f"# a comment\n\n{text}\n\n")
    edit(source / "distill/models/__init__.py", '"vgg8": partial', '"vgg7": partial')
    assert [fingerprint.code_of(trial) for trial in (KD, MSD, NONE)] == before


def test_the_sizes_of_a_network_count(monkeypatch):
    before = fingerprint.code_of(NONE)
    monkeypatch.setitem(models.NETWORKS, "resnet8", models.NETWORKS["resnet14"])
    assert [text.split(":")[0] for text in differences(before, fingerprint.code_of(NONE))] == ["network resnet8"]


def test_modules_of_ones_own_count_without_their_comments(monkeypatch):
    def with_own(text: str) -> Fingerprint:
        monkeypatch.setitem(own_code.SOURCES, "my_loss", own_code.Source("my_loss", text, "my_loss.py"))
        return fingerprint.code_of(KD)

    first = with_own("def loss(x):\n    return x  # as it is\n")
    assert with_own("def loss(x):\n    return x\n") == first
    assert differences(first, with_own("def loss(x):\n    return 2 * x\n"))[0].startswith("own code: ")


def test_the_rows_that_mix_are_named():
    old, new = {"torch": "2.7", "method kd": "a"}, {"torch": "2.8", "method msd": "b"}
    assert mixtures([("kd", [old]), ("msd", [new]), ("none", [new])]) == ["torch: 2.7 in kd; 2.8 in msd, none"]
    assert mixtures([("kd", [old, new])]) == ["torch: 2.7 in kd; 2.8 in kd"]
    assert mixtures([("kd", [old]), ("msd", [{"torch": "2.7", "method msd": "c", "precision": "x"}])]) == []
