"""torchvision's models, imported without torch's compiler, which nothing here uses.

One line of torchvision (ops/roi_align.py asks `torch._dynamo.utils` whether a device can compile) imports all of it: half of
the CPU seconds of importing torch and torchvision together, in every process that holds a model.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import torch

_COMPILER = "torch._dynamo"
_ASKED = "torch._dynamo.utils"


def _is_compile_supported(device_type: str | torch.device | int) -> bool:
    """What torchvision asks for, from the real compiler, when somebody really asks."""
    from torch._dynamo.utils import is_compile_supported

    return bool(is_compile_supported(device_type))


@contextmanager
def _compiler_left_out() -> Iterator[None]:
    """While torchvision is imported, something small stands in for the compiler; who wants it later imports the real one."""
    if _COMPILER in sys.modules:
        yield
        return
    compiler, asked = ModuleType(_COMPILER), ModuleType(_ASKED)
    vars(compiler)["__path__"] = []
    vars(asked)["is_compile_supported"] = _is_compile_supported
    sys.modules |= {_COMPILER: compiler, _ASKED: asked}
    try:
        yield
    finally:
        for name in (_COMPILER, _ASKED):
            sys.modules.pop(name, None)


with _compiler_left_out():
    from torchvision import models as models
