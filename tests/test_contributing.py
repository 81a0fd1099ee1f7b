"""A method that is added as CONTRIBUTING says appears everywhere, and no other file is touched."""

import filecmp
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("msd_sweeps", "tests", "search_spaces", "pyproject.toml")
DERIVED = "search_spaces/bases/base.schema.json"


def python(folder: Path, *words: str) -> str:
    """What a command prints that runs on a copy of the repository."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository to which CONTRIBUTING's example was added."""
    folder = tmp_path_factory.mktemp("copy")
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
        copy(ROOT / name, folder / name)
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    settings, loss = re.findall(r"```python\n# (.*?)\n(.*?)```", text, re.DOTALL)
    file, anchor = re.fullmatch(r'in (\S+), above "(.*)"', settings[0]).groups()
    before, line, after = (folder / file).read_text(encoding="utf-8").rpartition(f"\n{anchor}\n")
    assert line
    (folder / file).write_text(f"{before}\n{settings[1]}\n{line}{after}", encoding="utf-8")
    new = folder / loss[0].removeprefix("new file ")
    assert not new.exists()
    new.write_text(loss[1], encoding="utf-8")
    python(folder, "-m", "msd_sweeps.schema")
    return folder


def test_no_other_file_is_touched(example):
    changed = {
        path.relative_to(example).as_posix()
        for name in COPIED
        for path in [example / name, *(example / name).rglob("*")]
        if path.is_file() and "__pycache__" not in path.parts
        if not (ROOT / path.relative_to(example)).exists()
        or not filecmp.cmp(path, ROOT / path.relative_to(example), shallow=False)
    }
    assert changed == {"msd_sweeps/space/methods.py", "msd_sweeps/distill/losses/cosine.py", DERIVED}


def test_the_schema_and_the_benchmark_know_the_method(example):
    assert '"const": "cosine"' in (example / DERIVED).read_text(encoding="utf-8")
    assert "cosine" in python(example, "-m", "msd_sweeps.bench.steps", "--help")
    words = ["--methods", "cosine", "--packs", "--rounds", "1", "--steps", "1", "--set", "recipe.batch_size=8"]
    assert "| cosine |" in python(example, "-m", "msd_sweeps.bench.steps", *words)


def test_a_base_may_name_it(example):
    code = "from msd_sweeps.space.load import load_base; print(load_base('digits', ['method={name: cosine}']).method)"
    assert "cosine_weight=1.0" in python(example, "-c", code)


def test_the_tests_over_all_methods_take_it_in_and_pass(example):
    files = ["tests/distill/losses/test_contract.py", "tests/space/test_methods.py"]
    found = python(example, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "cosine", "-rA", *files)
    passed = set(re.findall(r"^PASSED \S*::(\w+)\[.*cosine.*\]", found, re.MULTILINE))
    assert {
        "test_terms_are_finite_float32_scalars_and_teach_the_student",
        "test_no_gradient_reaches_the_teacher",
    } < passed
    assert "test_a_name_alone_is_enough_and_survives_a_round_trip" in passed
    every_pair = "tests/distill/test_every_pair.py"
    python(example, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "all_there or resnet56", every_pair)
