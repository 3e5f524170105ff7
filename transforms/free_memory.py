"""Memory that glibc's allocator holds free, given back to the system."""

import ctypes


def give_back() -> bool:
    """Gives back what is free; returns whether there was any. Does nothing where the allocator is another."""
    try:
        return bool(ctypes.CDLL(None).malloc_trim(0))
    except (AttributeError, OSError, TypeError):  # musl, macOS, Windows
        return False
