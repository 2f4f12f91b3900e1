"""Files for Kubernetes with KubeRay: a CronJob that submits a RayJob, or KubeRay's own RayCronJob, which is alpha.

A RayJob starts a Ray cluster of its own, runs the job in it, and takes the cluster down.
"""

from __future__ import annotations

import hashlib
import re

import yaml

from indexer.errors import ConfigError
from indexer.jobfile import read_job_file
from indexer.schedule.command import Command
from indexer.schedule.rayjob import Values, claims, confined, ray_job, unprivileged
from indexer.schedule.times import portable

KUBECTL_IMAGE = "alpine/k8s:1.34.1"
"""Any image with kubectl and a shell."""
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
    submitted = {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {"generateName": f"{name}-"},
        "spec": ray_job(command.job, name, image, secret=bool(_variables(command))),
    }
    account = f"{name}-submit"
    pod = {
        "serviceAccountName": account,
        "restartPolicy": "Never",
        "securityContext": unprivileged(),
        "containers": [
            {
                "name": "submit",
                "image": KUBECTL_IMAGE,
                "command": ["/bin/sh", "-c", _SUBMIT],
                "volumeMounts": [{"name": "rayjob", "mountPath": "/rayjob", "readOnly": True}],
                "securityContext": confined(),
                "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
            }
        ],
        "volumes": [{"name": "rayjob", "configMap": {"name": f"{name}-rayjob"}}],
    }
    documents = [
        _config_map(name, f"{command.job.name}.yaml", _job_text(command)),
        _config_map(f"{name}-rayjob", "rayjob.yaml", _dumped(submitted)),
        _cache(name),
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
        f"# At once: kubectl create job --from=cronjob/{name} {name}-first\n"
    )
    return {f"indexer-{command.job.name}.yaml": head + _advice(command) + "---\n".join(map(_dumped, documents))}


def ray_cron_job(command: Command, cron: str, zone: str, image: str) -> dict[str, str]:
    """File name -> text: the same with KubeRay's RayCronJob."""
    name = _name(command)
    documents = [
        _config_map(name, f"{command.job.name}.yaml", _job_text(command)),
        _cache(name),
        {
            "apiVersion": "ray.io/v1",
            "kind": "RayCronJob",
            "metadata": {"name": name},
            "spec": {
                "schedule": portable(cron),
                "timeZone": zone,
                "jobTemplate": ray_job(command.job, name, image, secret=bool(_variables(command))),
            },
        },
    ]
    head = (
        "# ALPHA: RayCronJob needs KubeRay 1.6 or newer, with its feature gate RayCronJob switched on, and may still change.\n"
        "# It has no concurrencyPolicy: a run that finds another one at work ends at once with exit code 11.\n"
        "# `--as kubernetes` does the same with what is stable.\n"
    )
    return {f"indexer-{command.job.name}.yaml": head + _advice(command) + "---\n".join(map(_dumped, documents))}


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
    job, name = command.job, _name(command)
    lines = [
        f"# A claim {claim} must be there, ReadWriteMany: it is mounted as {folder} in all pods. Or use s3://."
        for folder, claim in claims(job, name).items()
    ]
    if job.output.catalog.startswith("sqlite"):
        lines.append("# An SQLite catalog needs a disk of one machine, and pods move: use a PostgreSQL database.")
    if job.ray.gpus_per_actor == "auto":
        lines.append("# For nodes with GPUs write gpus_per_actor: 1 below ray:, and take the image with CUDA.")
    if variables := _variables(command):
        lines.append("# What the job reads of the environment must be there as a secret:")
        lines.append(f"# kubectl create secret generic {name} {' '.join(f'--from-literal={each}=...' for each in variables)}")
    return "".join(f"{line}\n" for line in lines)


def _variables(command: Command) -> list[str]:
    """RAY_ADDRESS is set by KubeRay, and folders of this machine mean nothing there."""
    return [
        each for each in command.variables if each not in ("RAY_ADDRESS", "TORCH_HOME", "XDG_CACHE_HOME", "INDEXER_SCRATCH")
    ]


def _cache(name: str) -> Values:
    """For the weights, which the driver fetches once and sends to the workers."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": f"{name}-cache"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "10Gi"}}},
    }


def _config_map(name: str, file: str, text: str) -> Values:
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


def _dumped(document: Values) -> str:
    return yaml.dump(document, Dumper=_Block, sort_keys=False, width=120)
