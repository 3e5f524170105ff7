"""Dataflow's two methods that a launcher calls, over HTTP: enough for released clients to launch and to wait."""

import contextlib
import json
import re
import threading
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PENDING, RUNNING, DONE = "JOB_STATE_PENDING", "JOB_STATE_RUNNING", "JOB_STATE_DONE"


class FakeDataflow:
    """What was launched, and what becomes of it.

    Attributes:
      address: of the server.
      requests: what was launched, a LaunchFlexTemplateRequest each.
      ends: job name → the state it ends in; DONE where none is given.
      active: job name → how many launches are refused because a job of that name is active.
    """

    def __init__(self) -> None:
        self.address = ""
        self.requests: list[dict[str, Any]] = []
        self.ends: dict[str, str] = {}
        self.active: dict[str, int] = {}
        self._left: dict[str, list[str]] = {}
        self._names: dict[str, str] = {}

    def launch(self, request: dict[str, Any]) -> tuple[HTTPStatus, dict[str, Any]]:
        name = request["launchParameter"]["jobName"]
        if self.active.get(name):
            self.active[name] -= 1
            message = f"(78f666ea16e50f79): There is already an active job named {name}."
            return HTTPStatus.CONFLICT, {"error": {"code": 409, "message": message, "status": "ALREADY_EXISTS"}}
        self.requests.append(request)
        job = f"job-{len(self.requests)}"
        self._names[job] = name
        self._left[job] = [PENDING, RUNNING, self.ends.get(name, DONE)]
        return HTTPStatus.OK, {"job": self._job(job, PENDING) | {"projectId": request["projectId"]}}

    def get(self, job: str) -> dict[str, Any]:
        left = self._left[job]
        return self._job(job, left.pop(0) if len(left) > 1 else left[0])

    def _job(self, job: str, state: str) -> dict[str, Any]:
        return {"id": job, "name": self._names[job], "type": "JOB_TYPE_BATCH", "currentState": state}


@contextlib.contextmanager
def fake_dataflow() -> Iterator[FakeDataflow]:
    fake = FakeDataflow()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            place = re.match(r"/v1b3/projects/([^/]+)/locations/([^/]+)/flexTemplates:launch", self.path)
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._answer(*fake.launch({"projectId": place[1], "location": place[2]} | body))

        def do_GET(self) -> None:
            place = re.match(r"/v1b3/projects/[^/]+/locations/[^/]+/jobs/([^/?]+)", self.path)
            self._answer(HTTPStatus.OK, fake.get(place[1]))

        def _answer(self, status: HTTPStatus, body: dict[str, Any]) -> None:
            encoded = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(encoded)))
            self.end_headers()
            self.wfile.write(encoded)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    fake.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
