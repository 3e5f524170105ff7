"""The import of pycurl, which works in a process with TensorFlow too.

TensorFlow lets every library that is loaded after it see the functions of its own, older libcurl. pycurl would take
those, and refuse to start. With RTLD_DEEPBIND it takes the functions of the libcurl that it brings.
"""

import os
import sys

_flags = sys.getdlopenflags()
sys.setdlopenflags(_flags | getattr(os, "RTLD_DEEPBIND", 0))  # Linux alone has it, and needs it
try:
    import pycurl
finally:
    sys.setdlopenflags(_flags)

__all__ = ["pycurl"]
