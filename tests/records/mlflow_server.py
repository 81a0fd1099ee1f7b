"""MLflow's own server in this process, with faults in front of it."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from werkzeug.serving import WSGIRequestHandler, make_server

_BODIES = {401: b"You are not authenticated", 403: b"Permission denied", 429: b"slow down", 500: b"trouble"}


class _Quiet(WSGIRequestHandler):
    def log(self, *arguments: Any) -> None:
        pass


class Server:
    """Answers as MLflow does, or with the statuses in `faults`, one a request."""

    def __init__(self) -> None:
        from mlflow.server import app

        self.faults: list[int] = []
        self.requests = 0
        self._app = app
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=_Quiet)
        self.uri = f"http://127.0.0.1:{self._server.port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def _answer(self, environ: Any, start_response: Any) -> Any:
        self.requests += 1
        if self.faults:
            status = self.faults.pop(0)
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start_response(f"{status} fault", [("Content-Type", "text/plain")])
            return [_BODIES[status]]
        return self._app(environ, start_response)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def server(folder: Path) -> Iterator[Server]:
    """The server with a SQLite store and artifacts in `folder`."""
    settings = {
        "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{folder}/server.db",
        "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
        "_MLFLOW_SERVER_ARTIFACT_DESTINATION": str(folder / "artifacts"),
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
    }
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    made = Server()
    try:
        yield made
    finally:
        made.close()
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
