"""The published fields of what our Kubernetes files contain, of ray.io/v1 and of Kubernetes, as far as they go into it.

`field:Type` is looked into further, also if it is a list of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

FIELDS = {
    "RayJob": "apiVersion kind metadata spec:RayJobSpec",
    "RayJobSpec": """
        activeDeadlineSeconds backoffLimit clusterSelector deletionStrategy entrypoint entrypointNumCpus entrypointNumGpus
        entrypointResources jobId managedBy metadata preRunningDeadlineSeconds rayClusterSpec:RayClusterSpec runtimeEnvYAML
        shutdownAfterJobFinishes submissionMode submitterConfig:SubmitterConfig submitterPodTemplate:PodTemplate suspend
        ttlSecondsAfterFinished
    """,
    "SubmitterConfig": "backoffLimit",
    "RayClusterSpec": """
        autoscalerOptions enableInTreeAutoscaling gcsFaultToleranceOptions headGroupSpec:HeadGroup
        headServiceAnnotations managedBy rayVersion suspend workerGroupSpecs:WorkerGroup
    """,
    "HeadGroup": "enableIngress headService rayStartParams serviceType template:PodTemplate",
    "WorkerGroup": """
        groupName idleTimeoutSeconds maxReplicas minReplicas numOfHosts rayStartParams replicas scaleStrategy suspend
        template:PodTemplate
    """,
    "RayCronJob": "apiVersion kind metadata spec:RayCronJobSpec",
    "RayCronJobSpec": "jobTemplate:RayJobSpec schedule suspend timeZone",
    "CronJob": "apiVersion kind metadata spec:CronJobSpec",
    "CronJobSpec": """
        concurrencyPolicy failedJobsHistoryLimit jobTemplate:JobTemplate schedule startingDeadlineSeconds
        successfulJobsHistoryLimit suspend timeZone
    """,
    "JobTemplate": "metadata spec:JobSpec",
    "JobSpec": """
        activeDeadlineSeconds backoffLimit backoffLimitPerIndex completionMode completions managedBy manualSelector
        maxFailedIndexes parallelism podFailurePolicy podReplacementPolicy selector successPolicy suspend template:PodTemplate
        ttlSecondsAfterFinished
    """,
    "PodTemplate": "metadata spec:PodSpec",
    "PodSpec": """
        activeDeadlineSeconds affinity automountServiceAccountToken containers:Container dnsConfig dnsPolicy enableServiceLinks
        ephemeralContainers hostAliases hostIPC hostNetwork hostPID hostUsers hostname hostnameOverride imagePullSecrets
        initContainers:Container nodeName nodeSelector os overhead preemptionPolicy priority priorityClassName readinessGates
        resourceClaims resources restartPolicy runtimeClassName schedulerName schedulingGates
        securityContext:PodSecurityContext serviceAccount serviceAccountName setHostnameAsFQDN shareProcessNamespace subdomain
        terminationGracePeriodSeconds tolerations:Toleration topologySpreadConstraints volumes:Volume
    """,
    "PodSecurityContext": """
        appArmorProfile fsGroup fsGroupChangePolicy runAsGroup runAsNonRoot runAsUser seLinuxChangePolicy seLinuxOptions
        seccompProfile supplementalGroups supplementalGroupsPolicy sysctls windowsOptions
    """,
    "Toleration": "effect key operator tolerationSeconds value",
    "Container": """
        args command env envFrom:EnvFrom image imagePullPolicy lifecycle livenessProbe name ports readinessProbe resizePolicy
        resources:Resources restartPolicy restartPolicyRules securityContext:ContainerSecurityContext startupProbe stdin
        stdinOnce terminationMessagePath terminationMessagePolicy tty volumeDevices volumeMounts:VolumeMount workingDir
    """,
    "ContainerSecurityContext": """
        allowPrivilegeEscalation appArmorProfile capabilities privileged procMount readOnlyRootFilesystem runAsGroup
        runAsNonRoot runAsUser seLinuxOptions seccompProfile windowsOptions
    """,
    "EnvFrom": "configMapRef prefix secretRef",
    "Resources": "claims limits requests",
    "VolumeMount": "mountPath mountPropagation name readOnly recursiveReadOnly subPath subPathExpr",
    "Volume": """
        configMap:ConfigMapVolume csi downwardAPI emptyDir:EmptyDir ephemeral hostPath image iscsi name nfs
        persistentVolumeClaim:ClaimVolume projected secret
    """,
    "ConfigMapVolume": "defaultMode items name optional",
    "EmptyDir": "medium sizeLimit",
    "ClaimVolume": "claimName readOnly",
    "ServiceAccount": "apiVersion automountServiceAccountToken imagePullSecrets kind metadata secrets",
    "Secret": "apiVersion data immutable kind metadata stringData type",
    "ConfigMap": "apiVersion binaryData data immutable kind metadata",
    "PersistentVolumeClaim": "apiVersion kind metadata spec:ClaimSpec",
    "ClaimSpec": """
        accessModes dataSource dataSourceRef resources:Resources selector storageClassName volumeAttributesClassName volumeMode
        volumeName
    """,
    "Role": "apiVersion kind metadata rules:Rule",
    "Rule": "apiGroups nonResourceURLs resourceNames resources verbs",
    "RoleBinding": "apiVersion kind metadata roleRef:RoleRef subjects:Subject",
    "RoleRef": "apiGroup kind name",
    "Subject": "apiGroup kind name namespace",
}


def unknown_fields(document: dict[str, Any]) -> list[str]:
    """Where `document`, of a kind that is listed, has a field that nobody has published."""
    return list(_unknown(document, document["kind"], document["kind"]))


def _unknown(value: Any, type_name: str, place: str) -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            yield from _unknown(item, type_name, place)
        return
    known = dict(field.partition(":")[::2] for field in FIELDS[type_name].split())
    for name, inner in value.items():
        if name not in known:
            yield f"{place}.{name}"
        elif known[name]:
            yield from _unknown(inner, known[name], f"{place}.{name}")
