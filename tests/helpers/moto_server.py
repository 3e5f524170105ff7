"""moto's server of S3, one request at a time: `python -m tests.helpers.moto_server PORT`.

By itself it answers requests at once, and of 16 that write one object with `If-None-Match: *` two may succeed.
"""

import sys
import threading
from collections.abc import Callable

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, run_simple

_moto = DomainDispatcherApplication(create_backend_app)
_lock = threading.Lock()


def _one_at_a_time(environment: dict, start_response: Callable) -> list[bytes]:
    with _lock:
        return list(_moto(environment, start_response))


class _KeepAlive(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"


if __name__ == "__main__":
    run_simple("127.0.0.1", int(sys.argv[1]), _one_at_a_time, threaded=True, request_handler=_KeepAlive)
