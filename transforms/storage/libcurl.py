"""The import of pycurl, which works in a process with TensorFlow too, and the certificates to trust.

TensorFlow lets every library that is loaded after it see the functions of its own, older libcurl. pycurl would take
those, and refuse to start. With RTLD_DEEPBIND it takes the functions of the libcurl that it brings.
"""

import os
import sys

import certifi

_flags = sys.getdlopenflags()
sys.setdlopenflags(_flags | getattr(os, "RTLD_DEEPBIND", 0))  # Linux alone has it, and needs it
try:
    import pycurl
finally:
    sys.setdlopenflags(_flags)

__all__ = ["certificates", "pycurl"]


def certificates() -> str:
    """Returns the file of trusted certificates: of a variable that other clients know too, or else of certifi."""
    variables = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
    return next((path for name in variables if (path := os.environ.get(name))), certifi.where())
