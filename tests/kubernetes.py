"""The published fields of what our Kubernetes files contain, as far as they go into it.

Typed off by hand, and newer versions have more: ray.io/v1 from docs/reference/api.md of github.com/ray-project/kuberay, since
RayCronJob is in it (1.6), all else from the API reference of Kubernetes 1.34 (kubernetes.io/docs/reference). `field:Type`
is looked into further, also if it is a list of them; `field:int` and its like are the plain types below.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any


def is_map(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for pair in value.items() for text in pair)


PLAIN: dict[str, Callable[[Any], bool]] = {
    "text": lambda value: isinstance(value, str),
    "int": lambda value: type(value) is int,
    "bool": lambda value: isinstance(value, bool),
    "texts": lambda value: isinstance(value, list) and all(isinstance(item, str) for item in value),
    "map": is_map,
    "metadata": lambda value: is_map(value) and set(value) <= {"name", "generateName"},
}
"""Quantities, such as 8Gi, are texts here: a number would be allowed, too."""

FIELDS = {
    "RayJob": "apiVersion:text kind:text metadata:metadata spec:RayJobSpec",
    "RayJobSpec": """
        activeDeadlineSeconds backoffLimit:int clusterSelector deletionStrategy entrypoint:text entrypointNumCpus
        entrypointNumGpus entrypointResources jobId managedBy metadata:metadata preRunningDeadlineSeconds
        rayClusterSpec:RayClusterSpec runtimeEnvYAML shutdownAfterJobFinishes:bool submissionMode
        submitterConfig:SubmitterConfig submitterPodTemplate:PodTemplate suspend ttlSecondsAfterFinished:int
    """,
    "SubmitterConfig": "backoffLimit:int",
    "RayClusterSpec": """
        autoscalerOptions enableInTreeAutoscaling gcsFaultToleranceOptions headGroupSpec:HeadGroup headServiceAnnotations
        managedBy rayVersion:text suspend workerGroupSpecs:WorkerGroup
    """,
    "HeadGroup": "enableIngress headService rayStartParams:map serviceType template:PodTemplate",
    "WorkerGroup": """
        groupName:text idleTimeoutSeconds maxReplicas:int minReplicas:int numOfHosts rayStartParams:map replicas:int
        scaleStrategy suspend template:PodTemplate
    """,
    "RayCronJob": "apiVersion:text kind:text metadata:metadata spec:RayCronJobSpec",
    "RayCronJobSpec": "jobTemplate:RayJobSpec schedule:text suspend timeZone",
    "CronJob": "apiVersion:text kind:text metadata:metadata spec:CronJobSpec",
    "CronJobSpec": """
        concurrencyPolicy:text failedJobsHistoryLimit:int jobTemplate:JobTemplate schedule:text startingDeadlineSeconds:int
        successfulJobsHistoryLimit:int suspend timeZone:text
    """,
    "JobTemplate": "metadata:metadata spec:JobSpec",
    "JobSpec": """
        activeDeadlineSeconds backoffLimit:int backoffLimitPerIndex completionMode completions managedBy manualSelector
        maxFailedIndexes parallelism podFailurePolicy podReplacementPolicy selector successPolicy suspend
        template:PodTemplate ttlSecondsAfterFinished:int
    """,
    "PodTemplate": "metadata:metadata spec:PodSpec",
    "PodSpec": """
        activeDeadlineSeconds affinity automountServiceAccountToken:bool containers:Container dnsConfig dnsPolicy
        enableServiceLinks ephemeralContainers hostAliases hostIPC hostNetwork hostPID hostUsers hostname hostnameOverride
        imagePullSecrets initContainers:Container nodeName nodeSelector os overhead preemptionPolicy priority
        priorityClassName readinessGates resourceClaims resources restartPolicy:text runtimeClassName schedulerName
        schedulingGates securityContext:PodSecurityContext serviceAccount serviceAccountName:text setHostnameAsFQDN
        shareProcessNamespace subdomain terminationGracePeriodSeconds tolerations:Toleration topologySpreadConstraints
        volumes:Volume
    """,
    "PodSecurityContext": """
        appArmorProfile fsGroup:int fsGroupChangePolicy runAsGroup runAsNonRoot:bool runAsUser:int seLinuxChangePolicy
        seLinuxOptions seccompProfile:SeccompProfile supplementalGroups supplementalGroupsPolicy sysctls windowsOptions
    """,
    "Toleration": "effect:text key:text operator:text tolerationSeconds value",
    "Container": """
        args command:texts env:EnvVar envFrom:EnvFrom image:text imagePullPolicy lifecycle livenessProbe:Probe name ports
        readinessProbe:Probe resizePolicy resources:Resources restartPolicy:text restartPolicyRules
        securityContext:ContainerSecurityContext startupProbe stdin stdinOnce terminationMessagePath
        terminationMessagePolicy tty volumeDevices volumeMounts:VolumeMount workingDir
    """,
    "ContainerSecurityContext": """
        allowPrivilegeEscalation:bool appArmorProfile capabilities:Capabilities privileged procMount readOnlyRootFilesystem
        runAsGroup runAsNonRoot:bool runAsUser:int seLinuxOptions seccompProfile:SeccompProfile windowsOptions
    """,
    "EnvFrom": "configMapRef:Reference prefix secretRef:Reference",
    "Resources": "claims limits:map requests",
    "VolumeMount": "mountPath:text mountPropagation name readOnly:bool recursiveReadOnly subPath subPathExpr",
    "Volume": """
        configMap:ConfigMapVolume csi downwardAPI emptyDir:EmptyDir ephemeral hostPath image:text iscsi name nfs
        persistentVolumeClaim:ClaimVolume projected secret
    """,
    "ConfigMapVolume": "defaultMode items name optional",
    "EmptyDir": "medium:text sizeLimit",
    "ClaimVolume": "claimName:text readOnly",
    "ServiceAccount": "apiVersion:text automountServiceAccountToken:bool imagePullSecrets kind:text metadata:metadata secrets",
    "Secret": "apiVersion:text data:map immutable kind:text metadata:metadata stringData:map type",
    "ConfigMap": "apiVersion:text binaryData data:map immutable kind:text metadata:metadata",
    "PersistentVolumeClaim": "apiVersion:text kind:text metadata:metadata spec:ClaimSpec",
    "ClaimSpec": """
        accessModes:texts dataSource dataSourceRef resources:Resources selector storageClassName volumeAttributesClassName
        volumeMode volumeName
    """,
    "Role": "apiVersion:text kind:text metadata:metadata rules:Rule",
    "Rule": "apiGroups:texts nonResourceURLs resourceNames resources verbs",
    "RoleBinding": "apiVersion:text kind:text metadata:metadata roleRef:RoleRef subjects:Subject",
    "RoleRef": "apiGroup:text kind:text name",
    "Subject": "apiGroup:text kind:text name namespace",
    "Probe": """
        exec:Exec failureThreshold:int grpc httpGet initialDelaySeconds:int periodSeconds:int successThreshold:int tcpSocket
        terminationGracePeriodSeconds:int timeoutSeconds:int
    """,
    "Exec": "command:texts",
    "EnvVar": "name:text value:text valueFrom",
    "Capabilities": "add:texts drop:texts",
    "SeccompProfile": "localhostProfile:text type:text",
    "Reference": "name:text optional:bool",
}


def mistakes(document: dict[str, Any]) -> list[str]:
    """Where `document`, of a kind that is listed, has a field that nobody has published, or a value of another type."""
    return list(_mistakes(document, document["kind"], document["kind"]))


def _mistakes(value: Any, type_name: str, place: str) -> Iterator[str]:
    if plain := PLAIN.get(type_name):
        if not plain(value):
            yield f"{place} is not {type_name}"
        return
    if isinstance(value, list):
        for item in value:
            yield from _mistakes(item, type_name, place)
        return
    if not isinstance(value, dict):
        yield f"{place} is not {type_name}"
        return
    known = dict(field.partition(":")[::2] for field in FIELDS[type_name].split())
    for name, inner in value.items():
        if name not in known:
            yield f"{place}.{name} is unknown"
        elif known[name]:
            yield from _mistakes(inner, known[name], f"{place}.{name}")
