"""A Ray of our own without the helpers that one run has no use for.

`ray.init` always starts an autoscaler, a reader of all logs and the server of a dashboard, also where no dashboard is
wanted. It waits for the server at the start, and at the end a second for the autoscaler, which does not hear that it shall
stop. Without them a run is two to three seconds shorter, and has three processes less (docs/decisions, 36).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

KNOWN_VERSION = "2.60."
"""Of Ray, whose inner parts are named here. Any other one starts as it always does."""


@contextmanager
def without_helpers(ray: Any) -> Iterator[None]:
    """What the module `ray` starts within has none of them."""
    if not ray.__version__.startswith(KNOWN_VERSION):
        yield
        return
    parameter, services = ray._private.parameter, ray._private.services
    params, start_api_server = parameter.RayParams, services.start_api_server
    parameter.RayParams = partial(params, no_monitor=True, include_log_monitor=False)
    services.start_api_server = lambda *_, **__: (None, None)  # its address and process, as when it could not be started
    try:
        yield
    finally:
        parameter.RayParams, services.start_api_server = params, start_api_server
