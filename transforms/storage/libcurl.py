"""libcurl, by the package pycurl. It is imported from here alone.

TensorFlow has an older libcurl in its libraries, and shows the symbols of it to all libraries that are loaded later.
So a process that has imported TensorFlow cannot import pycurl, unless libraries look for symbols in their own
dependencies first.
"""

import os
import sys

_flags = sys.getdlopenflags()
sys.setdlopenflags(_flags | getattr(os, "RTLD_DEEPBIND", 0))  # elsewhere than with glibc this is not needed
try:
    import pycurl
finally:
    sys.setdlopenflags(_flags)

__all__ = ["pycurl"]
