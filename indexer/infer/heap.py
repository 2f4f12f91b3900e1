"""What a network has given back stays with the process, for its next batch.

glibc returns blocks of megabytes to the system as soon as they are free, and each batch asks for them anew: the system clears
every page of them again, on one core. That took up to three fifths of the time of a model (docs/decisions, 39).
"""

from __future__ import annotations

import ctypes
from functools import cache

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
"""From malloc.h, see mallopt(3)."""


@cache
def keep_freed_memory() -> None:
    """From now on, in this process. Without a C library that can do so, nothing changes."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # musl, macOS
        return
    mallopt(_M_MMAP_MAX, 0)  # no block gets pages of its own, which would go back with it
    mallopt(_M_TRIM_THRESHOLD, -1)  # and the end of the heap is never given back
