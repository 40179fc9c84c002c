"""Writing files so that each is there completely or not at all, on every system.

What is written goes beside its place first, is flushed to the disk, and is moved there in one step: a power cut leaves
the old content or the new one, never half of each.
"""

import os
import time
from pathlib import Path

WINDOWS_BUSY = (5, 32, 33)  # access denied, sharing violation, lock violation: another program is looking


def write_durably(path: Path, content: bytes) -> None:
    """Write a file and wait until the disk has it.

    Source: Pillai et al. (2014), section 2. Taught in ch05, section 5.12.
    """
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def replace(source: Path, target: Path, attempts: int = 10) -> None:
    """Move a file or folder to its place in one step; on Windows, wait for programs that are looking at it.

    Source: Pillai et al. (2014), section 2. Taught in ch05, section 5.12.
    """
    for attempt in range(attempts):
        try:
            return os.replace(source, target)
        except OSError as error:
            if getattr(error, "winerror", None) not in WINDOWS_BUSY or attempt == attempts - 1:
                raise
            time.sleep(0.05 * 2**attempt)  # a virus scanner or an indexer holds the file for a moment


def write_atomically(path: Path, text: str) -> None:
    """Write a text so that the file is complete or as it was before; its folder is made when absent.

    Source: Pillai et al. (2014), section 2. Taught in ch05, section 5.12.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        write_durably(part, text.encode("utf-8"))
        replace(part, path)
    finally:
        part.unlink(missing_ok=True)
