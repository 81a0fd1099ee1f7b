"""Slurm on two hosts of this machine: one controller, and a daemon for each node, in the namespaces of `hosts`.

Needs the packages slurm-wlm and munge. A node's daemon sees a host name and a list of hosts of its own.
"""

import contextlib
import getpass
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.cluster.hosts import Network

PROGRAMS = "slurmctld", "slurmd", "munged", "mungekey", "unshare", "nsenter"
CONFIGURATION = """\
ClusterName=toy
SlurmctldHost=n1({controller})
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/controller.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/controller.log
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1,bf_interval=1
KillWait=60
ReturnToService=2
SlurmdTimeout=20
{nodes}
PartitionName=all Nodes=ALL Default=YES State=UP OverTimeLimit=1
"""


def installed() -> bool:
    """Whether the programs are there."""
    return all(shutil.which(program) for program in PROGRAMS)


class Slurm:
    """A running cluster. Jobs are sent from the first node."""

    def __init__(self, hosts: Network, folder: Path):
        self.folder, self._hosts = folder, hosts
        self._daemons: list[subprocess.Popen[bytes]] = []

    def run(self, *words: str, cwd: Path | None = None) -> str:
        """One of Slurm's commands on the first node; what it printed."""
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return self._hosts[0].run(*words, cwd=cwd, SLURM_CONF=str(self.folder / "slurm.conf"), PATH=path)

    def state(self, job: str) -> dict[str, str]:
        """What Slurm says of a job."""
        shown = self.run("scontrol", "--oneliner", "show", "job", job)
        return dict(word.split("=", 1) for word in shown.split() if "=" in word)

    def wait(self, job: str, condition: Callable[[dict[str, str]], bool], seconds: float = 240) -> dict[str, str]:
        """Wait until a job is as wanted. Raises TimeoutError with its state and the daemons' logs."""
        end = time.monotonic() + seconds
        while not condition(state := self.state(job)):
            if time.monotonic() > end:
                logs = "\n".join(path.read_text(errors="replace")[-3000:] for path in self.folder.glob("*.log"))
                raise TimeoutError(f"job {job}: {state}\n{logs}")
            time.sleep(0.5)
        return state

    def start(self) -> None:
        """Start munge, the controller and the nodes' daemons."""
        key, socket = self.folder / "munge.key", self.folder / "munge.socket"
        subprocess.run(["mungekey", "--create", "--keyfile", str(key)], check=True)
        places = [f"--{name}-file={self.folder}/munge.{name}" for name in ("pid", "log", "seed")]
        words = ["munged", "--foreground", "--force", f"--key-file={key}", f"--socket={socket}", *places]
        self._daemons.append(subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        names = {f"n{number}": host for number, host in enumerate(self._hosts, 1)}
        nodes = [f"NodeName={name} NodeAddr={host.address} CPUs=1 State=UNKNOWN" for name, host in names.items()]
        text = CONFIGURATION.format(
            user=getpass.getuser(), folder=self.folder, nodes="\n".join(nodes), controller=self._hosts[0].address
        )
        (self.folder / "slurm.conf").write_text(text)
        for name in ("state", *(f"spool-{name}" for name in names)):
            (self.folder / name).mkdir()
        known = "127.0.0.1 localhost\n" + "".join(f"{host.address} {name}\n" for name, host in names.items())
        (self.folder / "hosts").write_text(known)
        self._daemon("n1", "slurmctld", "-D", "-f", str(self.folder / "slurm.conf"))
        for name in names:
            self._daemon(name, "slurmd", "-D", "-N", name, "-f", str(self.folder / "slurm.conf"))
        end = time.monotonic() + 60
        while "idle" not in (shown := self.run("sinfo", "--noheader", "--format=%T")) or len(shown.split()) != 1:
            assert time.monotonic() < end, shown
            time.sleep(0.5)

    def _daemon(self, name: str, *words: str) -> None:
        host = self._hosts[int(name[1:]) - 1]
        # Not `ip netns exec`: it hides the control groups, without which no daemon starts.
        own = f'mount --bind "{self.folder}/hosts" /etc/hosts; hostname {name}; exec "$@"'
        spaces = ["unshare", "--mount", "--uts", "--pid", "--fork", "--mount-proc", "--kill-child"]
        named = ["nsenter", f"--net=/run/netns/{host.name}", *spaces, "sh", "-c", own, "sh", *words]
        environment = {name: value for name, value in host.environment.items() if not name.startswith("RAY_")}
        with (self.folder / f"{name}-{words[0]}.out").open("wb") as out:
            process = subprocess.Popen(named, env=environment, stdout=out, stderr=out)
        self._daemons.append(process)

    def stop(self) -> None:
        for host in self._hosts:
            host.stop()
        for daemon in reversed(self._daemons):
            daemon.kill()
            daemon.wait()


@contextlib.contextmanager
def slurm(hosts: Network) -> Iterator[Slurm]:
    """Slurm on these hosts, until the context ends."""
    folder = Path(tempfile.mkdtemp(prefix="slurm", dir="/tmp"))
    cluster = Slurm(hosts, folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)
