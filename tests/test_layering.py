"""Imports run one way, the core needs no platform, and each heavy package has its place."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "msd_sweeps"
HEAVY = ("torch", "torchvision", "ray", "optuna", "mlflow", "pandas", "matplotlib", "scipy", "sklearn", "pyarrow")
BELOW: dict[str, set[str]] = {
    "catalog": set(),
    "space": {"catalog"},
    "plan": {"catalog", "space"},
    "records": {"catalog", "space"},
    "distill": {"catalog", "space", "records"},
    "report": {"catalog", "space", "records"},
    "sweep": {"catalog", "space", "plan", "records", "distill", "report"},
}
"""What each room may import besides itself; the commands at the top and the benchmarks may import every room."""
HOMES = {
    "mlflow": ["records/mlflow_writer.py"],
    "optuna": ["sweep/", "report/"],
    "ray": ["sweep/", "bench/"],
    "matplotlib": ["report/", "bench/"],
    "pandas": ["report/"],
    "torch": ["distill/", "sweep/", "bench/"],
    "torchvision": ["distill/"],
    "pyarrow": ["records/", "report/", "catalog/"],
    "yaml": ["space/strict_yaml.py", "bench/"],
}
"""Where each package may be imported, at the top of a module or later."""


def imports_of(path: Path) -> set[str]:
    """Dotted names of all modules that a file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno}: a relative import; imports are absolute here"
            found |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


FILES = [(path.relative_to(PACKAGE).as_posix(), path) for path in sorted(PACKAGE.rglob("*.py"))]


def loaded_after(statement: str) -> tuple[set[str], str]:
    """Which packages a fresh interpreter has loaded after a statement; what it printed."""
    code = f"{statement}\nimport sys; print('loaded:', *{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    text, _, names = done.stdout.rpartition("loaded:")
    return set(names.split()), text


def test_rooms_import_one_way():
    for name, path in FILES:
        room = name.split("/")[0]
        if room in BELOW:
            known = {module.split(".")[1] for module in imports_of(path) if module.startswith("msd_sweeps.")}
            assert known <= BELOW[room] | {room, "__version__"}, f"{name} imports {sorted(known - BELOW[room])}"


def test_modules_import_each_other_in_no_circle():
    modules = {f"msd_sweeps.{name[:-3].replace('/', '.')}".removesuffix(".__init__"): path for name, path in FILES}
    arrows = {module: imports_of(path) & set(modules) - {module} for module, path in modules.items()}
    left = dict(arrows)
    while ground := [module for module, below in left.items() if not below & set(left)]:
        for module in ground:
            del left[module]
    assert not left, f"these import each other: {sorted(left)}"


@pytest.mark.parametrize("room", ["catalog", "space", "plan", "records"])
def test_rooms_that_plan_and_record_load_nothing_heavy(room):
    modules = [name[:-3].replace("/", ".") for name, _ in FILES if name.startswith(f"{room}/")]
    loaded, _ = loaded_after("; ".join(f"import msd_sweeps.{module}" for module in modules))
    assert not loaded & set(HEAVY)


def test_the_core_loads_no_platform():
    loaded, _ = loaded_after("import msd_sweeps.distill.cohort, msd_sweeps.distill.teacher")
    assert not loaded & {"ray", "optuna", "mlflow", "matplotlib", "pandas", "yaml", "rich"}


@pytest.mark.parametrize("command", ["run", "teach", "report", "schema"])
def test_help_answers_without_anything_heavy(command):
    module = "report.__main__" if command == "report" else command
    statement = f"from msd_sweeps.{module} import main\ntry:\n    main(['--help'])\nexcept SystemExit: pass"
    loaded, text = loaded_after(statement)
    assert not loaded & set(HEAVY)
    assert f"python -m msd_sweeps.{command}" in text


def test_a_plan_needs_nothing_heavy():
    statement = "from msd_sweeps.run import main\nassert main(['--space', 'joint.yaml', '--dry-run']) == 0"
    loaded, text = loaded_after(statement)
    assert not loaded & set(HEAVY)
    assert "trials" in text


@pytest.mark.parametrize("package", HOMES)
def test_a_package_is_imported_in_its_home_alone(package):
    for name, path in FILES:
        if any(module.split(".")[0] == package for module in imports_of(path)):
            assert any(name.startswith(home) for home in HOMES[package]), f"{name} imports {package}"


def test_nothing_imports_the_benchmarks():
    for name, path in FILES:
        if not name.startswith("bench/"):
            assert not [module for module in imports_of(path) if module.startswith("msd_sweeps.bench")], name


def test_the_house_stays_small():
    lengths = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in FILES}
    assert not {name: length for name, length in lengths.items() if length > 300}
    assert sum(lengths.values()) <= 21_000
    rooms = {name.split("/")[0] for name in lengths if "/" in name}
    assert len(rooms) < 10


def test_the_tree_is_the_one_that_contributing_draws():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    drawn = text.split("```")[1]
    rooms = {name.split("/")[0] for name, _ in FILES if "/" in name}
    assert set(re.findall(r"^  (\w+)/  ", drawn, re.MULTILINE)) == rooms
    commands = {name[:-3] for name, _ in FILES if "/" not in name and name != "__init__.py"}
    assert set(re.findall(r"(\w+)\.py", drawn)) == commands
    way = text.split("**The way of one trial.**")[1].split("## ")[0]
    for module in re.findall(r"`(\w+\.\w+)`", way):
        path = PACKAGE.joinpath(*module.split("."))
        assert path.with_suffix(".py").is_file() or path.is_dir(), module


def test_pickle_and_unchecked_loading_are_not_used():
    for name, path in FILES:
        assert not {module.split(".")[0] for module in imports_of(path)} & {"pickle", "dill", "cloudpickle", "joblib"}
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                assert options.get("weights_only") == "True", f"{name}:{node.lineno}: torch.load without weights_only"
