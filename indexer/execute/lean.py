"""A Ray of our own without the helpers that one run has no use for.

`ray.init` always starts an autoscaler, a reader of all logs, the server of a dashboard and, for every machine, two agents: one
for the dashboard and one that installs what runtime environments ask for. It waits for most of them at the start, and at the
end a second for the autoscaler, which does not hear that it shall stop. Without them a run has five processes less and ends
seconds sooner (docs/decisions, 36 and 44).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

KNOWN_VERSION = "2.60."
"""Of Ray, whose inner parts are named here. Any other one starts as it always does."""

_RUNTIME_ENVIRONMENT = ("RAY_JOB_CONFIG_JSON_ENV_VAR", "RAY_RUNTIME_ENV_HOOK", "RAY_ENABLE_UV_RUN_RUNTIME_ENV")
"""Variables by which others give the workers a runtime environment, which one of the agents installs."""
_AGENTS = ("--dashboard_agent_command=", "--runtime_env_agent_command=")
_PORTS = ("METRICS_AGENT", "METRICS_EXPORT", "DASHBOARD_AGENT_LISTEN", "RUNTIME_ENV_AGENT")
_NOT_IN_USE = -1
_STAND_IN = "cat"
"""The raylet insists on two agents, and gives each a pipe to read from: `cat` waits there for as long as the raylet lives."""


@contextmanager
def without_helpers(ray: Any) -> Iterator[None]:
    """What the module `ray` starts within has none of them."""
    if not ray.__version__.startswith(KNOWN_VERSION):
        yield
        return
    parameter, services = ray._private.parameter, ray._private.services
    params, start_api_server, start_ray_process = parameter.RayParams, services.start_api_server, services.start_ray_process

    def start(command: list[str], process_type: str, *arguments: Any, **options: Any) -> Any:
        if process_type == "raylet":
            command = _without_agents(ray, command)
        return start_ray_process(command, process_type, *arguments, **options)

    parameter.RayParams = partial(params, no_monitor=True, include_log_monitor=False)
    services.start_api_server = lambda *_, **__: (None, None)  # its address and process, as when it could not be started
    if all(os.environ.get(name, "0") == "0" for name in _RUNTIME_ENVIRONMENT):
        services.start_ray_process = start
    try:
        yield
    finally:
        parameter.RayParams = params
        services.start_api_server, services.start_ray_process = start_api_server, start_ray_process


def _without_agents(ray: Any, command: list[str]) -> list[str]:
    """The command of a raylet, which is told on the agents' behalf that their services are not in use."""
    told = dict(word.split("=", 1) for word in command if "=" in word)
    for name in _PORTS:
        port_name = getattr(ray._raylet, f"{name}_PORT_NAME")
        ray._raylet.persist_port(told["--session_dir"], told["--node_id"], port_name, _NOT_IN_USE)
    return [next((f"{agent}{_STAND_IN}" for agent in _AGENTS if word.startswith(agent)), word) for word in command]
