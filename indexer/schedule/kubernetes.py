"""Files for Kubernetes with KubeRay: a CronJob that submits a RayJob, or KubeRay's own RayCronJob, which is alpha.

A RayJob starts a Ray cluster of its own, runs the job in it, and takes the cluster down.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

import yaml

from indexer.errors import ConfigError
from indexer.jobfile import read_job_file
from indexer.schedule.command import Command
from indexer.schedule.times import portable

KUBECTL_IMAGE = "alpine/k8s:1.34.1"
"""Any image with kubectl and a shell."""
_FOLDER = "/etc/indexer"
_MOST_NAME = 32
"""Characters: KubeRay takes 47 for a RayJob, and makes longer names of it."""

# The pod lives as long as the RayJob, so that concurrencyPolicy: Forbid is about the run and not about its submission.
_SUBMIT = """\
name=$(kubectl create -f /rayjob/rayjob.yaml -o name) || exit 1
echo "submitted $name"
while sleep 30; do
  state=$(kubectl get "$name" --ignore-not-found -o 'jsonpath=state:{.status.jobDeploymentStatus}') || continue
  case "$state" in
    state:Complete) exit 0 ;;
    state:Failed | state:ValidationFailed) echo "$name has failed: kubectl describe $name" >&2; exit 1 ;;
    "") echo "$name was deleted" >&2; exit 1 ;;
  esac
done
"""


def cron_job(command: Command, cron: str, zone: str, image: str) -> dict[str, str]:
    """File name -> text: everything that a CronJob needs that submits a RayJob and waits for its end."""
    name = _name(command)
    ray_job = {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {"generateName": f"{name}-"},
        "spec": _ray_job(command, name, image),
    }
    account = f"{name}-submit"
    pod = {
        "serviceAccountName": account,
        "restartPolicy": "Never",
        "securityContext": {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [
            {
                "name": "submit",
                "image": KUBECTL_IMAGE,
                "command": ["/bin/sh", "-c", _SUBMIT],
                "volumeMounts": [{"name": "rayjob", "mountPath": "/rayjob", "readOnly": True}],
                "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
            }
        ],
        "volumes": [{"name": "rayjob", "configMap": {"name": f"{name}-rayjob"}}],
    }
    documents = [
        _config_map(name, f"{command.job.name}.yaml", _job_text(command)),
        _config_map(f"{name}-rayjob", "rayjob.yaml", _dumped(ray_job)),
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account}},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": {"name": account},
            "rules": [{"apiGroups": ["ray.io"], "resources": ["rayjobs"], "verbs": ["create", "get"]}],
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": account},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": account},
            "subjects": [{"kind": "ServiceAccount", "name": account}],
        },
        {
            "apiVersion": "batch/v1",
            "kind": "CronJob",
            "metadata": {"name": name},
            "spec": {
                "schedule": portable(cron),
                "timeZone": zone,
                "concurrencyPolicy": "Forbid",
                "startingDeadlineSeconds": 3600,
                "successfulJobsHistoryLimit": 3,
                "failedJobsHistoryLimit": 7,
                "jobTemplate": {"spec": {"backoffLimit": 0, "template": {"spec": pod}}},
            },
        },
    ]
    head = (
        f"# kubectl apply -f indexer-{command.job.name}.yaml     (KubeRay and its RayJob must be installed)\n"
        "# A run that is still at work when the next one is due is left alone: concurrencyPolicy is Forbid.\n"
    )
    return {f"indexer-{command.job.name}.yaml": head + _advice(command) + "---\n".join(map(_dumped, documents))}


def ray_cron_job(command: Command, cron: str, zone: str, image: str) -> dict[str, str]:
    """File name -> text: the same with KubeRay's RayCronJob."""
    name = _name(command)
    documents = [
        _config_map(name, f"{command.job.name}.yaml", _job_text(command)),
        {
            "apiVersion": "ray.io/v1",
            "kind": "RayCronJob",
            "metadata": {"name": name},
            "spec": {"schedule": portable(cron), "timeZone": zone, "jobTemplate": _ray_job(command, name, image)},
        },
    ]
    head = (
        "# ALPHA: RayCronJob needs KubeRay 1.6 or newer, with its feature gate RayCronJob switched on, and may still change.\n"
        "# It has no concurrencyPolicy: a run that finds another one at work ends at once with exit code 11.\n"
        "# `--as kubernetes` does the same with what is stable.\n"
    )
    return {f"indexer-{command.job.name}.yaml": head + _advice(command) + "---\n".join(map(_dumped, documents))}


