"""transforms.storage.libcurl: pycurl has its own libcurl, whatever else the process has loaded."""

import subprocess
import sys

import pytest

_CODE = """
import sys
{imports}
from transforms.storage.libcurl import pycurl
assert sys.getdlopenflags() == before, "other libraries are loaded as ever"
handle = pycurl.Curl()
handle.setopt(pycurl.URL, "https://127.0.0.1:1/")
try:
    handle.perform()
except pycurl.error as error:
    assert error.args[0] == pycurl.E_COULDNT_CONNECT, error
import tensorflow
assert int(tensorflow.add(1, 2)) == 3
"""


@pytest.mark.slow
@pytest.mark.parametrize("imports", ["", "import tensorflow"], ids=["before TensorFlow", "after TensorFlow"])
def test_pycurl_and_tensorflow_live_in_one_process(imports):
    code = _CODE.format(imports=f"{imports}\nbefore = sys.getdlopenflags()")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_version_that_it_was_built_for():
    from transforms.storage.libcurl import pycurl

    assert pycurl.version_info()[2] == pycurl.COMPILE_LIBCURL_VERSION_NUM
