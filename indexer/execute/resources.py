"""What a machine or cluster has, and what each worker gets of it. Knows nothing of Ray."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from indexer.config import Job
from indexer.errors import ConfigError

DECODE_MEMORY_SHARE = 0.8
DECODE_MEMORY_BYTES = (1 << 30, 4 << 30)
"""Of a machine's memory, all its decoders together may take this share, each one within these bounds."""
NVDEC_MODEL_GPUS = 0.8
"""What `auto` gives a model where decoders use the GPU, too. Shares only count who may use it; they set no limit."""
_GPU_PARTS = 10_000
"""Ray counts a GPU in so many parts."""

Node = Mapping[str, float]
"""What one machine gives: CPU and GPU are numbers, memory and object_store_memory bytes; what it does not have is left out."""


def decoding_nodes(nodes: Sequence[Node]) -> Sequence[Node]:
    """Those that have CPUs; all, if none has: one that decodes may still come."""
    return [node for node in nodes if node.get("CPU", 0) > 0] or nodes


def decode_slots(job: Job, nodes: Sequence[Node]) -> int:
    return job.ray.decode_cpus or max(1, sum(_cpus(node) for node in decoding_nodes(nodes)))


def store_bytes(job: Job, nodes: Sequence[Node]) -> int:
    """Of the object stores in which clips lie, as if each had no more for each CPU than the poorest: clips lie where they are
    decoded, and a store that is full helps nobody with the room of others."""
    decoding = decoding_nodes(nodes)
    share = min(node.get("object_store_memory", job.ray.object_store) / _cpus(node) for node in decoding)
    return int(share * sum(_cpus(node) for node in decoding))


def decode_memory(nodes: Sequence[Node], decoders: int) -> int:
    """Bytes that each of `decoders` may take, wherever it runs."""
    least, most = DECODE_MEMORY_BYTES
    share = min(DECODE_MEMORY_SHARE * node.get("memory", 0.0) / min(decoders, _cpus(node)) for node in decoding_nodes(nodes))
    return int(max(least, min(most, share)))


def gpus_per_actor(job: Job, nodes: Sequence[Node]) -> tuple[float, int]:
    """GPUs for one model, and how many models there may be. Raises ConfigError for more than the machines have room for."""
    fewest, most = job.ray.actors
    wanted = job.ray.gpus_per_actor
    on_each = [node.get("GPU", 0.0) for node in nodes]
    whole = NVDEC_MODEL_GPUS if job.decode.backend == "nvdec" else 1.0
    gpus = (whole if any(on_each) else 0.0) if wanted == "auto" else float(wanted)
    if gpus == 0:
        return gpus, most
    # A part of a GPU is one part of one GPU: two of them have room for two models with 0.6 each, not for three.
    places = sum(int(there / gpus) if gpus >= 1 else int(there) * int(1 / gpus) for there in on_each)
    if places < fewest:
        needed = f"{gpus:g} GPUs for one model" if fewest == 1 else f"{fewest} models with {gpus:g} GPUs each"
        apart = f" on {len(nodes)} machines, {max(on_each):g} on one at most" if sum(on_each) and len(nodes) > 1 else ""
        raise ConfigError(f"ray.gpus_per_actor: {needed}, but Ray sees {sum(on_each):g}{apart}; use fewer, auto or 0")
    return gpus, min(most, places)


def gpus_per_decoder(job: Job, nodes: Sequence[Node], models_gpus: float, decoders: int) -> float:
    """GPUs for one decode task: its part of what all models together leave. Raises ConfigError if that is nothing."""
    available = sum(node.get("GPU", 0.0) for node in nodes)
    if job.decode.backend != "nvdec" or not available:
        return 0.0
    share = int((available - models_gpus) / decoders * _GPU_PARTS) / _GPU_PARTS
    if share <= 0:
        raise ConfigError(
            f"decode.backend: nvdec needs a GPU, and the models take all {available:g} that Ray sees; "
            "set ray.gpus_per_actor to auto or lower, or decode.backend to auto"
        )
    return min(share, 1.0)


def _cpus(node: Node) -> int:
    return max(1, int(node.get("CPU", 0)))
