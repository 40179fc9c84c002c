"""How much memory a program may still take: the machine's, or less where a container sets a limit.

Linux keeps the limits of a container ("control group") in files; their names changed from version 1 to version 2. A
program that counts only the machine's memory is killed in a container of two gigabytes on a machine of sixty-four.

References: the Linux kernel's "Control Group v2" and "Memory Resource Controller".
"""

import re
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import psutil  # comes with jupyterlab

__all__: list[str] = []  # a tool of loading; nothing here is part of the course's vocabulary


class Limit(NamedTuple):
    """Where a group's limit stands, what is used of it, and how much of that is files that can be read again."""

    folders: tuple[str, ...]  # where the groups lie; each folder in them is a group inside the group
    most: str
    used: str
    again: str


LIMITS = (
    Limit(("", "unified"), "memory.max", "memory.current", "inactive_file"),
    Limit(("memory",), "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
GROUPS, OWN_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def free_memory(groups: Path = GROUPS, own_groups: Path = OWN_GROUPS) -> int:
    """Say how many bytes a program may still take.

    Groups lie in groups, each with a limit or none: the narrowest of the own group and of all around it counts.

    Args:
        groups: where Linux shows the limits of the groups; where nothing is, the machine's memory counts alone.
        own_groups: where Linux says in which groups this program runs.
    """
    free = [psutil.virtual_memory().available]
    paths = _own_groups(own_groups)
    for limit in LIMITS:
        for folder in limit.folders:
            for group in {PurePosixPath("."), *paths, *(around for path in paths for around in path.parents)}:
                free += _free_in(groups / folder / group, limit)
    return min(free)


def _own_groups(file: Path) -> list[PurePosixPath]:
    """The groups that say something about memory, as paths without the first "/"; none on another system."""
    try:
        lines = [line.split(":", 2) for line in file.read_text(encoding="utf-8", errors="replace").splitlines()]
    except OSError:
        return []
    paths = [parts[2] for parts in lines if len(parts) == 3 and (not parts[1] or "memory" in parts[1].split(","))]
    return [PurePosixPath(path.lstrip("/")) for path in paths if ".." not in path]  # ".." leads out of what is shown


def _free_in(group: Path, limit: Limit) -> list[int]:
    try:
        most, used = (int((group / name).read_text(encoding="ascii")) for name in (limit.most, limit.used))
        told = (group / "memory.stat").read_text(encoding="ascii")
    except (OSError, ValueError):  # another system, the other version, or "max": no limit
        return []
    again = re.search(rf"^{limit.again} (\d+)$", told, re.MULTILINE)
    return [max(0, most - used + int(again[1] if again else 0))]
