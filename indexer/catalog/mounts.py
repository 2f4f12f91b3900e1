"""Whether a folder lies on a network file system."""

from __future__ import annotations

import re
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")
"""What the kernel says is mounted where. Not every system has it; there no folder counts as one of the network."""

_OF_THE_NETWORK = re.compile(
    r"nfs4?|cifs|smb3|smbfs|afs|ceph|lustre|gpfs|beegfs|glusterfs"
    r"|fuse\.(sshfs|glusterfs|ceph-fuse|beegfs|s3fs|mount-s3|mountpoint-s3|goofys|gcsfuse|blobfuse2?|rclone|juicefs)"
)


def network_filesystem(folder: Path) -> str | None:
    """The name of its file system, such as nfs4, if it is one that several machines may have mounted."""
    try:
        lines = MOUNTS.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return None
    path = folder.resolve()
    kinds = {}
    for line in lines:
        before, _, after = line.partition(" - ")
        place = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), before.split()[4])  # \040 is a space
        kinds[Path(place)] = after.split()[0]  # the last of several in one place hides the others
    kind = next((kinds[place] for place in (path, *path.parents) if place in kinds), "")
    return kind if _OF_THE_NETWORK.fullmatch(kind) else None
