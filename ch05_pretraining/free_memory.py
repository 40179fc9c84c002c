"""How much memory a program may still take: the machine's, or less where a container sets a limit.

Linux keeps the limits of a container ("control group") in files; their names changed from version 1 to version 2. A
program that counts only the machine's memory is killed in a container of two gigabytes on a machine of sixty-four.

References: the Linux kernel's "Control Group v2" and "Memory Resource Controller".
"""

import re
from pathlib import Path
from typing import NamedTuple

import psutil  # comes with jupyterlab

__all__: list[str] = []  # a tool of loading; nothing here is part of the course's vocabulary


class Limit(NamedTuple):
    """Where a container's limit stands, what is used of it, and how much of that is files that can be read again."""

    most: str
    used: str
    again: str


LIMITS = (
    Limit("memory.max", "memory.current", "inactive_file"),
    Limit("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
)
GROUPS = Path("/sys/fs/cgroup")


def free_memory(groups: Path = GROUPS) -> int:
    """Say how many bytes a program may still take.

    Args:
        groups: where Linux shows the limits of the container; where nothing is, the machine's memory counts alone.
    """
    free = [psutil.virtual_memory().available]
    for limit in LIMITS:
        try:
            most, used = (int((groups / name).read_text(encoding="ascii")) for name in (limit.most, limit.used))
            told = (groups / limit.used).with_name("memory.stat").read_text(encoding="ascii")
        except (OSError, ValueError):  # another system, the other version, or "max": no limit
            continue
        again = re.search(rf"^{limit.again} (\d+)$", told, re.MULTILINE)
        free.append(max(0, most - used + int(again[1] if again else 0)))
    return min(free)
