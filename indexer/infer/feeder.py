"""Batches on their way to the device and answers on their way back. On a GPU neither keeps it waiting.

A batch is copied from pinned memory on a stream of its own, while the one before is computed; who waits for an answer waits
for that answer alone, not for what was begun after it. On a CPU there is nothing to be hidden, and nothing of this happens.
Used by `classifier` and by benchmarks/gpu.py: needs torch and numpy, nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Upload:
    """A batch that may still be on its way."""

    batch: torch.Tensor
    arrived: torch.cuda.Event | None


@dataclass(frozen=True, slots=True)
class Answers:
    """Results that may still be computed."""

    tensors: tuple[torch.Tensor, ...]
    """In this process's memory, once they are `done`."""
    done: torch.cuda.Event | None

    def arrays(self) -> tuple[NDArray[Any], ...]:
        """Waits for them."""
        if self.done is not None:
            self.done.synchronize()
        return tuple(tensor.numpy() for tensor in self.tensors)


class Feeder:
    """Of one device. `upload` may be called while another thread computes; `take` and `fetch` belong to who computes."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._uploads = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]

    def upload(self, batch: NDArray[np.uint8], size: int) -> Upload:
        """Begin to copy `batch`, filled up to `size` rows with copies of its last one. It may be changed after this."""
        missing = size - len(batch)
        if self._uploads is None:
            return Upload(
                torch.tensor(np.concatenate([batch, np.repeat(batch[-1:], missing, axis=0)]) if missing else batch), None
            )
        # torch keeps pinned memory, and gives it away again once the copy is over.
        pinned = torch.empty((size, *batch.shape[1:]), dtype=torch.uint8, pin_memory=True)
        pinned[: len(batch)] = torch.from_numpy(batch)  # by several threads: NumPy copies with one, slower than a GPU computes
        pinned[len(batch) :] = pinned[len(batch) - 1]
        with torch.cuda.stream(self._uploads):
            moved, arrived = pinned.to(self._device, non_blocking=True), torch.cuda.Event()  # type: ignore[no-untyped-call]
            arrived.record(self._uploads)
        return Upload(moved, arrived)

    def take(self, upload: Upload) -> torch.Tensor:
        """The batch on the device, for what is computed next."""
        if upload.arrived is not None:
            computing = torch.cuda.current_stream(self._device)
            computing.wait_event(upload.arrived)
            upload.batch.record_stream(computing)  # or its memory would be given to the next upload too early
        return upload.batch

    def fetch(self, *results: torch.Tensor) -> Answers:
        """Begin to copy what was computed last back to this process's memory."""
        if self._uploads is None:
            return Answers(results, None)
        answers = []
        for result in results:
            pinned = torch.empty(result.shape, dtype=result.dtype, pin_memory=True)
            answers.append(pinned.copy_(result, non_blocking=True))
        done = torch.cuda.Event()  # type: ignore[no-untyped-call]
        done.record(torch.cuda.current_stream(self._device))
        return Answers(tuple(answers), done)
