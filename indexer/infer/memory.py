"""What was found out about this machine and its packages, kept in small JSON files in the user's cache folder.

Losing one costs a moment; no result depends on it.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any


def recall(name: str) -> dict[str, Any]:
    """All that is known under `name`; nothing if there is no file, or an unreadable one."""
    try:
        entries = json.loads(_path(name).read_text())
    except (OSError, ValueError):
        return {}
    return entries if isinstance(entries, dict) else {}


def remember(name: str, key: str, value: Any) -> None:
    """Keep one thing beside the others. A folder that cannot be written to is no reason to stop."""
    entries = recall(name) | {key: value}
    path = _path(name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
            json.dump(entries, file, indent=1)
        os.replace(file.name, path)  # noqa: PTH105  two workers may write at once: the last one wins, whole
    except OSError:
        return


def _path(name: str) -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "indexer" / f"{name}.json"
