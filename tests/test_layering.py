"""Imports run one way: what plans needs no torch, what trains needs no Ray, and each heavy package has its place."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "msd_sweeps"
HEAVY = (
    "torch",
    "torchvision",
    "ray",
    "optuna",
    "mlflow",
    "pandas",
    "matplotlib",
    "scipy",
    "sklearn",
    "pyarrow",
)
PLACES = {
    "mlflow": ["mlflow_writer.py"],
    "optuna": ["sweep/search.py", "analysis/"],
    "ray": ["sweep/"],
    "matplotlib": ["analysis/"],
    "pandas": ["analysis/"],
    "torch": ["distill/", "sweep/"],
    "torchvision": ["distill/"],
    "pyarrow": ["object_store.py", "analysis/", "tensor_files.py"],
    "yaml": ["strict_yaml.py", "sweep/bench.py"],
}
"""Where each package may be imported, at the top of a module or later."""
_ON_TOP = ["analysis", "run", "report", "teach"]
_TRAINING_UP = ["distill", "sweep", *_ON_TOP, "plan"]
ABOVE = {
    "config.py": [*_TRAINING_UP, "space", "ledger", "tracking"],
    "space.py": [*_TRAINING_UP, "ledger", "tracking", "loading"],
    "object_store.py": [*_TRAINING_UP, "config", "space", "ledger", "tracking", "loading"],
    "ledger.py": [*_TRAINING_UP, "space", "tracking", "loading"],
    "ledger_copy.py": [*_TRAINING_UP, "space", "tracking", "loading"],
    "mlflow_writer.py": [*_TRAINING_UP, "space", "tracking", "loading"],
    "tracking.py": [*_TRAINING_UP, "space", "loading"],
    "distill/": ["sweep", *_ON_TOP, "plan", "space", "ledger", "tracking", "loading"],
    "analysis/": ["distill", "sweep", "tracking", "run", "teach"],
    "sweep/": _ON_TOP,
}
"""Modules of ours that a part may not know."""
COMMANDS = ("distill/bench.py",)
"""Commands of a part: they read bases by name, as `run` does."""


def imports_of(path: Path) -> set[str]:
    """Dotted names of all modules that a file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = ".".join(path.relative_to(ROOT).parts[: -node.level]) + "." if node.level else ""
            module = f"{above}{node.module or ''}".removesuffix(".")
            found |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return found


def files() -> list[tuple[str, Path]]:
    return [(path.relative_to(PACKAGE).as_posix(), path) for path in sorted(PACKAGE.rglob("*.py"))]


def loaded_after(statement: str, *arguments: str) -> tuple[set[str], str]:
    """Which packages a fresh interpreter has loaded after a statement; what it printed."""
    code = f"{statement}\nimport sys; print('loaded:', *{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    text, _, names = done.stdout.rpartition("loaded:")
    return set(names.split()), text


@pytest.mark.parametrize(
    ("module", "without"),
    [
        ("msd_sweeps.config", HEAVY), ("msd_sweeps.space", HEAVY), ("msd_sweeps.loading", HEAVY),
        ("msd_sweeps.plan", HEAVY), ("msd_sweeps.ledger", HEAVY), ("msd_sweeps.run", HEAVY),
        ("msd_sweeps.teach", HEAVY), ("msd_sweeps.mlflow_records", HEAVY),
        ("msd_sweeps.object_store", HEAVY), ("msd_sweeps.ledger_copy", HEAVY),
        ("msd_sweeps.tracking", HEAVY), ("msd_sweeps.report", HEAVY), ("msd_sweeps.schema", HEAVY),
        ("msd_sweeps.sweep.slots", ("torch", "ray", "mlflow")),
        ("msd_sweeps.sweep.agenda", ("torch", "ray", "mlflow")),
        ("msd_sweeps.distill.cohort", ("ray", "optuna", "mlflow", "matplotlib")),
    ],
)  # fmt: skip
def test_importing_a_part_does_not_load(module, without):
    loaded, _ = loaded_after(f"import {module}")
    assert not loaded & set(without)


@pytest.mark.parametrize("command", ["run", "teach", "report"])
def test_help_answers_without_anything_heavy(command):
    statement = f"from msd_sweeps.{command} import main\ntry:\n    main(['--help'])\nexcept SystemExit: pass"
    loaded, text = loaded_after(statement)
    assert not loaded & set(HEAVY)
    assert f"python -m msd_sweeps.{command}" in text


def test_a_plan_needs_nothing_heavy():
    statement = "from msd_sweeps.run import main\nassert main(['--space', 'joint.yaml', '--dry-run']) == 0"
    loaded, text = loaded_after(statement)
    assert not loaded & set(HEAVY)
    assert "trials" in text


@pytest.mark.parametrize("package", PLACES)
def test_a_package_is_imported_in_its_place_alone(package):
    for name, path in files():
        if any(module.split(".")[0] == package for module in imports_of(path)):
            assert any(name.startswith(place) for place in PLACES[package]), f"{name} imports {package}"


@pytest.mark.parametrize("part", ABOVE)
def test_a_part_does_not_know_what_is_built_upon_it(part):
    for name, path in files():
        if name.startswith(part) and name not in COMMANDS:
            known = {module.split(".")[1] for module in imports_of(path) if module.startswith("msd_sweeps.")}
            assert not known & set(ABOVE[part]), f"{name} imports {sorted(known & set(ABOVE[part]))}"


def test_pickle_and_unchecked_loading_are_not_used():
    for name, path in files():
        assert not {module.split(".")[0] for module in imports_of(path)} & {
            "pickle",
            "dill",
            "cloudpickle",
            "joblib",
        }
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                assert options.get("weights_only") == "True", (
                    f"{name}:{node.lineno}: torch.load without weights_only"
                )
