"""Sends a sweep to a cluster as a Ray job: the package, the space and its base travel along."""

import argparse
import asyncio
import os
import shlex
import shutil
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msd_sweeps
from msd_sweeps.records.provenance import COMMIT, commit
from msd_sweeps.space.errors import InputError
from msd_sweeps.space.load import SHIPPED, checked_name, find
from msd_sweeps.space.strict_yaml import parse
from msd_sweeps.sweep.ray_session import knock

_FORWARDED = ("MLFLOW_TRACKING_URI",)


def submit(options: argparse.Namespace) -> int:
    """Send the sweep, follow what it prints, and give its exit code.

    The job checks the space itself: files that it names lie on the cluster. Raises InputError.
    """
    address = _checked_address(options.submit)
    for flag in ("storage", "reports"):
        given = getattr(options, flag)
        if isinstance(given, Path) and not given.is_absolute():
            raise InputError(
                f"--{flag} {given}: with --submit, expected an absolute path on the cluster's shared "
                "storage: a job works in a folder that is removed after it"
            )
    with tempfile.TemporaryDirectory() as folder:
        arguments = pack(options, Path(folder))
        client = _client(address)
        job = client.submit_job(
            entrypoint=shlex.join(["python", "-m", "msd_sweeps.run", *arguments]),
            runtime_env={"working_dir": folder, "env_vars": _environment()},
            metadata={"name": "msd_sweeps"},
        )
    print(
        f"job {job} on {address}. It goes on without this command:\n"
        f"  ray job logs --address {address} --follow {job}\n"
        f"  ray job stop --address {address} {job}",
        flush=True,
    )
    return _follow(client, job)


def pack(options: argparse.Namespace, folder: Path) -> list[str]:
    """Put package, space and base into a folder; the arguments of the command that runs there. Raises InputError."""
    package = Path(msd_sweeps.__file__).resolve().parent
    shutil.copytree(package, folder / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    arguments = ["--address", "auto", "--storage", str(options.storage), "--reports", str(options.reports)]
    if options.space is not None:
        space = find(options.space, SHIPPED)
        given = {text.partition("=")[2] for text in options.settings if text.startswith("base=")}
        bases = given or {options.base or parse(space).data.get("base")}
        base = find(str(bases.pop()), SHIPPED / "bases", near=space.parent)
        for source, target in ((space, folder / SHIPPED), (base, folder / SHIPPED / "bases")):
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
        stem = space.stem if options.base is None else f"{space.stem}-{base.stem}"
        arguments += ["--space", space.name, "--name", checked_name(options.name or stem)]
        by_path = "/" in str(parse(space).data.get("base"))
        if options.base is not None or by_path:
            arguments += ["--base", base.name]
    elif options.name is not None:
        arguments += ["--name", checked_name(options.name)]
    for setting in options.settings:
        if not setting.startswith("base="):
            arguments += ["--set", setting]
    for flag in ("num_samples", "add_seeds"):
        if getattr(options, flag) is not None:
            arguments += [f"--{flag.replace('_', '-')}", str(getattr(options, flag))]
    for flag in ("fresh", "resume", "dry_run", "estimate", "verbose"):
        if getattr(options, flag):
            arguments.append(f"--{flag.replace('_', '-')}")
    return arguments


def _environment() -> dict[str, str]:
    """What a job is told by its environment, which whoever may reach the cluster can read: no secrets."""
    told = {name: os.environ[name] for name in _FORWARDED if name in os.environ}
    for name, value in told.items():
        if urlsplit(value).password:
            raise InputError(
                f"{name} holds a password, and a job's environment can be read on the cluster; set it there, or "
                "give the address alone and MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD to the nodes"
            )
    return told | {COMMIT: " ".join(map(str, commit()))}


def dashboard_of(address: str) -> str:
    """The dashboard on the head that a Ray client address (ray://HEAD:10001) names.

    A sweep's driver belongs inside the cluster: Tune's callbacks and the ledger are in one process.
    """
    return f"http://{address.removeprefix('ray://').partition(':')[0]}:8265"


def _checked_address(address: str) -> str:
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if host is None or parts.scheme not in ("http", "https"):
        raise InputError(f"--submit {address}: expected http://HOST:8265, the address of the head's dashboard")
    knock(f"--submit {address}", host, port or (443 if parts.scheme == "https" else 80))
    return address


def _client(address: str) -> Any:
    from ray.exceptions import AuthenticationError

    try:
        from ray.job_submission import JobSubmissionClient

        return JobSubmissionClient(address)
    except ImportError as error:
        raise InputError("--submit needs ray[default]: pip install 'msd-sweeps[cluster]'") from error
    except (AuthenticationError, RuntimeError, ConnectionError) as error:
        raise InputError(
            f"--submit {address}: {str(error).splitlines()[0]}. Does this machine have the cluster's token "
            "(RAY_AUTH_MODE=token, ~/.ray/auth_token), and the head ray[default] and --include-dashboard=true?"
        ) from error


def _follow(client: Any, job: str) -> int:
    """Print what the job prints until it ends; its exit code, 130 after Ctrl+C, which leaves the job alone."""

    async def tail() -> None:
        async for lines in client.tail_job_logs(job):
            print(lines, end="", flush=True)

    try:
        asyncio.run(tail())
    except KeyboardInterrupt:
        print("\nno longer followed; the job goes on")
        return 130
    except RuntimeError as error:
        print(f"\nthe connection was lost ({error}); the job goes on if the cluster does")
    found = client.get_job_info(job)
    if found.driver_exit_code is not None:
        return int(found.driver_exit_code)
    print(f"job {job}: {found.status}. {found.message or ''}")
    return 0 if str(found.status) == "SUCCEEDED" else 1
