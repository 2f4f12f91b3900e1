"""A run on a Ray cluster of its own, as KubeRay's RayJob: the pods, what they mount, and what they may do."""

from __future__ import annotations

import math
from importlib.metadata import version
from typing import Any

from indexer.config import Job

FOLDER = "/etc/indexer"
"""Where the job file lies in a pod."""
USER = 10001
"""Of the image, by its number."""
_CACHE = "/cache"
_STORE_BYTES = 3_000_000_000
_CPU_WORKERS = 2
# KubeRay's own checks call wget, which the image has not.
_WELL = {"exec": {"command": ["healthcheck.sh"]}, "periodSeconds": 30, "timeoutSeconds": 20}

Values = dict[str, Any]


def ray_job(job: Job, name: str, image: str, *, secret: bool) -> Values:
    """The spec of a RayJob. It refers to a ConfigMap `name`, and with `secret` to a Secret of that name."""
    head = _pod(job, name, "ray-head", image, {"cpu": "2", "memory": "8Gi"}, {"memory": "8Gi"}, secret=secret)
    head["spec"]["volumes"].append({"name": "cache", "persistentVolumeClaim": {"claimName": f"{name}-cache"}})
    head["spec"]["containers"][0]["volumeMounts"].append({"name": "cache", "mountPath": _CACHE})
    store = {"object-store-memory": str(_STORE_BYTES)}
    return {
        # 3: some videos failed, which `indexer failures` lists. That is no failed job.
        "entrypoint": f"sh -c 'indexer run {FOLDER}/{job.name}.yaml; code=$?; test $code -eq 3 || exit $code'",
        # Another cluster at once would not help: a job file stays wrong, another run stays at work. The next run goes on.
        "backoffLimit": 0,
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": 86_400,
        "submitterConfig": {"backoffLimit": 0},
        "rayClusterSpec": {
            "rayVersion": version("ray"),
            # The driver needs the head to itself.
            "headGroupSpec": {"rayStartParams": {"num-cpus": "0", **store}, "template": head},
            "workerGroupSpecs": [_workers(job, name, image, store, secret=secret)],
        },
    }


def claims(job: Job, name: str) -> dict[str, str]:
    """Folder -> the claim that brings it into the pods: of a source and an output that are not in S3."""
    places = {"source": job.source.uri, "index": job.output.uri}
    return {folder: f"{name}-{what}" for what, folder in places.items() if folder.startswith("/")}


def _workers(job: Job, name: str, image: str, store: Values, *, secret: bool) -> Values:
    """With GPUs if the job asks for a number of them, as many as its models need at most."""
    gpus = 0.0 if job.ray.gpus_per_actor == "auto" else job.ray.gpus_per_actor
    if gpus:
        each = math.ceil(gpus)
        count = math.ceil(job.ray.actors[1] / math.floor(each / gpus))
        requests, limits = {"cpu": "8", "memory": "32Gi"}, {"memory": "32Gi", "nvidia.com/gpu": str(each)}
    else:
        count = _CPU_WORKERS
        requests, limits = {"cpu": "4", "memory": "16Gi"}, {"memory": "16Gi"}
    template = _pod(job, name, "ray-worker", image, requests, limits, secret=secret)
    if gpus:
        template["spec"]["tolerations"] = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    return {
        "groupName": "gpu" if gpus else "workers",
        "replicas": count,
        "minReplicas": count,
        "maxReplicas": count,
        "rayStartParams": store,
        "template": template,
    }


def _pod(job: Job, name: str, part: str, image: str, requests: Values, limits: Values, *, secret: bool) -> Values:
    mounts: list[Values] = [
        {"name": "job", "mountPath": FOLDER, "readOnly": True},
        {"name": "shared-memory", "mountPath": "/dev/shm"},
    ]
    volumes: list[Values] = [
        {"name": "job", "configMap": {"name": name}},
        {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": "4Gi"}},
    ]
    for folder, claim in claims(job, name).items():
        what = claim.rpartition("-")[2]
        mounts.append({"name": what, "mountPath": folder, "readOnly": what == "source"})
        volumes.append({"name": what, "persistentVolumeClaim": {"claimName": claim}})
    container = {
        "name": part,
        "image": image,
        "env": [{"name": "INDEXER_HEALTH", "value": "ray"}],
        "resources": {"requests": requests, "limits": limits},
        "readinessProbe": _WELL | {"periodSeconds": 10, "failureThreshold": 10},
        "livenessProbe": _WELL | {"initialDelaySeconds": 60, "failureThreshold": 10},
        "volumeMounts": mounts,
        "securityContext": confined(),
    }
    if secret:
        container["envFrom"] = [{"secretRef": {"name": name}}]
    spec = {
        "automountServiceAccountToken": False,
        "securityContext": {**unprivileged(), "fsGroup": USER},
        "containers": [container],
        "volumes": volumes,
    }
    return {"spec": spec}


def unprivileged() -> Values:
    """What a pod may be."""
    return {"runAsNonRoot": True, "runAsUser": USER, "seccompProfile": {"type": "RuntimeDefault"}}


def confined() -> Values:
    """What a container may do."""
    return {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
