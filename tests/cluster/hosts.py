"""Hosts on one machine: network namespaces with addresses of their own, joined by a switch, with Ray in each.

They share the file system, as hosts with shared storage do, and nothing else of the network.
"""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

PORT = 6399
_BIN = Path(sys.executable).parent
_QUICK_HEALTH_CHECKS = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
}
"""A host that is cut off is given up after about three seconds; Ray's own default is about half a minute."""


def permitted() -> bool:
    """Whether this process may make network namespaces."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    name = f"try{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True).returncode == 0
    if made:
        linked = ["ip", "-n", name, "link", "add", "veth0", "type", "veth", "peer", "name", "veth1"]
        made = subprocess.run(linked, capture_output=True).returncode == 0
        subprocess.run(["ip", "netns", "del", name], capture_output=True)
    return made


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


class Host:
    """One namespace; `cpu` pins whatever runs there to one of this machine's, `share` gives it a part of one."""

    def __init__(
        self, name: str, address: str, environment: dict[str, str], cpu: int | None, share: float | None = None
    ):
        self.name, self.address, self.environment = name, address, environment
        self._pin = [] if cpu is None else ["taskset", "--cpu-list", str(cpu)]
        self._group: Path | None = None
        if share is not None:
            self._group = _limited_group(name, share)
            self._pin = ["sh", "-c", f'echo $$ > {self._group}/cgroup.procs; exec "$@"', "sh", *self._pin]

    def command(self, *words: str) -> list[str]:
        return [*self._pin, "ip", "netns", "exec", self.name, *words]

    def start(self, *words: str, cwd: Path | None = None, **environment: str) -> subprocess.Popen[str]:
        """A process on this host; its output is one pipe."""
        return subprocess.Popen(
            self.command(*words),
            cwd=cwd,
            env=self.environment | environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def run(self, *words: str, cwd: Path | None = None, timeout: float = 120, **environment: str) -> str:
        """Run to the end; what it printed. Raises AssertionError with it where the exit code is not 0."""
        process = self.start(*words, cwd=cwd, **environment)
        try:
            out, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        assert process.returncode == 0, f"{words} on {self.name}: {out}"
        return out

    def ray(self, *words: str, **environment: str) -> str:
        return self.run(str(_BIN / "ray"), *words, **environment)

    def start_head(self, cpus: int, *more: str) -> None:
        """A Ray head that gives up lost hosts within seconds."""
        self.ray(
            "start",
            "--head",
            f"--port={PORT}",
            f"--node-ip-address={self.address}",
            f"--num-cpus={cpus}",
            f"--temp-dir={self.environment['RAY_TMPDIR']}",
            "--object-store-memory=100000000",
            *more,
            **_QUICK_HEALTH_CHECKS,
        )

    def join(self, head: "Host", cpus: int, *more: str) -> None:
        """A Ray worker node."""
        self.ray(
            "start",
            f"--address={head.address}:{PORT}",
            f"--node-ip-address={self.address}",
            f"--num-cpus={cpus}",
            "--object-store-memory=100000000",
            *more,
        )

    def processes(self) -> list[int]:
        listed = subprocess.run(["ip", "netns", "pids", self.name], capture_output=True, text=True)
        return [int(number) for number in listed.stdout.split()]

    def stop(self) -> None:
        """Kill everything on this host, as if it lost power."""
        for _ in range(50):
            found = self.processes()
            if not found:
                return
            for number in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)
            time.sleep(0.1)

    def remove(self) -> None:
        """Stop, and take the namespace and its share of the CPU away."""
        self.stop()
        subprocess.run(["ip", "netns", "del", self.name], capture_output=True)
        if self._group is not None:
            self._group.rmdir()


def _limited_group(name: str, share: float) -> Path:
    """A control group whose processes have together at most `share` of one CPU; removed with its host."""
    root = Path("/sys/fs/cgroup")
    is_v2 = (root / "cgroup.controllers").exists()
    group = (root if is_v2 else root / "cpu") / name
    group.mkdir()
    period, quota = 20_000, round(share * 20_000)
    if is_v2:
        (group / "cpu.max").write_text(f"{quota} {period}")
    else:
        (group / "cpu.cfs_period_us").write_text(str(period))
        (group / "cpu.cfs_quota_us").write_text(str(quota))
    return group


class Network(list[Host]):
    """Hosts on one switch."""

    def __init__(self, hosts: list[Host], switch: str):
        super().__init__(hosts)
        self._switch = switch

    def cut(self, host: Host) -> None:
        """Take the host's link down: packets vanish, nobody is told."""
        _ip("-n", self._switch, "link", "set", f"p{self.index(host)}", "down")

    def mend(self, host: Host) -> None:
        _ip("-n", self._switch, "link", "set", f"p{self.index(host)}", "up")


@contextlib.contextmanager
def network(
    count: int, cpus: list[int | None] | None = None, shares: list[float | None] | None = None
) -> Iterator[Network]:
    """`count` hosts, 10.77.0.1 and so on; each may be pinned to one CPU or be given a share of one.

    All that runs there ends with the context.
    """
    tag = f"m{os.getpid()}{secrets.token_hex(2)}"
    switch = f"{tag}s"
    folder = Path(tempfile.mkdtemp(prefix="msd", dir="/tmp"))  # short: Ray puts sockets there
    token = folder / "token"
    token.write_text(secrets.token_hex(32))
    token.chmod(0o600)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_"))}
    environment |= {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_TMPDIR": str(folder),
        "OMP_NUM_THREADS": "1",
    }
    hosts: list[Host] = []
    try:
        _ip("netns", "add", switch)
        _ip("-n", switch, "link", "add", "switch", "type", "bridge")
        _ip("-n", switch, "link", "set", "switch", "up")
        for number in range(count):
            host = Host(
                f"{tag}h{number}",
                f"10.77.0.{number + 1}",
                environment,
                cpus[number] if cpus else None,
                shares[number] if shares else None,
            )
            _ip("netns", "add", host.name)
            hosts.append(host)
            ends = [f"p{number}", "type", "veth", "peer", "name", "eth0", "netns", host.name]
            _ip("-n", switch, "link", "add", *ends)
            _ip("-n", switch, "link", "set", f"p{number}", "master", "switch", "up")
            _ip("-n", host.name, "address", "add", f"{host.address}/24", "dev", "eth0")
            _ip("-n", host.name, "link", "set", "eth0", "up")
            _ip("-n", host.name, "link", "set", "lo", "up")
        yield Network(hosts, switch)
    finally:
        for host in hosts:
            host.remove()
        subprocess.run(["ip", "netns", "del", switch], capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)
