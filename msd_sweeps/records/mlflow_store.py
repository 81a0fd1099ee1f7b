"""Which MLflow store a sweep's runs go to; a URI that can take none is refused before anything is launched."""

import os
import shlex
import sqlite3
from contextlib import closing
from importlib.metadata import entry_points
from pathlib import Path
from urllib.parse import SplitResult, quote, unquote, urlsplit

from msd_sweeps.space.errors import InputError
from msd_sweeps.space.secrets import without_secrets

DATABASE, ARTIFACTS = "mlflow.db", "mlflow-artifacts"
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
_HOSTED = ("databricks", "databricks-uc", "uc")
_HINT = "give http://HOST:PORT of a server, or sqlite:////FOLDER/mlflow.db"


def default_uri(storage: Path) -> str:
    """The SQLite store of all sweeps of a storage folder."""
    # The rest is kept as it is, for people who read it: only these two would end the path or change it.
    return f"sqlite:///{str((storage / DATABASE).resolve()).replace('%', '%25').replace('?', '%3F')}"


def choose_uri(storage: Path, configured: str | None) -> str:
    """The environment's store, else the space's, else that of the storage folder. Raises InputError."""
    from_environment = os.environ.get("MLFLOW_TRACKING_URI")
    uri = from_environment or configured
    if not uri:
        return default_uri(storage)
    problem = _problem(uri)
    if problem:
        key = "MLFLOW_TRACKING_URI" if from_environment else "tracking.uri"
        raise InputError(f"{key}: {without_secrets(uri)}: {problem}")
    return uri


def check_file(uri: str, whole: bool = True) -> None:
    """Raises InputError where a SQLite store has a file that is no sound database; one that is locked passes.

    whole: look at all of it, which takes some 30 ms per MB.
    """
    path = _sqlite_path(uri) if uri.startswith("sqlite") else None
    if path is None or not path.exists():
        return
    if path.is_dir():
        raise InputError(f"{path}: a folder, and MLflow's database needs a file; move it away")
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", timeout=1.0, uri=True)) as database:
            query = "PRAGMA quick_check(1)" if whole else "SELECT 'ok' FROM (SELECT count(*) FROM sqlite_master)"
            ((found,),) = database.execute(query).fetchall()
    except sqlite3.OperationalError:  # what hinders it now may be gone when records are sent
        return
    except sqlite3.DatabaseError as error:
        found = str(error)
    if found != "ok":
        again = "move it away: run --sync-mlflow makes it again from the ledger"
        raise InputError(f"{path}: MLflow's database is damaged ({found.splitlines()[0]}); {again}")


def _problem(uri: str) -> str:
    """Why nothing can ever be kept at a URI, and what to do; empty where that is not known."""
    try:
        parts = urlsplit(uri)
        number = parts.port
    except ValueError as error:
        return f"no valid URI ({error}); {_HINT}"
    scheme = parts.scheme.partition("+")[0]
    if scheme in ("http", "https"):
        return "" if parts.hostname and number != 0 else f"the host is missing; {_HINT}"
    if scheme in _HOSTED or uri in _HOSTED:
        return ""
    if scheme in _DATABASES:
        return _problem_of_database(uri, parts)
    if scheme in ("", "file"):
        allowed = os.environ.get("MLFLOW_ALLOW_FILE_STORE", "").lower() in ("true", "1")
        return "" if allowed else f"a folder of files, which MLflow does not write to any more; {_HINT}"
    plugins = {plugin.name for plugin in entry_points(group="mlflow.tracking_store")}
    return "" if parts.scheme in plugins else f"MLflow has no store of the kind '{parts.scheme}'; {_HINT}"


def _problem_of_database(uri: str, parts: SplitResult) -> str:
    if parts.scheme.startswith("sqlite"):
        path = _sqlite_path(uri)
        if path is None:
            return f"a database in memory, which nobody could look at; {_HINT}"
        return f"a folder, not a file; {_HINT}" if path.is_dir() else ""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        make_url(uri).get_dialect().import_dbapi()
    except ImportError as error:
        return f"its driver is not installed: {error}"
    except ArgumentError as error:  # also a driver whose name SQLAlchemy does not know
        return f"{error}; {_HINT}"
    return ""


def _sqlite_path(uri: str) -> Path | None:
    """The file of a SQLite store; None for one in memory."""
    path = unquote(uri.partition("?")[0].partition(":///")[2])
    return None if path in ("", ":memory:") else Path(path)


def artifacts_of(uri: str, storage: Path) -> Path | None:
    """The folder for files of runs: beside a SQLite store, in the storage folder for another database.

    None where a server decides.
    """
    if urlsplit(uri).scheme.partition("+")[0] not in _DATABASES:
        return None
    path = _sqlite_path(uri) if uri.startswith("sqlite") else None
    return (path.parent if path is not None else storage) / ARTIFACTS


def how_to_open(uri: str) -> str:
    """The command that shows the runs, or the address of the page that does."""
    shown = without_secrets(uri)
    return shown if uri.startswith(("http:", "https:")) else f"mlflow ui --backend-store-uri {shlex.quote(shown)}"
