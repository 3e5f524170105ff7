"""transforms.storage.libcurl: pycurl works beside TensorFlow, whichever is imported first."""

import http.server
import subprocess
import sys
import threading

import pytest

from tests.helpers import tls
from tests.helpers.running import ROOT

_CODE = """
{imports}
from transforms.storage import http_get
reply = http_get.get(http_get.Request({url!r}))
import tensorflow as tf
assert float(tf.reduce_sum(tf.ones([3]))) == 3
print(reply.content.decode())
"""


class _Hello(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *args):
        pass


@pytest.mark.slow
@pytest.mark.parametrize("imports", ["", "import tensorflow", "import tensorflow, apache_beam, openvino"])
def test_objects_are_read_by_https_beside_tensorflow(tmp_path, imports):
    made = tls.certificates(tmp_path, "localhost")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Hello) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        with tls.tls_front(f"http://127.0.0.1:{server.server_port}", made) as url:
            code = _CODE.format(imports=imports, url=url.replace("127.0.0.1", "localhost"))
            environment = {"PATH": "/usr/bin:/bin", "REQUESTS_CA_BUNDLE": str(made.authority), "HOME": str(tmp_path)}
            done = subprocess.run(
                [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
            )
        server.shutdown()
        thread.join()
    assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr


def test_the_version_that_it_was_built_for():
    from transforms.storage.libcurl import pycurl

    assert pycurl.version_info()[2] == pycurl.COMPILE_LIBCURL_VERSION_NUM
