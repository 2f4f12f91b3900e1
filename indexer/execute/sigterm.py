"""Keeps for a run what SIGTERM means to it: Ray, while and after it starts, sets handlers of its own that end the process."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def own_sigterm() -> Iterator[None]:
    """The handler from before holds after the block, and is called where another one has ended the block by SystemExit."""
    own = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit:
        if callable(own):
            own(signal.SIGTERM, None)
        raise
    finally:
        signal.signal(signal.SIGTERM, own)
