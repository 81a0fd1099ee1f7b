"""What a ledger says about the whole sweep comes back as it was written; a ledger of another layout is refused."""

import json

import pytest

from msd_sweeps import run
from msd_sweeps.records import ledger
from msd_sweeps.records.header import CloseRecord, DataRecord, Header, Launch, TeacherRecord, header_of
from msd_sweeps.records.ledger import FILE_NAME, LAYOUT, LayoutError, Ledger, LedgerError
from msd_sweeps.report.compiling import compile_report
from msd_sweeps.report.loading import load as load_frames
from msd_sweeps.space.load import load

SWEEP = load("ablation")
LAUNCH = Launch(
    name="mine",
    space=SWEEP.space,
    base=SWEEP.base,
    command=["python", "-m", "msd_sweeps.run"],
    versions={"python": "3.11"},
    commit=None,
    dirty=False,
    host="here",
    device="cpu",
)
OTHERS = [
    DataRecord(name="digits", num_classes=10, train=1397, val=0, test=400, sha256="d" * 64),
    TeacherRecord(
        key="abc",
        model="resnet20",
        source="trained",
        weights_sha256="e" * 64,
        test_top1=98.75,
        precision="float32",
        seconds=1.5,
    ),
    CloseRecord(outcome="complete", seconds=2.0),
]


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs" / "mine" / FILE_NAME


def write(path, *records: tuple[str, dict]) -> None:
    opened = Ledger(path)
    for event, fields in records:
        opened.append(event, **fields)
    opened.close()


def test_what_was_recorded_is_read_as_models(path):
    write(path, *((entry.event, entry.record()) for entry in [LAUNCH, *OTHERS]), ("start", {"levels": []}))
    header = header_of(path)
    assert (header.launch.space, header.launch.base) == (SWEEP.space, SWEEP.base)
    entries = [header.launch, *header.data, *header.teachers, *header.closes]
    for found, written in zip(entries, [LAUNCH, *OTHERS], strict=True):
        assert found.model_copy(update={"time": 0.0}) == written
        assert found.time > 0
    assert not header.add({"event": "start"})


def test_the_last_launch_counts_and_one_must_be_there(path):
    header = Header(path)
    with pytest.raises(LedgerError, match=rf"{path}: the sweep stopped before it began"):
        _ = header.launch
    for name in ("first", "last"):
        assert header.add({"event": "sweep", **LAUNCH.model_copy(update={"name": name}).record()})
    assert header.launch.sweep == load("ablation", name="last")


def test_a_record_that_does_not_fit_the_models_is_named_with_its_key(path):
    record = LAUNCH.record()
    record["base"]["recipe"]["epochs"] = "many"
    write(path, ("sweep", record))
    with pytest.raises(LedgerError, match=rf"{path}: the 'sweep' record does not fit .*: base\.recipe\.epochs: "):
        header_of(path)


OLD = {name: value for name, value in LAUNCH.record().items() if name != "layout"}
START = {"trial": "a", "attempt": 1, "cell": "c", "label": "l", "phase": "design", "number": 0, "seed": 0}


@pytest.mark.parametrize(
    ("event", "fields", "says"),
    [
        ("sweep", OLD, "written by an older msd_sweeps (layout unnumbered, "),
        (
            "sweep",
            OLD | {"layout": LAYOUT - 1},
            f"written by an older msd_sweeps (layout {LAYOUT - 1}, this one reads ",
        ),
        ("sweep", OLD | {"layout": LAYOUT + 1}, f"written by a newer msd_sweeps (layout {LAYOUT + 1}, "),
        ("start", START | {"config": {}, "values": {}}, "written by an older msd_sweeps (layout unnumbered, "),
    ],
)
def test_a_ledger_of_another_layout_is_refused_with_what_to_do(path, event, fields, says):
    write(path, (event, fields), ("end", {"trial": "a"}))
    for read in (
        lambda: list(ledger.read(path)),
        lambda: load_frames("mine"),
        lambda: compile_report(path, path.parent),
    ):
        with pytest.raises(LayoutError) as refused:
            read()
        assert f"runs/mine/{FILE_NAME}: {says}" in str(refused.value)
        assert f"this one reads {LAYOUT}); choose another --name, or remove its folder" in str(refused.value)


def test_no_command_goes_on_with_a_ledger_of_an_older_layout(path, capsys):
    write(path, ("sweep", OLD), ("close", {"outcome": "complete", "seconds": 1.0}))
    before = path.read_bytes()
    for arguments in (
        ["--resume", "--name", "mine"],
        ["--space", "ablation", "--name", "mine"],
        ["--add-seeds", "1", "--name", "mine"],
        ["--sync-mlflow", "--name", "mine"],
    ):
        assert run.main(arguments) == 2
        assert "written by an older msd_sweeps" in capsys.readouterr().err
    assert path.read_bytes() == before
    assert json.loads(before.splitlines()[0])["event"] == "sweep"