def _ray_job(command: Command, name: str, image: str) -> dict[str, Any]:
    job = f"{_FOLDER}/{command.job.name}.yaml"
    variables = [variable for variable in command.variables if variable != "RAY_ADDRESS"]
    container = {
        "image": image,
        "resources": {"requests": {"cpu": "4", "memory": "16Gi"}, "limits": {"cpu": "4", "memory": "16Gi"}},
        "volumeMounts": [
            {"name": "job", "mountPath": _FOLDER, "readOnly": True},
            {"name": "shared-memory", "mountPath": "/dev/shm"},
        ],
    }
    if variables:
        container["envFrom"] = [{"secretRef": {"name": name}}]
    volumes = [
        {"name": "job", "configMap": {"name": name}},
        {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": "4Gi"}},
    ]

    def pod(part: str) -> dict[str, Any]:
        return {"spec": {"containers": [{"name": part, **container}], "volumes": volumes}}

    return {
        # 3: some videos failed, which `indexer failures` lists. As a failed RayJob, all of it would be tried again.
        "entrypoint": f"sh -c 'indexer run {job}; code=$?; test $code -eq 3 || exit $code'",
        "backoffLimit": 2,
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": 86_400,
        "submitterConfig": {"backoffLimit": 0},
        "rayClusterSpec": {
            "headGroupSpec": {"rayStartParams": {}, "template": pod("ray-head")},
            "workerGroupSpecs": [
                {
                    "groupName": "workers",
                    "replicas": 2,
                    "minReplicas": 2,
                    "maxReplicas": 2,
                    "rayStartParams": {},
                    "template": pod("ray-worker"),
                }
            ],
        },
    }


def _job_text(command: Command) -> str:
    """The job file as it is. ConfigError if it would start a Ray of its own in the cluster instead of using that."""
    path = command.job.path
    ray = read_job_file(path, {**dict.fromkeys(command.variables, "x"), "RAY_ADDRESS": "auto"}).values.get("ray")
    if not isinstance(ray, dict) or not ray.get("address"):
        raise ConfigError(
            f"{path}: ray.address: is not set, so a run would use one machine of the Kubernetes cluster; write"
            " address: ${RAY_ADDRESS:-} below ray:, which is empty here and set there"
        )
    return path.read_text(encoding="utf-8-sig")


def _advice(command: Command) -> str:
    job = command.job
    local = [uri for uri in (job.source.uri, job.output.uri) if uri.startswith("/")]
    lines = [f"# {uri} is a folder: mount it under this path in all pods, or use s3://." for uri in local]
    if job.output.catalog.startswith("sqlite"):
        lines.append("# An SQLite catalog needs a disk of one machine, and pods move: use a PostgreSQL database.")
    if variables := [variable for variable in command.variables if variable != "RAY_ADDRESS"]:
        lines.append(f"# A secret {_name(command)} with these keys must be there: {', '.join(variables)}.")
    return "".join(f"{line}\n" for line in lines)


def _config_map(name: str, file: str, text: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {file: text}}


def _name(command: Command) -> str:
    """The job's name as Kubernetes takes one."""
    name = f"indexer-{re.sub('[^a-z0-9]+', '-', command.job.name.lower())}".strip("-")
    if len(name) > _MOST_NAME:  # two jobs may begin alike
        digest = hashlib.sha256(command.job.name.encode()).hexdigest()
        name = f"{name[: _MOST_NAME - 7].strip('-')}-{digest[:6]}"
    return name


class _Block(yaml.SafeDumper):
    """Several lines as several lines."""


_Block.add_representer(
    str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)
)
_Block.ignore_aliases = lambda self, data: True  # type: ignore[method-assign]


def _dumped(document: dict[str, Any]) -> str:
    return yaml.dump(document, Dumper=_Block, sort_keys=False, width=120)
