"""This machine: Python, the packages, the decoders, the GPU, Ray, and room for copies."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from indexer.config import Job
from indexer.doctor.findings import Finding, failed, ok, warning
from indexer.doctor.ports import open_ports
from indexer.execute.contact import check_reachable

INSTALL = "Install the program again: pip install --upgrade . in its folder."
LEAST_FREE_BYTES = 5 << 30
RAY_PORTS = {6379: "Ray", 8265: "Ray's dashboard", 10001: "Ray's client server"}


def python(_: Job | None) -> Finding:
    return ok(f"Python {platform.python_version()} at {sys.executable}, on {platform.system()} {platform.machine()}")


def packages(_: Job | None) -> Finding:
    """Whether what is installed is what we, and torchvision, ask for: pip lets other packages change it."""
    wrong = []
    for program in ("indexer", "torchvision"):
        try:
            wanted = metadata.requires(program) or []
        except metadata.PackageNotFoundError:
            wrong.append(f"{program} is not installed")
            continue
        for requirement in map(Requirement, wanted):
            if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
                continue
            try:
                found = metadata.version(requirement.name)
            except metadata.PackageNotFoundError:
                wrong.append(f"{requirement.name} is missing")
                continue
            if not requirement.specifier.contains(found, prereleases=True):
                wrong.append(f"{requirement.name} is {found}, and {program} needs {requirement.specifier}")
    if wrong:
        return failed("; ".join(wrong), INSTALL)
    versions = (f"{name} {metadata.version(name)}" for name in ("indexer", "torch", "torchvision", "ray", "av", "pyarrow"))
    return ok(", ".join(versions))


def decoders(job: Job | None) -> Finding:
    """av is what most jobs use; a decord that does not load matters only where a job asks for it."""
    from indexer.decode.readers.versions import reader_versions

    if {"decord", "decord2"} <= {distribution.name for distribution in metadata.distributions()}:
        return failed(
            "decord and decord2 are both installed, and overwrite each other", "pip uninstall decord decord2; " + INSTALL
        )
    if job is not None and job.decode.backend == "nvdec":
        from indexer.decode.readers.nvdec import why_unusable

        if reason := why_unusable("cuda"):
            fix = "Install torchcodec and FFmpeg's libraries on a machine with an NVIDIA GPU, or set decode.backend to auto."
            return warning(f"decode.backend is nvdec, but {reason}: pyav reads every file", fix)
    found = reader_versions()
    broken = {name: version for name, version in found.items() if isinstance(version, Exception)}
    said = ", ".join(f"{name} {version}" for name, version in found.items() if name not in broken)
    if not broken:
        return ok(said)
    trouble = "; ".join(f"{name} cannot be loaded: {error}" for name, error in broken.items())
    if "av" in broken or (job is not None and job.decode.backend in broken):
        return failed(trouble, INSTALL)
    return warning(f"{said}; {trouble}", "Leave decode.backend at auto, or: " + INSTALL)


def gpu(job: Job | None) -> Finding:
    from indexer.infer.devices import bf16_is_slow, find_gpus

    found = find_gpus()
    if found.names:
        return ok(f"{', '.join(found.names)}; driver {found.driver}, torch for CUDA {found.built_for}")
    if job is not None and job.ray.address is None and job.ray.gpus_per_actor not in ("auto", 0):
        fix = "Set ray.gpus_per_actor to auto or 0, or repair the driver (nvidia-smi)."
        return failed("the job asks for a GPU, and torch sees none here", fix, exit_code=2)
    if found.driver is not None:
        why = "is built without CUDA" if found.built_for is None else f"for CUDA {found.built_for} cannot use its driver"
        return warning(
            f"there is an NVIDIA GPU, but this torch {why}",
            "Look at nvidia-smi; update the driver, or install a fitting torch.",
        )
    return ok(f"no GPU: models run on the CPU{', in fp32, as this one is slow with bf16' if bf16_is_slow() else ''}")


def ray(job: Job | None) -> Finding:
    """The cluster of the job, if it names one; and whether a Ray of this machine lets strangers in."""
    said = f"Ray {metadata.version('ray')}"
    address = None if job is None else job.ray.address
    if address is not None:
        if address == "auto" and not Path(tempfile.gettempdir(), "ray", "ray_current_cluster").exists():
            return failed("ray.address is auto, and no Ray runs on this machine", "Start one: ray start --head.")
        check_reachable(address)
        said += f"; {address} answers" if address != "auto" else "; one runs on this machine"
    else:
        said += "; a run starts its own, on loopback"
    heard = open_ports(RAY_PORTS)
    unguarded = sorted(port for port, environment in heard.items() if environment.get("RAY_AUTH_MODE") != "token")
    if unguarded:
        names = ", ".join(f"{RAY_PORTS[port]} ({port})" for port in unguarded)
        return warning(
            f"{said}; open to the whole network: {names}. Without a token, whoever reaches it may run anything",
            "Use token authentication (RAY_AUTH_MODE=token on every machine), or close the ports to others.",
        )
    return ok(said)


def scratch(_: Job | None) -> Finding:
    from indexer.storage.scratch import scratch_file

    with scratch_file(1, wait_seconds=1) as path:
        return _room(path.parent, "INDEXER_SCRATCH")


def cache(_: Job | None) -> Finding:
    """Where weights and embeddings are kept."""
    return _room(Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser(), "XDG_CACHE_HOME")


def _room(folder: Path, variable: str) -> Finding:
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not os.access(there, os.W_OK):
        return failed(f"{there} is not writable", f"Set {variable} to a folder that is.", exit_code=14)
    free = shutil.disk_usage(there).free
    said = f"{folder}: {free / 1e9:,.1f} GB free"
    return ok(said) if free >= LEAST_FREE_BYTES else warning(said, f"Free some space, or set {variable} to a larger disk.")
