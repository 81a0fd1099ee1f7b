"""Sends a sweep to a cluster as a Ray job and follows it.

`ray job submit` alone does not do this: it does not find and send the space and its base, does not refuse paths that a
job loses or secrets that a job shows, and does not give the exit code of the sweep.
"""

import asyncio
import os
import shlex
import shutil
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msd_sweeps
from msd_sweeps.records.object_store import StorePath
from msd_sweeps.records.provenance import COMMIT, commit
from msd_sweeps.space.errors import InputError
from msd_sweeps.space.load import SHIPPED, checked_name, find
from msd_sweeps.space.strict_yaml import parse
from msd_sweeps.sweep.options import Options
from msd_sweeps.sweep.ray_session import knock

_FORWARDED = ("MLFLOW_TRACKING_URI",)


def submit(options: Options) -> int:
    """Send the sweep, print what it prints, and return its exit code.

    The job checks the space itself, as the files that it names lie on the cluster. Raises InputError.
    """
    address = options.submit
    if address is None:  # --address ray://HEAD:10001: the driver of a sweep belongs inside the cluster
        address = f"http://{str(options.address).removeprefix('ray://').partition(':')[0]}:8265"
        options.address = None
    if options.address is not None or options.num_cpus is not None:
        raise InputError("--submit: the job joins the cluster itself; leave out --address and --num-cpus")
    _check_address(address)
    for flag, path in (("storage", options.kept_in), ("reports", options.reports)):
        if not isinstance(path, StorePath) and not path.is_absolute():
            raise InputError(
                f"--{flag} {path}: with --submit, expected an absolute path on the cluster's shared "
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


def pack(options: Options, folder: Path) -> list[str]:
    """Copy package, space and base into a folder; the arguments of the command that runs there. Raises InputError."""
    package = Path(msd_sweeps.__file__).resolve().parent
    shutil.copytree(package, folder / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    settings, name = options.settings, options.name
    words = {"--address": "auto", "--storage": str(options.kept_in), "--reports": str(options.reports)}
    if options.space is not None:
        space = find(options.space, SHIPPED)
        named_base = str(parse(space).data.get("base"))
        set_base = [text.partition("=")[2] for text in settings if text.startswith("base=")]
        settings = [text for text in settings if not text.startswith("base=")]
        base = find((set_base or [options.base or named_base])[-1], SHIPPED / "bases", near=space.parent)
        for source, target in ((space, folder / SHIPPED), (base, folder / SHIPPED / "bases")):
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
        words["--space"] = space.name
        if options.base is not None or set_base or "/" in named_base:
            words["--base"] = base.name
        name = name or (space.stem if options.base is None else f"{space.stem}-{base.stem}")
    if name is not None:
        words["--name"] = checked_name(name)
    numbers = {"--num-samples": options.num_samples, "--add-seeds": options.add_seeds}
    words |= {flag: str(number) for flag, number in numbers.items() if number is not None}
    flags = [name for name in ("fresh", "resume", "dry_run", "estimate", "verbose") if getattr(options, name)]
    return [
        *(word for pair in words.items() for word in pair),
        *(word for text in settings for word in ("--set", text)),
        *(f"--{name.replace('_', '-')}" for name in flags),
    ]


def _environment() -> dict[str, str]:
    """The environment of the job. Everyone who may use the cluster can read it, so it holds no secrets."""
    forwarded = {name: os.environ[name] for name in _FORWARDED if name in os.environ}
    for name, value in forwarded.items():
        if urlsplit(value).password:
            raise InputError(
                f"{name} holds a password, and a job's environment can be read on the cluster; set it there, or "
                "give the address alone and MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD to the nodes"
            )
    return forwarded | {COMMIT: " ".join(map(str, commit()))}


def _check_address(address: str) -> None:
    """Raises InputError for an address that is none, or where nothing answers."""
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if host is None or parts.scheme not in ("http", "https"):
        raise InputError(f"--submit {address}: expected http://HOST:8265, the address of the head's dashboard")
    knock(f"--submit {address}", host, port or (443 if parts.scheme == "https" else 80))


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
