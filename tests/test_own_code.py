"""Own methods, networks, data sets and metrics, as a researcher brings them: files beside a base, and commands."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from msd_sweeps import evaluate, schema, train
from msd_sweeps.catalog.networks import NETWORKS
from msd_sweeps.distill import models
from msd_sweeps.space.errors import InputError
from msd_sweeps.space.load import load, load_base
from tests.own import BASE, EXAMPLE, forgotten


@pytest.fixture(autouse=True)
def _own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with forgotten():
        yield


def write(path: str, text: str) -> str:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)
    return path


def own_base(code: str, *lines: str) -> str:
    """A base with `code` beside it in own.py, and more lines, which replace the sections that they name."""
    write("own.py", f"import torch\nimport msd_sweeps\n{code}")
    replaced = {line.partition(":")[0] for line in lines}
    kept = [line for line in BASE.splitlines() if line.partition(":")[0] not in replaced]
    return write("base.yaml", "\n".join(["imports: [own.py]", *kept, *lines, ""]))


NETWORK = """
class Tiny(torch.nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.conv, self.fc = torch.nn.Conv2d(3, 8, 3, 2, 1), torch.nn.Linear(8, num_classes)
    def forward(self, images):
        features = self.conv(images).relu()
        pooled = features.mean((2, 3))
        return ANSWER
def tiny(num_classes):
    return Tiny(num_classes)
"""
LOGITS, TAPS = (
    NETWORK.replace("ANSWER", answer)
    for answer in ("self.fc(pooled)", "msd_sweeps.Taps((features,), features, pooled, self.fc(pooled))")
)
TINY = 'student: {model: "own:tiny"}'


def test_the_example_is_trained_by_hand_with_its_own_setting(capsys):
    base = write("base.yaml", f"imports: [{EXAMPLE / 'my_losses.py'}]\n{BASE}")
    words = ["--base", base, "--set", "method={name: margin, margin: 0.5}", "--out", "out"]
    assert train.main(words) == 0
    assert "loss_margin" in capsys.readouterr().out
    history = json.loads(Path("out/history.json").read_text())
    assert 0 <= history[-1]["test_recall"] <= 100


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("{name: margin, margn: 1}", "base.yaml:5: method.margn: unknown key; did you mean 'margin'?"),
        ("{name: margin, margin: big}", 'base.yaml:5: method.margin: expected a number, found "big"'),
        ("{name: margn}", "base.yaml:5: method.name: unknown method 'margn'; did you mean 'margin'?"),
        ("{name: margin, kd_weight: -1}", "base.yaml:5: method.kd_weight: expected a number of at least 0, found -1"),
    ],
)
def test_own_settings_are_checked_with_file_line_and_key(setting, says):
    lines = BASE.replace("method: {name: kd}", f"method: {setting}")
    base = write("base.yaml", f"imports: [{EXAMPLE / 'my_losses.py'}]\n{lines}")
    with pytest.raises(InputError) as error:
        load_base(base)
    assert str(error.value) == says


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("x = 1\nundefined()", "base.yaml:1: imports: own.py:4 in <module>: NameError: name 'undefined'"),
        ("def f(:", "base.yaml:1: imports: SyntaxError"),
        ("@msd_sweeps.method('kd')\nclass A: pass", "TypeError: 'kd' is built in; choose another name"),
    ],
)
def test_a_mistake_in_own_code_is_told_by_its_line(code, says):
    with pytest.raises(InputError, match=says.replace("(", r"\(").split("NameError: name")[0].replace("[", r"\[")):
        load_base(own_base(code))


def test_a_file_that_is_not_there_is_told_with_its_neighbours():
    write("my_loses.py", "")
    with pytest.raises(InputError, match=r"base\.yaml:1: imports\.0: no such file .*: my_losses\.py.* 'my_loses\.py'"):
        load_base(write("base.yaml", f"imports: [my_losses.py]\n{BASE}"))


def test_a_network_that_shows_its_logits_alone_learns_by_what_needs_no_more():
    base = own_base(LOGITS, TINY)
    assert train.main(["--base", base, "--out", "out"]) == 0
    card = json.loads(Path("out/card.json").read_text())
    assert card["model"] == "own:tiny"
    del NETWORKS["own:tiny"]  # as in a process that has not seen it yet
    assert evaluate.main(["out/weights.safetensors", "--imports", "own.py"]) == 0
    with pytest.raises(InputError, match="'at' reads feature maps of stages, which the student own:tiny does not show"):
        load_base(base, ["method={name: at}"])


def test_an_own_network_is_exported_for_any_number_of_images():
    load_base(own_base(LOGITS, TINY))
    network, batch = models.build("own:tiny", 4).eval(), torch.export.Dim("batch")
    program = torch.export.export(network, (torch.zeros(2, 3, 8, 8),), dynamic_shapes=({0: batch},))
    assert program.module()(torch.zeros(5, 3, 8, 8)).logits.shape == (5, 4)


@pytest.mark.parametrize("method", ["at", "rkd", "crd", "{name: msd, scales: [1, 2]}"])
def test_a_network_with_taps_learns_by_all_methods(method):
    method = method if method.startswith("{") else f"{{name: {method}}}"
    assert train.main(["--base", own_base(TAPS, TINY), "--set", f"method={method}"]) == 0


def test_an_own_student_learns_from_a_network_of_timm():
    if importlib.util.find_spec("timm") is None:
        pytest.skip("timm is not installed")
    base = own_base(TAPS, TINY, 'teacher: {model: "timm/resnet10t", recipe: {epochs: 1, batch_size: 32}}')
    assert train.main(["--base", base, "--set", "method={name: sp}"]) == 0
    with pytest.raises(InputError, match=r"teacher\.model: timm has no network 'resnet10'; did you mean 'resnet10t'"):
        load_base(base, ["teacher.model=timm/resnet10"])


DATA = """
def birds(size: int = 8, bright: float = 0.5):
    images = (torch.arange(40 * 3 * size * size) % 251).to(torch.uint8).reshape(40, 3, size, size)
    labels = torch.arange(40) % 4
    return PARTS
"""
DATA_OF = '{name: "own:birds", size: 12}'
PAIRS = DATA.replace("PARTS", "(images, labels), (images[:8], labels[:8])")
SETS = DATA.replace("PARTS", "(lambda data: (data, data))(torch.utils.data.TensorDataset(images, labels))")


@pytest.mark.parametrize("code", [PAIRS, SETS])
def test_an_own_data_set_has_settings_of_its_own(code, capsys):
    base = own_base(code, 'data: {name: "own:birds", size: 12}')
    trial = load_base(base)
    assert (trial.data.facts.num_classes, trial.data.facts.image_size, trial.data.facts.train_images) == (4, 12, 40)
    assert load_base(base, ["data.size=10"]).id != trial.id
    assert train.main(["--base", base, "--out", "out"]) == 0
    top1 = json.loads(Path("out/history.json").read_text())[-1]["test_top1"]
    capsys.readouterr()
    assert evaluate.main(["out/weights.safetensors", "--data", DATA_OF, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["top1"] == top1
    with pytest.raises(InputError, match=r"base\.yaml:6: data\.siz: unknown key; did you mean 'size'"):
        load_base(own_base(code, 'data: {name: "own:birds", siz: 12}'))


def test_an_installed_package_offers_its_own_by_entry_points(monkeypatch):
    write("site/theirs.py", (EXAMPLE / "my_losses.py").read_text())
    write("site/theirs-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    write("site/theirs-1.0.dist-info/entry_points.txt", "[msd_sweeps.methods]\nmargin = theirs:Margin\n")
    monkeypatch.syspath_prepend("site")
    trial = load_base(write("base.yaml", BASE), ["method={name: margin, margin: 1.5}"])
    assert trial.method.margin == 1.5


def test_a_schema_completes_own_settings():
    assert schema.main(["--imports", str(EXAMPLE / "my_losses.py")]) == 0
    assert '"const": "margin"' in Path("base.schema.json").read_text()
    assert '"test_recall"' in Path("space.schema.json").read_text()


def test_the_example_is_a_sound_sweep_whose_source_is_known():
    from msd_sweeps.space import own_code

    sweep = load(str(EXAMPLE / "own_loss.yaml"))
    assert len(sweep.fixed_trials) == 12
    assert own_code.SOURCES["my_losses"].text == (EXAMPLE / "my_losses.py").read_text()


def test_a_debugger_shows_the_own_line():
    code = PAIRS.replace("    labels = ", "    breakpoint()\n    labels = ")
    base = own_base(code, 'data: {name: "own:birds"}')
    words = [sys.executable, "-m", "msd_sweeps.train", "--base", base]
    done = subprocess.run(words, input="c\n" * 9, capture_output=True, text=True, check=True)
    assert "own.py(7)birds()" in done.stdout
    assert "-> labels = torch.arange(40) % 4" in done.stdout
