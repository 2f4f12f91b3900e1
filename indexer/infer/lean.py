"""PyTorch, imported without what only its compiler and exporter need; for a process in which nobody else uses it.

The last thing that `import torch` does is to register kernels, written in Python, for tensors that have a shape but no
content. For that it imports its decompositions and reference implementations: a quarter of the CPU seconds of the whole.
Without them `torch.compile` and `torch.export` cannot be used any more.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from types import ModuleType

KNOWN_VERSION = "2.15."
"""Of torch, whose inner part is named here. Any other one is imported as it is."""
_META_KERNELS = "torch._meta_registrations"


@contextmanager
def _meta_kernels_left_out() -> Iterator[None]:
    """While torch is imported, something empty stands in for them. Nothing changes where it is imported already."""
    if "torch" in sys.modules or not version("torch").startswith(KNOWN_VERSION):
        yield
        return
    sys.modules[_META_KERNELS] = ModuleType(_META_KERNELS)
    try:
        yield
    finally:
        sys.modules.pop(_META_KERNELS, None)


with _meta_kernels_left_out():
    import torch as torch
